"""A site in this process: the application on a database of its own, people, and browsers that keep cookies."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask
from jinja2 import FileSystemBytecodeCache
from werkzeug.test import TestResponse

from tests.fakes import Clock, CountingHasher
from tests.web.stand_in_agent import StandInAgent
from webapp import create_app
from webapp.services.accounts import AccountService, Person
from webapp.services.audit import Actor
from webapp.services.profiles import ProfileView
from webapp.services.wg import Tools
from webapp.settings import Settings
from webapp.wiring import Services, build_services

HTML = "text/html,application/xhtml+xml,*/*;q=0.8"
PASSWORD = "correct horse battery"
PROBLEM = "application/problem+json"


class Browser:
    """A browser without JavaScript: keeps cookies, sends the hidden CSRF field, follows nothing by itself."""

    def __init__(
        self,
        app: Flask,
        headers: Mapping[str, str] | None = None,
        base_url: str = "http://127.0.0.1:8000",
        **environ: str,
    ) -> None:
        self.client = app.test_client()
        self.base_url = base_url
        self.headers = {"Accept": HTML, **(headers or {})}
        self.environ = environ
        self._csrf = ""

    def open(
        self,
        path: str,
        method: str = "GET",
        *,
        htmx: bool = False,
        headers: Mapping[str, str] | None = None,
        **how: Any,
    ) -> TestResponse:
        """Send one request; with ``htmx`` the one that htmx would send."""
        more = {"HX-Request": "true", "Accept": "text/html"} if htmx else {}
        environ = {**self.environ, **how.pop("environ_overrides", {})}
        return self.client.open(
            path,
            method=method,
            headers={**self.headers, **more, **(headers or {})},
            environ_overrides=environ,
            buffered=True,
            **{"base_url": self.base_url, **how},
        )

    def get(self, path: str, **how: Any) -> TestResponse:
        return self.open(path, **how)

    def post(self, path: str, data: Mapping[str, str] | None = None, **how: Any) -> TestResponse:
        """Send a form with the CSRF token that this browser's pages hold."""
        return self.open(path, "POST", data={"csrf_token": self.csrf(), **(data or {})}, **how)

    def csrf(self) -> str:
        """Return the token of the session, read from a page once."""
        if not self._csrf:
            page = self.get("/tokens")
            if page.status_code != 200:
                page = self.get("/login")
            found = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
            assert found, page.text
            self._csrf = unescape(found[1])
        return self._csrf

    def hold(self, cookie: str) -> Browser:
        """Take a session cookie from elsewhere."""
        self.client.set_cookie("postern", cookie, domain=urlsplit(self.base_url).hostname or "")
        return self

    def sign_in(self, username: str, password: str = PASSWORD, **data: str) -> TestResponse:
        """Type name and password on the sign-in page."""
        answer = self.post("/login", {"username": username, "password": password, **data})
        self._csrf = ""  # A new session has a new one.
        return answer

    def cookie(self) -> str | None:
        """Return the session cookie's value."""
        for name in ("postern", "__Host-postern"):
            found = self.client.get_cookie(name, urlsplit(self.base_url).hostname or "")
            if found is not None:
                return found.value
        return None


class Site:
    """One deployment: its application, its services, and who uses it."""

    def __init__(self, app: Flask, clock: Clock, hasher: CountingHasher) -> None:
        self.app = app
        self.clock = clock
        self.hasher = hasher

    @property
    def services(self) -> Services:
        found: Services = self.app.extensions["postern"]
        return found

    def person(self, name: str, *, is_admin: bool = False) -> Person:
        """Return the person, with an account made at the first call; everybody has the same password."""
        with self.services.db.read() as session:
            names = self.services.accounts.usernames(session)
        if name in names.values():
            return self.services.accounts.find(name)
        return self.services.accounts.create_user(name, PASSWORD, is_admin=is_admin)

    def nobody(self, **how: Any) -> Browser:
        return Browser(self.app, **how)

    def signed_in(self, name: str = "alice", *, is_admin: bool = False, **how: Any) -> Browser:
        """Return a browser in which that person has signed in."""
        self.person(name, is_admin=is_admin)
        browser = Browser(self.app, **how)
        answer = browser.sign_in(name)
        assert answer.status_code == 303, answer.text
        return browser

    def admin(self, **how: Any) -> Browser:
        return self.signed_in("ada", is_admin=True, **how)

    def profile(self, name: str = "phone", owner: str = "alice") -> ProfileView:
        """Make a profile, past the pages."""
        person = self.person(owner)
        return self.services.profiles.create_profile(person.id, name, Actor(owner, person.id))

    def token(self, owner: str = "alice", scope: str = "all") -> str:
        """Make a token, past the pages."""
        person = self.person(owner)
        return self.services.tokens.create_token(person.id, f"{scope} token", scope, Actor(owner, person.id))

    def script(self, token: str | None = None) -> Browser:
        """Return a client that says what curl says, with a token of alice's unless one is given."""
        token = self.token() if token is None else token
        return Browser(self.app, {"Accept": "*/*", "Authorization": f"Bearer {token}"})

    def agent(self) -> StandInAgent:
        return StandInAgent(self.services)

    def count(self, model: type) -> int:
        """Return how many rows a table has."""
        with self.services.db.read() as session:
            return session.query(model).count()


