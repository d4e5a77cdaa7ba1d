"""Every page at every width: no sideways scroll, nothing against the policy, labels, focus, keyboard, copying."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import expect
from sqlalchemy import update

from tests.browser.conftest import Deployment, sign_in
from webapp.models import VpnProfile
from webapp.services.audit import Actor
from webapp.services.servers import Problem

WIDTHS = (320, 360, 768, 1280)
LONG = "Grandmother’s_extraordinarily_long_tablet_name_without_a_gap_x64"
NAMES = ("phone", "laptop", "tablet", "kitchen radio", "old phone", "router", LONG)


def furnish(deployment: Deployment) -> None:
    """Give nora a device in every state that there is, and a token."""
    services = deployment.services
    deployment.make_nora()
    nora = services.accounts.find("nora")
    actor = Actor("nora", nora.id)
    for name in reversed(NAMES):
        services.profiles.create_profile(nora.id, name, actor)
    now = datetime.now(UTC)
    agent = deployment.agent()
    agent.connect("phone", now + timedelta(minutes=5))
    agent.connect("laptop", now - timedelta(hours=26), rx=88_000_000, tx=2_400_000_000)
    agent.connect("tablet", now + timedelta(minutes=5), rx=500, tx=12_000)
    agent.problems = [
        Problem(
            "IPv6 is not passed on",
            "The host does not forward IPv6. Type this on the server:",
            "sysctl -w net.ipv6.conf.all.forwarding=1",
        )
    ]
    with services.db.write() as session:
        for name, change in {
            "old phone": {"expires_at": now - timedelta(days=3)},
            "kitchen radio": {"enabled": False},
        }.items():
            session.execute(update(VpnProfile).where(VpnProfile.name == name).values(**change))
    services.tokens.create_token(nora.id, "router in the cellar", "read", actor)


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment with something of everything, which the tests below only look at."""
    deployment = Deployment(
        tmp_path_factory.mktemp("furnished"), WG_ENDPOINT="vpn.example.net:51820", WG_NETWORK6="fd00:8::/64"
    )
    furnish(deployment)
    yield deployment
    deployment.stop()


def paths_of(deployment: Deployment) -> list[str]:
    nora = deployment.services.accounts.find("nora")
    with deployment.services.db.read() as session:
        page = deployment.services.profiles.list_profiles(session, nora.id, limit=500)
    ids = {item.name: item.id for item in page.items}
    devices = [f"/profiles/{ids[name]}" for name in ("phone", LONG)]
    more = [f"/profiles/{ids[LONG]}/{word}" for word in ("delete", "change")]
    return ["/profiles/", *devices, *more, "/tokens", "/server", "/setup/server"]


def test_no_page_scrolls_sideways_at_any_width(furnished: Deployment, open_page: Callable[..., Any]) -> None:
    page = open_page(furnished.url)
    page.goto("/login")
    outside = ["/login", "/nothing"]
    found = []
    for signed_in in (False, True):
        if signed_in:
            sign_in(page)
        for path in paths_of(furnished) if signed_in else outside:
            if path == "/nothing":
                page.record.expect("status of 404")
            page.goto(path)
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 740})
                wide = page.evaluate("() => document.scrollingElement.scrollWidth")
                if wide > width:
                    found.append((path, width, wide))
    assert found == []


def test_every_control_has_a_name_and_every_page_one_headline_and_one_main(
    furnished: Deployment, open_page: Callable[..., Any]
) -> None:
    page = open_page(furnished.url)
    sign_in(page)
    check = """() => {
        const wrong = [];
        const shown = (element) => element.checkVisibility();
        for (const control of document.querySelectorAll("input, select, textarea")) {
            if (control.type !== "hidden" && !control.labels?.length) wrong.push(control.outerHTML);
        }
        for (const target of document.querySelectorAll("a, button, summary")) {
            const words = target.textContent.trim() || target.getAttribute("aria-label");
            if (shown(target) && !words) wrong.push(target.outerHTML);
        }
        for (const image of document.querySelectorAll("img")) if (!image.alt) wrong.push(image.outerHTML);
        const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
        for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) wrong.push("id " + id);
        for (const name of ["aria-labelledby", "aria-describedby", "for", "list"]) {
            for (const element of document.querySelectorAll("[" + name + "]")) {
                const missing = element.getAttribute(name).split(" ").filter((id) => !ids.includes(id));
                wrong.push(...missing.map((id) => name + " " + id));
            }
        }
        if (document.querySelectorAll("h1").length !== 1) wrong.push("h1");
        if (document.querySelectorAll("main").length !== 1) wrong.push("main");
        if (!document.title || !document.documentElement.lang) wrong.push("title or language");
        return wrong;
    }"""
    for path in paths_of(furnished):
        page.goto(path)
        assert page.evaluate(check) == [], path


