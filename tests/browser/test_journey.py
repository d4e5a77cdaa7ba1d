"""What a person does, from the printed link to the file and away again; with JavaScript and without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import NAME, PASSWORD, Deployment, sign_in
from webapp.domain.wgconf_parser import parse_config


@pytest.fixture(params=[True, False], ids=["javascript", "plain"])
def javascript(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_from_the_printed_link_to_the_file_and_away(
    deploy: Callable[..., Deployment], open_page: Callable[..., Any], javascript: bool, tmp_path: Path
) -> None:
    deployment = deploy()
    link = deployment.postern("setup-link")
    page = open_page(deployment.url, javascript=javascript)

    # Step one: the first account.
    page.goto(link)
    expect(page.get_by_role("heading", level=1)).to_have_text("You first")
    page.get_by_label("Your name").fill(NAME)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Next: the server").click()

    # Step two: the one thing that the server cannot know.
    expect(page.get_by_role("heading", level=1)).to_have_text("Your server")
    page.get_by_text("Addresses and DNS").click()
    expect(page.get_by_text("1.1.1.1, 1.0.0.1")).to_be_visible()
    page.get_by_label("Address that devices connect to").fill("vpn.example.net:51820")
    page.get_by_role("button", name="Save and go on").click()
    expect(page.get_by_role("heading", name="No devices yet")).to_be_visible()

    # Away and back; the link is used up.
    page.locator(".menu summary").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    page.record.expect("status of 410")
    page.goto(link)
    expect(page.get_by_role("heading", level=1)).to_have_text("This link is used up")
    sign_in(page)

    # One word and Enter.
    agent = deployment.agent()
    page.get_by_label("Add a device").fill("phone")
    page.get_by_label("Add a device").press("Enter")
    expect(page.locator("#messages")).to_contain_text("phone was added.")
    expect(page.get_by_label("Add a device")).to_have_value("")
    row = page.locator("#gates li", has_text="phone")
    expect(row.locator(".state")).to_contain_text("Ready")

    # The same name again: the sentence stands at the field, which keeps what was typed.
    page.get_by_label("Add a device").fill("Phone")
    page.record.expect("status of 422")
    page.get_by_label("Add a device").press("Enter")
    field = page.get_by_label("Add a device")
    expect(page.locator("#name-wrong")).to_have_text("You already have a “Phone”. Try “Phone 2”.")
    expect(field).to_have_value("Phone")
    expect(field).to_have_attribute("aria-invalid", "true")
    if javascript:
        expect(field).to_be_focused()
        page.keyboard.press("End")
        page.keyboard.type(" 2")
        expect(field).to_have_value("Phone 2")

    # The device's page: file, code, line.
    page.goto("/profiles/")
    page.get_by_role("link", name="phone", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("phone")
    with page.expect_download() as waiting:
        page.get_by_role("link", name="Download file").click()
    assert waiting.value.suggested_filename == "phone.conf"
    waiting.value.save_as(tmp_path / "phone.conf")
    config = parse_config((tmp_path / "phone.conf").read_text(encoding="utf-8"))
    assert str(config.peers[0].endpoint) == "vpn.example.net:51820"
    code = page.get_by_alt_text("QR code of the file for phone")
    expect(code).to_be_visible()
    if javascript:
        expect(code).to_have_js_property("complete", True)
        assert code.evaluate("image => image.naturalWidth") > 0
    assert page.locator("#curl-line").inner_text().endswith(f"{deployment.url}/profiles/phone.conf")

    # The first connection, seen on the open page.
    agent.connect("phone")
    if not javascript:
        page.reload()
    expect(page.locator("#status")).to_contain_text("Connected.")
    expect(page.locator("#status .gate")).to_have_class("gate is-open ")

    # A token for the script.
    page.get_by_role("link", name="access token").click()
    page.get_by_label("What is it for?").fill("router")
    page.get_by_role("button", name="Make a token").click()
    token = page.locator("#fresh-token").inner_text()
    assert token.startswith("postern_")
    expect(page.get_by_text("Copy it now. It is not shown again.")).to_be_visible()
    fetched = page.request.get("/profiles/phone.conf", headers={"Authorization": f"Bearer {token}"})
    assert fetched.text() == (tmp_path / "phone.conf").read_text(encoding="utf-8")
    if javascript:
        page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Revoke router").click()
    expect(page.get_by_text("No tokens yet.")).to_be_visible()

    # Gone again, after a question.
    page.goto("/profiles/1")
    page.get_by_role("link", name="Delete this device").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Delete phone?")
    page.get_by_role("link", name="Keep it").click()
    page.get_by_role("link", name="Delete this device").click()
    page.get_by_role("button", name="Delete phone").click()
    expect(page.locator("#messages")).to_contain_text("phone was deleted.")
    expect(page.get_by_role("heading", name="No devices yet")).to_be_visible()


def test_an_open_page_turns_from_activating_to_ready_to_connected_by_itself(
    deploy: Callable[..., Deployment], open_page: Callable[..., Any]
) -> None:
    deployment = deploy(WG_ENDPOINT="vpn.example.net:51820")
    deployment.make_nora()
    deployment.report()
    page = open_page(deployment.url)
    sign_in(page)
    page.get_by_label("Add a device").fill("phone")
    page.get_by_label("Add a device").press("Enter")
    state = page.locator("#gates li .state")
    expect(state).to_have_text("Activating…")
    page.get_by_label("Add a device").fill("half a wo")
    agent = deployment.agent()
    expect(state).to_contain_text("Ready")
    # The list swaps itself; what somebody is typing, and where, stays.
    expect(page.get_by_label("Add a device")).to_have_value("half a wo")
    expect(page.get_by_label("Add a device")).to_be_focused()
    second = page.context.new_page()
    page.record.watch(second)
    second.goto("/profiles/1")
    expect(second.locator("#status")).to_contain_text("Waiting for the first connection…")
    agent.connect("phone")
    expect(second.locator("#status")).to_contain_text("Connected.")
    page.bring_to_front()
    expect(state).to_contain_text("Connected", timeout=30_000)
    expect(page.locator(".lede")).to_have_text("One is connected.")


def test_without_javascript_a_waiting_list_loads_itself_again(
    deploy: Callable[..., Deployment], open_page: Callable[..., Any]
) -> None:
    deployment = deploy(WG_ENDPOINT="vpn.example.net:51820")
    deployment.make_nora()
    deployment.report()
    page = open_page(deployment.url, javascript=False)
    sign_in(page)
    page.get_by_label("Add a device").fill("phone")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator("#gates li .state")).to_have_text("Activating…")
    deployment.agent()
    expect(page.locator("#gates li .state")).to_contain_text("Ready")


def test_a_session_that_ended_leads_to_the_sign_in_and_back(
    deploy: Callable[..., Deployment], open_page: Callable[..., Any]
) -> None:
    deployment = deploy(WG_ENDPOINT="vpn.example.net:51820")
    deployment.make_nora()
    page = open_page(deployment.url)
    sign_in(page)
    cookies = page.context.cookies()
    page.context.clear_cookies()
    page.record.expect("status of 403")
    page.get_by_label("Add a device").fill("phone")
    page.get_by_label("Add a device").press("Enter")
    expect(page.locator("#messages")).to_contain_text("This page is too old. Load it again, then try once more.")
    page.goto("/tokens")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    page.get_by_label("Name").fill(NAME)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Access tokens")
    assert page.context.cookies() != cookies


def test_a_server_that_does_not_answer_is_told_and_taken_back(
    deploy: Callable[..., Deployment], open_page: Callable[..., Any]
) -> None:
    deployment = deploy(WG_ENDPOINT="vpn.example.net:51820")
    deployment.make_nora()
    page = open_page(deployment.url)
    sign_in(page)
    page.context.set_offline(True)
    page.record.expect_some("ERR_INTERNET_DISCONNECTED")
    page.record.expect_some("Failed to fetch")
    page.get_by_label("Add a device").fill("phone")
    page.get_by_label("Add a device").press("Enter")
    note = page.locator("#offline")
    expect(note).to_have_text("The server did not answer. Nothing was lost. Try again.")
    expect(page.get_by_label("Add a device")).to_have_value("phone")
    page.context.set_offline(False)
    page.get_by_label("Add a device").press("Enter")
    expect(note).to_have_count(0)
    expect(page.locator("#gates li")).to_have_count(1)
