"""Who may come in, asked of the REAL route table: a new route is walked by these tests without a line here."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from flask import Flask
from sqlalchemy import text

from tests.web.conftest import PROBLEM, Browser, Site
from webapp import create_app
from webapp.services.wg import Tools

PUBLIC = {
    ("GET", "/static/<path:filename>"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/"),
    ("GET", "/setup"),
    ("POST", "/setup"),
    ("GET", "/login"),
    ("POST", "/login"),
    ("GET", "/api/v1/openapi.json"),
}
"""All that answers nobody. A line more here is a decision, not a repair."""

ADMINS = {
    ("GET", "/server"),
    ("POST", "/server"),
    ("GET", "/setup/server"),
    ("POST", "/setup/server"),
}
"""All that only an admin may do."""

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
VALUES = {"filename": "app.css", "ref": "phone", "profile_id": "1", "token_id": "1"}
OTHER = {"ref": "nothing", "profile_id": "999", "token_id": "999"}


class Route(NamedTuple):
    """One thing that can be asked: the rule as it is written, and the address of alice's own thing and of none."""

    method: str
    rule: str
    path: str
    missing: str
    is_api: bool


def routes_of(app: Flask) -> Iterator[Route]:
    """Return every method of every rule."""
    for rule in app.url_map.iter_rules():
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            values = {name: VALUES[name] for name in rule.arguments}
            with app.test_request_context():
                adapter = app.create_url_adapter(None) or app.url_map.bind("127.0.0.1")
                path = adapter.build(rule.endpoint, values, method)
                missing = adapter.build(
                    rule.endpoint, {**values, **{k: OTHER[k] for k in OTHER if k in values}}, method
                )
            yield Route(method, rule.rule, path, missing, rule.endpoint.startswith("api."))


@pytest.fixture
def routes(site: Site) -> list[Route]:
    return list(routes_of(site.app))


@pytest.fixture
def closed(routes: list[Route]) -> list[Route]:
    """What nobody may reach."""
    return [route for route in routes if (route.method, route.rule) not in PUBLIC]


@pytest.fixture
def changing(routes: list[Route]) -> list[Route]:
    """What changes something and is asked for by a form."""
    return [route for route in routes if route.method != "GET" and not route.is_api]


def test_the_lists_above_name_real_routes_only(routes: list[Route]) -> None:
    assert {(route.method, route.rule) for route in routes} >= PUBLIC | ADMINS
    assert len(routes) >= 20


class TestNobody:
    """Deny by default."""

    def test_a_page_leads_to_the_sign_in(self, nobody: Browser, closed: list[Route]) -> None:
        for route in closed:
            if route.is_api:
                continue
            data = {"csrf_token": nobody.csrf()} if route.method != "GET" else None
            answer = nobody.open(route.path, route.method, data=data)
            assert (answer.status_code, answer.location.split("?")[0]) == (303, "/login"), route

    def test_a_script_gets_401_and_never_a_redirect(self, site: Site, nobody: Browser, closed: list[Route]) -> None:
        token = nobody.csrf()
        for route in closed:
            for accept in ("*/*", "application/json", ""):
                form = {"data": {"csrf_token": token}} if route.method != "GET" else {}
                answer = nobody.open(route.path, route.method, headers={"Accept": accept}, **form)
                assert (answer.status_code, answer.mimetype) == (401, PROBLEM), route
                assert json.loads(answer.text)["detail"] == "Please sign in first."
                assert answer.headers["WWW-Authenticate"] == 'Bearer realm="Postern"'

    def test_htmx_is_sent_to_the_sign_in(self, nobody: Browser, closed: list[Route]) -> None:
        for route in closed:
            data = {"csrf_token": nobody.csrf()} if route.method != "GET" else None
            answer = nobody.open(route.path, route.method, htmx=True, data=data)
            assert (answer.status_code, answer.headers.get("HX-Redirect")) == (401, "/login"), route
            assert answer.data == b""

    def test_no_method_is_a_way_around(self, nobody: Browser, closed: list[Route]) -> None:
        for route in closed:
            if route.method == "GET":
                assert nobody.open(route.path, "HEAD", headers={"Accept": "*/*"}).status_code == 401, route
                assert nobody.open(route.path, "OPTIONS", headers={"Accept": "*/*"}).status_code == 401, route
            disguised = nobody.open(route.path, "POST", headers={"X-HTTP-Method-Override": "GET", "Accept": "*/*"})
            assert disguised.status_code in {401, 403, 405}, route

    def test_an_odd_spelling_of_a_path_is_no_way_around(self, site: Site, nobody: Browser) -> None:
        site.profile()
        for path in (
            "/static/../profiles/1",
            "/static/%2e%2e/profiles/1",
            "//profiles/1",
            "/profiles//1",
            "/PROFILES/1",
            "/profiles/1;/static",
            "/profiles/1?/static/",
            "/healthz/../profiles/1",
            "/profiles/1.conf/",
            "/login/profiles/1",
            "/api/v1/openapi.json/../profiles",
        ):
            answer = nobody.get(path)
            assert answer.status_code in {303, 308, 404}, path
            assert "phone" not in answer.text

    def test_nothing_at_all_was_changed(self, site: Site, nobody: Browser, closed: list[Route]) -> None:
        site.profile()
        site.token()
        before = dump(site)
        for route in closed:
            nobody.open(route.path, route.method, data={"csrf_token": nobody.csrf()})
        assert dump(site) == before