def test_on_a_phone_every_target_is_large_enough_for_a_thumb(
    furnished: Deployment, open_page: Callable[..., Any]
) -> None:
    page = open_page(furnished.url, width=360, height=740)
    sign_in(page)
    small = """() => [...document.querySelectorAll("button, input:not([type=hidden]), summary, .btn, .link, .nav a")]
        .filter((element) => element.checkVisibility() && !element.closest(".unseen"))
        .map((element) => (element.labels?.length && element.type === "radio" ? element.labels[0] : element))
        .filter((element) => element.getBoundingClientRect().height < 43.5)
        .map((element) => element.outerHTML)"""
    for path in paths_of(furnished):
        page.goto(path)
        assert page.evaluate(small) == [], path


def test_the_keyboard_reaches_everything_and_shows_where_it_is(
    furnished: Deployment, open_page: Callable[..., Any]
) -> None:
    page = open_page(furnished.url)
    sign_in(page)
    where = """() => {
        const element = document.activeElement;
        if (element === document.body) return null;
        const style = getComputedStyle(element);
        return [element.tagName, style.outlineStyle, parseFloat(style.outlineWidth)];
    }"""
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the page")).to_be_focused()
    seen = []
    for _ in range(40):
        seen.append(page.evaluate(where))
        page.keyboard.press("Tab")
        if page.evaluate(where) is None:
            break
    assert len(seen) > 8
    assert [item for item in seen if item is None or item[1] == "none" or item[2] < 2] == []


def test_the_menu_closes_by_escape_and_gives_the_focus_back(
    furnished: Deployment, open_page: Callable[..., Any]
) -> None:
    page = open_page(furnished.url)
    sign_in(page)
    summary = page.locator(".menu summary")
    summary.click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Sign out")).to_be_hidden()
    expect(summary).to_be_focused()
    summary.click()
    page.locator("main").click(position={"x": 5, "y": 5})
    expect(page.get_by_role("button", name="Sign out")).to_be_hidden()


def test_copy_copies_the_line_and_says_so(furnished: Deployment, open_page: Callable[..., Any]) -> None:
    page = open_page(furnished.url)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    sign_in(page)
    page.goto(paths_of(furnished)[1])
    page.get_by_role("button", name="Copy").click()
    expect(page.locator("#said")).to_have_text("Copied")
    copied = page.evaluate("() => navigator.clipboard.readText()")
    assert copied == f'curl -fsSO -H "Authorization: Bearer $TOKEN" {furnished.url}/profiles/phone.conf'
    expect(page.get_by_role("button", name="Copy")).to_be_visible()


def test_without_javascript_there_is_no_copy_button_that_does_nothing(
    furnished: Deployment, open_page: Callable[..., Any]
) -> None:
    page = open_page(furnished.url, javascript=False)
    sign_in(page)
    page.goto(paths_of(furnished)[1])
    expect(page.locator("#curl-line")).to_be_visible()
    expect(page.get_by_role("button", name="Copy")).to_have_count(0)


def test_the_policy_stops_eval_and_inline_code(furnished: Deployment, open_page: Callable[..., Any]) -> None:
    page = open_page(furnished.url)
    sign_in(page)
    # Outside the call itself: what the test tool runs directly is let past the policy.
    page.evaluate("""() => setTimeout(() => {
        for (const [name, attempt] of [["eval", () => eval("1")], ["Function", () => new Function("return 1")()]]) {
            try { attempt(); document.body.dataset[name] = "ran"; }
            catch (error) { document.body.dataset[name] = error.name; }
        }
        const script = document.createElement("script");
        script.textContent = "document.body.dataset.inline = 'ran'";
        document.body.append(script);
        const button = document.createElement("button");
        button.setAttribute("onclick", "document.body.dataset.handler = 'ran'");
        document.body.append(button);
        button.click();
        document.body.dataset.done = "yes";
    }, 0)""")
    body = page.locator("body")
    expect(body).to_have_attribute("data-done", "yes")
    expect(body).to_have_attribute("data-eval", "EvalError")
    expect(body).to_have_attribute("data--function", "EvalError")
    assert body.get_attribute("data-inline") is None
    assert body.get_attribute("data-handler") is None
    refused = [line for line in page.record.said if "policy: " in line]
    assert sorted(line.split("policy: ")[1] for line in refused) == [
        "script-src eval",
        "script-src eval",
        "script-src-attr inline",
        "script-src-elem inline",
    ]
    page.record.said.clear()


def test_reduced_motion_and_forced_colours_leave_a_page_that_works(
    furnished: Deployment, open_page: Callable[..., Any]
) -> None:
    page = open_page(furnished.url)
    page.emulate_media(forced_colors="active", reduced_motion="reduce")
    sign_in(page)
    expect(page.locator("#gates li")).to_have_count(len(NAMES))
    moving = "() => document.getAnimations().filter((one) => one.playState === 'running').length"
    assert page.evaluate(moving) == 0
