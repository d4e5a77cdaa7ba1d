"""Every word that a person reads goes through the translation: a language of brackets shows what does not."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Callable
from datetime import timedelta
from gettext import NullTranslations
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from flask import render_template
from sqlalchemy import update

from tests.web.conftest import Browser, Site
from webapp import errors
from webapp.domain.states import State
from webapp.errors import AppError
from webapp.models import User
from webapp.services.profiles import ProfileView
from webapp.services.servers import Problem
from webapp.web.pages import use_translations

ROOT = Path(__file__).resolve().parents[2]
OPEN, CLOSE = "⟦", "⟧"

DATA = {"bdi", "code", "textarea"}
"""Elements whose text is somebody's own, or a machine's: never translated."""
ATTRIBUTES = {"alt", "aria-label", "data-copied", "data-offline", "hx-confirm", "placeholder", "title"}
EXAMPLES = {"vpn.example.net:51820"}
NO_WORDS = re.compile(r"Postern|\(\d{3}\)|[\s·:,.!?()-]")
NAMES = re.compile("phone|telly|tablet")


class Brackets(NullTranslations):
    """A language that puts each sentence between brackets."""

    def gettext(self, message: str) -> str:
        return f"{OPEN}{message}{CLOSE}"

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return f"{OPEN}{msgid1 if n == 1 else msgid2}{CLOSE}"


class Untranslated(HTMLParser):
    """Collects what stands outside of brackets."""

    VOID = frozenset({"meta", "link", "input", "img", "br", "option"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self.read = 0
        self._depth = 0
        self._inside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self._inside.append(tag)
        for name, value in attrs:
            is_whole = (value or "").startswith(OPEN) and (value or "").endswith(CLOSE)
            if name in ATTRIBUTES and value and value not in EXAMPLES and not is_whole:
                self.found.append(f"{name}={value}")

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if {"script", "style"} & set(self._inside):
            return
        outside = ""
        for character in data:
            if character == OPEN:
                self._depth += 1
            elif character == CLOSE:
                self._depth -= 1
            elif self._depth == 0:
                outside += character
            else:
                self.read += 1
        if DATA & set(self._inside):
            return
        if "title" in self._inside:
            outside = NAMES.sub("", outside)  # There is no <bdi> in a title.
        if NO_WORDS.sub("", outside):
            self.found.append(outside.strip())


def check(text: str) -> None:
    """Fail with what is not translated."""
    parser = Untranslated()
    parser.feed(text)
    assert parser.found == []
    assert parser.read > 0, "there is not one sentence here"
    assert text.count(OPEN) == text.count(CLOSE)


@pytest.fixture
def bracketed(make_site: Callable[..., Site]) -> Callable[..., Site]:
    """Make a site that speaks the language of brackets."""

    def make(**variables: str | None) -> Site:
        site = make_site(is_fresh=True, **variables)
        use_translations(site.app, Brackets())
        return site

    return make


@pytest.fixture
def spoken(bracketed: Callable[..., Site]) -> Site:
    return bracketed(INTERFACE_MODE="manage")


Ask = Callable[[Browser], Any]
PAGES: dict[str, Ask] = {
    "list without devices": lambda ada: ada.get("/profiles/"),
    "page past the end": lambda ada: ada.get("/profiles/?before=1"),
    "tokens": lambda ada: ada.get("/tokens"),
    "new token": lambda ada: ada.post("/tokens", {"name": "router"}),
    "token refused": lambda ada: ada.post("/tokens", {"name": "", "scope": "root"}),
    "server": lambda ada: ada.get("/server"),
    "server refused": lambda ada: ada.post("/server", {"endpoint": ""}),
    "set-up, step 2": lambda ada: ada.get("/setup/server"),
    "name refused": lambda ada: ada.post("/profiles/", {"name": ""}),
    "name refused by htmx": lambda ada: ada.post("/profiles/", {"name": "a/b"}, htmx=True),
    "added": lambda ada: (ada.post("/profiles/", {"name": "phone"}), ada.get("/profiles/"))[1],
    "added by htmx": lambda ada: ada.post("/profiles/", {"name": "phone"}, htmx=True),
    "not found": lambda ada: ada.get("/nothing"),
    "not found by htmx": lambda ada: ada.get("/nothing", htmx=True),
    "no csrf token": lambda ada: ada.open("/profiles/", "POST"),
    "another site": lambda ada: ada.post("/profiles/", headers={"Origin": "https://other.example"}),
    "another name": lambda ada: ada.get("/login", headers={"Host": "other.example"}),
    "wrong method": lambda ada: ada.open("/login", "DELETE"),
    "too large": lambda ada: ada.post("/profiles/", {"name": "x" * 70_000}),
    "dead link": lambda ada: ada.get("/setup?token=x"),
}


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("endpoint", [None, "vpn.example.net:51820"])
def test_every_page_is_translated(bracketed: Callable[..., Site], name: str, endpoint: str | None) -> None:
    site = bracketed(INTERFACE_MODE="manage", WG_ENDPOINT=endpoint)
    check(PAGES[name](site.admin()).text)


def test_the_set_up_and_the_sign_in_are_translated(spoken: Site) -> None:
    link = spoken.services.accounts.make_setup_link()
    browser = spoken.nobody()
    check(browser.get(f"/setup?token={link}").text)
    check(browser.post("/setup", {"token": str(link), "username": "", "password": ""}).text)
    check(browser.get("/login").text)
    for _ in range(11):
        answer = browser.sign_in("alice", "wrong")
    assert answer.status_code == 429
    check(answer.text)


def test_everything_about_a_device_is_translated(spoken: Site) -> None:
    ada = spoken.admin()
    for name in ("phone", "tablet"):
        ada.post("/profiles/", {"name": name}, htmx=True)
    agent = spoken.agent()
    for moment in ("no agent", "pending", "ready", "connected", "away", "problem"):
        if moment == "pending":
            agent.report()
        elif moment == "ready":
            agent.look()
        elif moment == "connected":
            page = ada.get("/profiles/1").text
            with spoken.services.db.read() as session:
                key = spoken.services.profiles.show_profile(session, spoken.person("ada").id, 1).public_key
            agent.hear(key, spoken.clock.now, rx=1, tx=2)
        elif moment == "away":
            spoken.clock.advance(hours=5)
        elif moment == "problem":
            agent.report(Problem("Nothing works", "It is broken."), is_up=False)
        for path in ("/profiles/", "/profiles/1", "/profiles/1/delete", "/profiles/1/change", "/server"):
            page = ada.get(path)
            assert page.status_code == 200
            check(page.text)
    check(ada.post("/profiles/1/change", {"name": "", "expires_on": "soon", "notes": "x" * 2000}).text)
    for path, data in (("switch", {"enabled": "no"}), ("switch", {"enabled": "yes"}), ("change", {"name": "telly"})):
        ada.post(f"/profiles/1/{path}", {**data, "notes": "Somebody’s words."})
        check(ada.get("/profiles/1").text)
    ada.post("/profiles/1/delete")
    check(ada.get("/profiles/").text)
    ada.post("/profiles/1/restore")
    check(ada.get("/profiles/").text)
    check(ada.post("/tokens/1/delete").text)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("is_outdated", [False, True])
def test_every_state_is_said_in_translated_words(spoken: Site, state: State, is_outdated: bool) -> None:
    """Also ``blocked``, which nothing finds out yet."""
    now = spoken.clock.now
    plain = dataclasses.replace(spoken.profile(), state=state, outdated=is_outdated)
    seen = {"latest_handshake": now - timedelta(hours=50), "rx_bytes": 5, "tx_bytes": 7}
    kinds: list[ProfileView] = [
        plain,
        dataclasses.replace(plain, **seen),
        dataclasses.replace(plain, expires_at=now - timedelta(days=400)),
        dataclasses.replace(plain, pending_reason="Somebody must do something."),
    ]
    for profile in kinds:
        with spoken.app.test_request_context("/profiles/"):
            page = {"total": 1, "next_url": None, "previous_url": None}
            check(render_template("profiles/_gates.html", profiles=[profile], sums={str(state): 1}, page=page))
            check(render_template("profiles/_gates.html", profiles=[profile] * 2, sums={str(state): 2}, page=page))
            check(render_template("profiles/_status.html", profile=profile))


@pytest.mark.parametrize("mode", ["manage", "adopt", "off"])
def test_the_server_page_is_translated_in_every_mode(bracketed: Callable[..., Site], mode: str) -> None:
    site = bracketed(INTERFACE_MODE=mode, WG_ENDPOINT=None, WG_NETWORK6="fd00::/64")
    admin = site.admin()
    check(admin.get("/server").text)
    site.agent().report(*[Problem(f"Number {number}", "Do this.", "true") for number in range(3)])
    check(admin.get("/server").text)
    site.profile()
    site.clock.advance(minutes=5)
    check(admin.get("/server").text)


def test_a_limit_is_told_in_translated_words(spoken: Site) -> None:
    alice = spoken.signed_in()
    spoken.profile()
    for limit in (2, 1):
        with spoken.services.db.write() as session:
            session.execute(update(User).values(profile_limit=limit))
        check(alice.get("/profiles/").text)
    check(alice.post("/profiles/", {"name": "tablet"}).text)


def test_the_sentences_of_services_are_translated_in_the_api_too(spoken: Site) -> None:
    spoken.profile("phone")
    script = spoken.script()
    told = [
        script.get("/api/v1/profiles/1").get_json()["pending_reason"],
        script.get("/api/v1/profiles/9").get_json()["detail"],
        *(
            item["detail"]
            for item in script.open("/api/v1/profiles", "POST", json={"name": "Phone"}).get_json()["errors"]
        ),
        *(item["detail"] for item in script.get("/api/v1/profiles?limit=x").get_json()["errors"]),
        spoken.nobody().get("/api/v1/profiles").get_json()["detail"],
    ]
    assert [text for text in told if not (text.startswith(OPEN) and text.endswith(CLOSE))] == []


def test_a_sentence_is_translated_before_its_places_are_filled(spoken: Site) -> None:
    spoken.profile("phone")
    answer = spoken.signed_in().post("/profiles/", {"name": "Phone"})
    assert f"{OPEN}You already have a “Phone”. Try “Phone 2”.{CLOSE}" in answer.text


def test_every_template_was_looked_at(spoken: Site) -> None:
    """A new template must be reached from here, or nobody would see that it is not translated."""
    link = spoken.services.accounts.make_setup_link()
    spoken.nobody().get(f"/setup?token={link}")
    spoken.nobody().get("/login")
    ada = spoken.admin()
    for ask in PAGES.values():
        ask(ada)
    for path in ("/profiles/1", "/profiles/1/delete", "/profiles/1/change"):
        ada.get(path)
    ada.get("/profiles/1/status", htmx=True)
    seen = {name for _, name in spoken.app.jinja_env.cache}
    there = {str(path.relative_to(ROOT / "templates")) for path in (ROOT / "templates").rglob("*.html")}
    assert there - seen == set()


def test_every_sentence_of_an_error_is_marked_for_the_translators() -> None:
    """What is raised in the code is a constant between ``N_()``, or the class's own."""
    loose = []
    kinds = {name for name, item in vars(errors).items() if isinstance(item, type) and issubclass(item, AppError)}
    kinds -= {"SettingsInvalid", "InvalidFields", "Throttled"}
    for path in sorted((ROOT / "webapp" / "web").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            place = {"FieldProblem": 1, "NameTaken": 1, "BadRequest": 0}.get(
                node.func.id, 0 if node.func.id in kinds else None
            )
            if place is None or len(node.args) <= place:
                continue
            if isinstance(node.args[place], ast.Constant):
                loose.append(f"{path.name}:{node.lineno}")
    assert loose == []