class TestStranger:
    """Somebody else, signed in: what is alice's does not exist."""

    def test_a_foreign_thing_and_a_missing_one_answer_the_same(
        self, site: Site, mallory: Browser, routes: list[Route]
    ) -> None:
        site.profile()
        site.token()
        script = site.script(site.token("mallory"))
        script.get("/api/v1/profiles")  # Its last use is written down once a minute.
        before = dump(site)
        walked = 0
        for route in routes:
            if route.path == route.missing:
                continue
            walked += 1
            for htmx in (False, True):
                who = script if route.is_api else mallory
                form = (
                    {}
                    if route.method == "GET"
                    else {"json": {}}
                    if route.is_api
                    else {"data": {"csrf_token": who.csrf()}}
                )
                foreign, missing = (
                    who.open(path, route.method, htmx=htmx, **form) for path in (route.path, route.missing)
                )
                if foreign.status_code == 303 and route.path in foreign.location + "/status":
                    continue  # A fragment's address, opened by hand, leads to its page, which says 404.
                assert (foreign.status_code, missing.status_code) == (404, 404), (route, htmx)
                assert foreign.data == missing.data, route
                assert set(foreign.headers.keys()) == set(missing.headers.keys()), route
        assert walked >= 8
        assert dump(site) == before

    def test_what_is_the_admins_is_403_for_others(self, alice: Browser, routes: list[Route]) -> None:
        for route in routes:
            if (route.method, route.rule) in ADMINS:
                data = {"csrf_token": alice.csrf()} if route.method != "GET" else None
                assert alice.open(route.path, route.method, data=data).status_code == 403, route

    def test_what_is_not_the_admins_is_open_to_everybody_who_signed_in(
        self, site: Site, alice: Browser, routes: list[Route]
    ) -> None:
        site.profile()
        for route in routes:
            if route.method == "GET" and not route.is_api and (route.method, route.rule) not in ADMINS:
                assert alice.get(route.path).status_code not in {401, 403}, route


class TestToken:
    """A token opens the API and the files, no page."""

    def test_a_token_opens_no_page(self, site: Site, routes: list[Route]) -> None:
        site.profile()
        script = site.script()
        opened = {
            route.rule
            for route in routes
            if (route.method, route.rule) not in PUBLIC and script.get(route.path).status_code == 200
        }
        assert opened == {
            "/profiles/<ref>.conf",
            "/profiles/<int:profile_id>/qr.svg",
            "/api/v1/profiles",
            "/api/v1/profiles/<int:profile_id>",
        }

    def test_a_token_beside_a_session_does_not_borrow_the_session(self, site: Site, alice: Browser) -> None:
        token = site.token("mallory")
        answer = alice.get("/profiles/", headers={"Authorization": f"Bearer {token}", "Accept": "*/*"})
        assert answer.status_code == 401