@pytest.fixture(scope="session")
def bytecode(tmp_path_factory: pytest.TempPathFactory) -> FileSystemBytecodeCache:
    """Compiled templates, shared by all sites: compiling them anew would take longer than the tests."""
    return FileSystemBytecodeCache(str(tmp_path_factory.mktemp("bytecode")))


@pytest.fixture(scope="session")
def applications() -> Iterator[dict[tuple[tuple[str, str], ...], Flask]]:
    """Applications at rest, by their variables: building one takes longer than most tests."""
    resting: dict[tuple[tuple[str, str], ...], Flask] = {}
    yield resting
    for app in resting.values():
        app.extensions["postern"].db.close()


@pytest.fixture
def make_site(
    environ: dict[str, str],
    migrated_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
    clock: Clock,
    bytecode: FileSystemBytecodeCache,
    applications: dict[tuple[tuple[str, str], ...], Flask],
) -> Iterator[Callable[..., Site]]:
    """Make a site whose environment differs by the given variables; None takes one away.

    Database, services and clock are new each time. The application is one that an earlier test left as it was;
    who changes it beyond its views (templates' language, listeners on the engine) says ``is_fresh``.
    """
    used: list[tuple[tuple[tuple[str, str], ...] | None, Site, dict[str, Any]]] = []

    def make(*, is_fresh: bool = False, **variables: str | None) -> Site:
        told = {name: value for name, value in {**environ, **variables}.items() if value is not None}
        told.pop("DATA_DIR")
        key = tuple(sorted(told.items()))
        app = None if is_fresh else applications.pop(key, None)
        folder = tmp_path_factory.mktemp("site") if app is None else app.extensions["postern"].settings.data_dir
        for old in folder.glob("postern.db*"):
            old.unlink()
        shutil.copyfile(migrated_file, folder / "postern.db")
        settings = Settings.from_env({**told, "DATA_DIR": str(folder)})
        if app is None:
            app = create_app(settings, Tools())
            app.jinja_env.bytecode_cache = bytecode
        hasher = CountingHasher()
        services = build_services(settings, app.extensions["postern"].db, Tools(), clock=clock)
        services = dataclasses.replace(services, accounts=AccountService(services.db, hasher, clock))
        services.servers.prepare(settings.interface_mode, Tools(), interface_exists=False, can_manage=False)
        app.extensions["postern"] = services
        site = Site(app, clock, hasher)
        used.append((None if is_fresh else key, site, dict(app.view_functions)))
        return site

    yield make
    for key, site, views in used:
        site.services.db.close()
        if key is not None and site.app.view_functions == views and site.services.settings.data_dir.is_dir():
            applications[key] = site.app


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    """A site without an interface: nothing is ever pending."""
    return make_site()


@pytest.fixture
def managed(make_site: Callable[..., Site]) -> Site:
    """A site whose agent is ours to play: profiles are pending until it looks."""
    return make_site(INTERFACE_MODE="manage")


@pytest.fixture
def alice(site: Site) -> Browser:
    """Somebody without rights over the server, signed in."""
    return site.signed_in("alice")


@pytest.fixture
def mallory(site: Site) -> Browser:
    """A stranger to alice, signed in."""
    return site.signed_in("mallory")


@pytest.fixture
def nobody(site: Site) -> Browser:
    """A browser in which nobody is signed in."""
    return site.nobody()
