"""Personal tokens: made on the page, shown once, revoked at once, one's own only."""

from __future__ import annotations

import re

import pytest

from tests.web.conftest import Browser, Site
from webapp.models import ApiToken


def fresh_on(page: str) -> str:
    found = re.search(r'<code id="fresh-token" dir="ltr">(postern_[\w-]{32})</code>', page)
    assert found, page
    return found[1]


@pytest.mark.parametrize("htmx", [False, True])
def test_a_new_token_is_shown_this_once_and_works(site: Site, alice: Browser, htmx: bool) -> None:
    site.profile()
    answer = alice.post("/tokens", {"name": "router"}, htmx=htmx)
    assert answer.status_code == 200
    assert ("<html" in answer.text) is not htmx
    token = fresh_on(answer.text)
    assert token not in alice.get("/tokens").text
    assert token[:12] in alice.get("/tokens").text
    assert site.script(token).get("/profiles/phone.conf").status_code == 200


def test_only_its_hash_is_stored(site: Site, alice: Browser) -> None:
    token = fresh_on(alice.post("/tokens", {"name": "router"}).text)
    with site.services.db.read() as session:
        assert token not in str(vars(session.query(ApiToken).one()))


@pytest.mark.parametrize("htmx", [False, True])
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("", "Please type a name."),
        ("x" * 65, "This name is too long: 64 characters at most."),
        ("a\x1bb", "This name holds a character that cannot be shown."),
    ],
)
def test_a_bad_name_is_422_at_the_field(site: Site, alice: Browser, name: str, sentence: str, htmx: bool) -> None:
    answer = alice.post("/tokens", {"name": name}, htmx=htmx)
    assert answer.status_code == 422
    assert f'<p class="wrong" id="name-wrong">{sentence}</p>' in answer.text
    assert site.count(ApiToken) == 0


def test_an_unknown_scope_is_422_and_makes_none(site: Site, alice: Browser) -> None:
    answer = alice.post("/tokens", {"name": "router", "scope": "root"})
    assert answer.status_code == 422
    assert '<p class="wrong" id="scope-wrong">This is not a scope: all, manage or read.</p>' in answer.text
    assert 'name="name" type="text" value="router"' in answer.text
    assert site.count(ApiToken) == 0


def test_the_fifty_first_is_refused(site: Site, alice: Browser) -> None:
    for _ in range(50):
        site.token()
    answer = alice.post("/tokens", {"name": "one more"})
    assert answer.status_code == 422
    assert "You have 50 tokens. Delete one first." in answer.text


def test_a_revoked_token_is_worthless_at_once(site: Site, alice: Browser) -> None:
    script = site.script()
    assert script.get("/api/v1/profiles").status_code == 200
    answer = alice.post("/tokens/1/delete")
    assert (answer.status_code, answer.location) == (303, "/tokens")
    assert "all token does not open anything any more." in alice.get("/tokens").text
    assert script.get("/api/v1/profiles").status_code == 401


def test_revoking_by_htmx_changes_the_list_and_says_so(site: Site, alice: Browser) -> None:
    site.token()
    answer = alice.post("/tokens/1/delete", htmx=True)
    assert answer.status_code == 200
    assert "<b><bdi>all token</bdi></b> was revoked." in answer.text
    assert "No tokens yet." in answer.text


def test_a_stranger_sees_and_revokes_nothing(site: Site, mallory: Browser) -> None:
    token = site.token()
    assert "No tokens yet." in mallory.get("/tokens").text
    foreign, missing = mallory.post("/tokens/1/delete"), mallory.post("/tokens/2/delete")
    assert (foreign.status_code, foreign.data) == (404, missing.data)
    assert site.script(token).get("/api/v1/profiles").status_code == 200


def test_nobody_makes_none(site: Site, nobody: Browser) -> None:
    assert nobody.post("/tokens", {"name": "x"}).status_code == 303
    assert nobody.post("/tokens", {"name": "x"}, htmx=True).status_code == 401
    assert site.count(ApiToken) == 0


def test_a_token_makes_no_further_tokens(site: Site) -> None:
    script = site.script()
    assert script.get("/tokens").status_code == 401
    assert script.open("/tokens", "POST", data={"name": "x"}).status_code == 403
    assert site.count(ApiToken) == 1


def test_the_last_use_is_shown(site: Site, alice: Browser) -> None:
    script = site.script()
    assert "Not used yet." in alice.get("/tokens").text
    script.get("/api/v1/profiles")
    site.clock.advance(minutes=5)
    assert re.search(r"Used <time [^>]+>5\u00a0min ago</time>\.", alice.get("/tokens").text)


def test_the_form_offers_the_least_first(alice: Browser) -> None:
    page = alice.get("/tokens").text
    assert re.findall(r'type="radio" name="scope" value="(\w+)"( checked)?', page) == [
        ("read", " checked"),
        ("manage", ""),
    ]


@pytest.mark.parametrize(
    ("scope", "code", "words"), [("read", 403, "May look and download."), ("manage", 201, "May manage devices.")]
)
def test_a_token_may_do_what_was_chosen(site: Site, alice: Browser, scope: str, code: int, words: str) -> None:
    token = fresh_on(alice.post("/tokens", {"name": "router", "scope": scope}).text)
    assert words in alice.get("/tokens").text
    assert site.script(token).open("/api/v1/profiles", "POST", json={"name": "phone"}).status_code == code