class TestForms:
    """What another site can make a browser send."""

    def test_without_a_csrf_token_it_is_403(self, site: Site, alice: Browser, changing: list[Route]) -> None:
        alice.csrf()
        for token in (None, "", "forged", site.nobody().csrf()):
            for route in changing:
                answer = alice.open(route.path, route.method, data={} if token is None else {"csrf_token": token})
                assert answer.status_code == 403, route
                assert "This page is too old. Load it again, then try once more." in answer.text

    def test_htmx_without_a_csrf_token_is_told_in_the_page(self, alice: Browser, changing: list[Route]) -> None:
        for route in changing:
            answer = alice.open(route.path, route.method, htmx=True)
            assert (answer.status_code, answer.headers["HX-Retarget"]) == (403, "#messages"), route

    @pytest.mark.parametrize(
        "header",
        [
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://127.0.0.1:8001"},
            {"Origin": "https://127.0.0.1:8000"},
            {"Origin": ""},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1:8000"},
        ],
        ids=str,
    )
    def test_from_another_site_it_is_403_even_with_a_good_token(
        self, alice: Browser, nobody: Browser, changing: list[Route], header: dict[str, str]
    ) -> None:
        for browser in (alice, nobody):
            for route in changing:
                answer = browser.post(route.path, headers=header)
                assert answer.status_code == 403, route
                assert "Another site sent this. Nothing was changed." in answer.text

    @pytest.mark.parametrize(
        "header",
        [
            {},
            {"Origin": "http://127.0.0.1:8000"},
            {"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1:8000"},
            {"Sec-Fetch-Site": "none"},
        ],
        ids=str,
    )
    def test_from_this_site_it_is_let_in(self, alice: Browser, header: dict[str, str]) -> None:
        assert alice.post("/profiles/", {"name": "phone"}, headers=header).status_code == 303

    def test_a_link_from_another_site_may_lead_to_a_page(self, alice: Browser) -> None:
        assert alice.get("/profiles/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200

    def test_a_token_in_the_address_is_not_one(self, alice: Browser) -> None:
        answer = alice.open("/profiles/", "POST", query_string={"csrf_token": alice.csrf()}, data={"name": "phone"})
        assert answer.status_code == 403

    def test_a_huge_form_is_413(self, alice: Browser) -> None:
        for htmx in (False, True):
            answer = alice.post("/profiles/", {"name": "x" * 70_000}, htmx=htmx)
            assert answer.status_code == 413
            assert "This is too much at once. Nothing was stored." in answer.text

    def test_a_form_of_too_many_parts_is_413(self, alice: Browser) -> None:
        parts = {f"field{number}": "x" for number in range(60)}
        answer = alice.post("/profiles/", parts, content_type="multipart/form-data")
        assert answer.status_code == 413


class TestMethods:
    """An address takes what it takes."""

    def test_a_wrong_method_is_405_and_says_which_are_right(self, site: Site, routes: list[Route]) -> None:
        alice, script = site.signed_in(), site.script()
        by_path: dict[str, set[str]] = {}
        for route in routes:
            by_path.setdefault(route.path, set()).add(route.method)
        for path, right in by_path.items():
            who = script if path.startswith("/api/") else alice
            for method in METHODS:
                if method in right:
                    continue
                answer = who.open(path, method)
                assert answer.status_code == 405, (method, path)
                assert right <= {word.strip() for word in answer.headers["Allow"].split(",")}

    def test_no_get_changes_anything_but_bookkeeping(self, site: Site, routes: list[Route]) -> None:
        admin = site.admin()
        site.profile(owner="ada")
        before = dump(site, but=("vpn_profiles",))
        for route in routes:
            if route.method == "GET":
                admin.get(route.path)
                admin.get(route.path, htmx=True)
        assert dump(site, but=("vpn_profiles",)) == before


class TestHost:
    """Only by a name that this server goes by."""

    @pytest.mark.parametrize(
        "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8000", "a@b", "[", "x y"]
    )
    def test_under_an_unknown_name_it_is_400(self, site: Site, routes: list[Route], host: str) -> None:
        browser = site.nobody()
        for route in routes:
            if route.rule in {"/healthz", "/readyz"}:
                continue
            answer = browser.open(route.path, route.method, headers={"Host": host})
            # A form without its token is refused a moment earlier.
            assert answer.status_code == (400 if route.method == "GET" or route.is_api else answer.status_code), route
            assert answer.status_code in {400, 403}
            assert "evil.example" not in answer.text

    @pytest.mark.parametrize(
        "host", ["127.0.0.1:8000", "localhost:8000", "LOCALHOST", "[::1]:8000", "192.0.2.7", "[2001:db8::7]:80"]
    )
    def test_addresses_and_loopback_names_are_known(self, site: Site, host: str) -> None:
        assert site.nobody().get("/login", headers={"Host": host}).status_code == 200

    def test_the_public_name_and_the_allowed_ones_are_known(self, make_site: Callable[..., Site]) -> None:
        site = make_site(PUBLIC_URL="http://vpn.example.net", ALLOWED_HOSTS="gate.lan, other.lan")
        browser = site.nobody()
        for host, status in [("vpn.example.net", 200), ("gate.lan:80", 200), ("GATE.lan", 200), ("x.gate.lan", 400)]:
            assert browser.get("/login", headers={"Host": host}).status_code == status


def dump(site: Site, but: tuple[str, ...] = ()) -> dict[str, list[tuple[object, ...]]]:
    """Return what the database holds, but for counters of the guard's own."""
    kept = {"throttle_counters", *but}
    found = {}
    with site.services.db.read() as session:
        tables = session.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars()
        for table in sorted(set(tables) - kept):
            found[table] = [tuple(row) for row in session.execute(text(f"SELECT * FROM {table} ORDER BY 1"))]
    return found


def test_a_secret_that_changed_signs_everybody_out_and_breaks_nothing(site: Site, alice: Browser) -> None:
    settings = dataclasses.replace(site.services.settings, secret_key="another" * 8)
    app = create_app(settings, Tools())
    try:
        browser = Browser(app).hold(str(alice.cookie()))
        assert browser.get("/profiles/").status_code == 303
        assert browser.get("/login").status_code == 200
    finally:
        app.extensions["postern"].db.close()
