"""What every answer carries, whatever kind it is; and the cookie."""

from __future__ import annotations

from collections.abc import Callable
from http.cookies import SimpleCookie

import pytest
from sqlalchemy import text
from werkzeug.test import TestResponse

from tests.web.conftest import Site

ALWAYS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " form-action 'self'; manifest-src 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
NEVER = ("Access-Control-Allow-Origin", "X-Powered-By")


def break_database(site: Site) -> None:
    with site.services.db.write() as session:
        session.execute(text("DROP TABLE sessions"))


def raise_something(site: Site) -> None:
    def view() -> str:
        raise RuntimeError("secret detail")

    site.app.view_functions["home.index"] = view


KINDS: dict[str, tuple[int, Callable[[Site], TestResponse]]] = {
    "page": (200, lambda site: site.signed_in().get("/profiles/")),
    "page for nobody": (200, lambda site: site.nobody().get("/login")),
    "fragment": (200, lambda site: site.signed_in().get("/profiles/gates", htmx=True)),
    "redirect": (303, lambda site: site.nobody().get("/")),
    "slash redirect": (308, lambda site: site.nobody().get("/profiles")),
    "sign-in": (303, lambda site: site.nobody().get("/profiles/")),
    "sign-in for htmx": (401, lambda site: site.nobody().get("/profiles/", htmx=True)),
    "sign-in for a script": (401, lambda site: site.nobody(headers={"Accept": "*/*"}).get("/profiles/")),
    "bad host": (400, lambda site: site.nobody().get("/login", headers={"Host": "evil.example"})),
    "bad json": (400, lambda site: site.script().open("/api/v1/profiles", "POST", data=b"{")),
    "no csrf token": (403, lambda site: site.signed_in().open("/profiles/", "POST")),
    "not found page": (404, lambda site: site.nobody().get("/nothing")),
    "not found fragment": (404, lambda site: site.nobody().get("/nothing", htmx=True)),
    "not found problem": (404, lambda site: site.script().get("/api/v1/profiles/7")),
    "wrong method": (405, lambda site: site.nobody().open("/healthz", "DELETE")),
    "options": (200, lambda site: site.nobody().open("/login", "OPTIONS")),
    "head": (200, lambda site: site.nobody().open("/login", "HEAD")),
    "dead link": (410, lambda site: site.nobody().get("/setup?token=x")),
    "too large": (413, lambda site: site.signed_in().post("/profiles/", {"name": "x" * 70_000})),
    "bad field": (422, lambda site: site.signed_in().post("/profiles/", {"name": ""})),
    "json": (200, lambda site: site.script().get("/api/v1/profiles")),
    "deleted": (204, lambda site: site.script().open(f"/api/v1/profiles/{site.profile().id}", "DELETE")),
    "file": (200, lambda site: site.script().get(f"/profiles/{site.profile().id}.conf")),
    "qr code": (200, lambda site: site.script().get(f"/profiles/{site.profile().id}/qr.svg")),
    "static": (200, lambda site: site.nobody().get("/static/app.css")),
    "no static": (404, lambda site: site.nobody().get("/static/nothing.css")),
    "alive": (200, lambda site: site.nobody().get("/healthz")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_answer_carries_the_headers(site: Site, kind: str) -> None:
    status, ask = KINDS[kind]
    answer = ask(site)
    assert answer.status_code == status
    check(answer, is_static=kind in {"static", "no static"})
    assert "Strict-Transport-Security" not in answer.headers


def check(answer: TestResponse, *, is_static: bool = False) -> None:
    assert {name: answer.headers.get(name) for name in ALWAYS} == ALWAYS
    assert [answer.headers.getlist(name) for name in ALWAYS] == [[value] for value in ALWAYS.values()]
    assert not [name for name in NEVER if name in answer.headers]
    if not is_static:
        assert answer.headers["Cache-Control"] == "no-store"
        assert {word.strip() for word in answer.headers["Vary"].split(",")} >= {"Accept", "Cookie", "HX-Request"}


def test_a_broken_database_and_a_programming_error_carry_them_too(site: Site) -> None:
    alice = site.signed_in()
    break_database(site)
    answer = alice.get("/profiles/")
    assert answer.status_code == 503
    check(answer)
    raise_something(site)
    answer = site.nobody().get("/")
    assert answer.status_code == 500
    check(answer)


def test_over_https_browsers_are_told_to_stay_there(make_site: Callable[..., Site]) -> None:
    site = make_site(PUBLIC_URL="https://vpn.example.net")
    browser = site.nobody(base_url="https://vpn.example.net")
    for path in ("/login", "/nothing", "/static/app.css", "/healthz"):
        assert browser.get(path).headers["Strict-Transport-Security"] == "max-age=31536000"


def test_a_file_that_changes_gets_a_new_address_and_may_be_kept_for_a_year(site: Site) -> None:
    page = site.nobody().get("/login").text
    for name in ("app.css", "app.js", "mark.svg", "vendor/htmx-4.0.1/htmx.min.js"):
        begin = f"/static/{name}?v="
        assert begin in page
        version = page.split(begin, 1)[1][:12]
        assert version.isalnum()
    answer = site.nobody().get("/static/app.css")
    assert "max-age=31536000" in answer.headers["Cache-Control"]
    assert "Set-Cookie" not in answer.headers
    assert answer.headers["ETag"]


class TestCookie:
    """What the browser is told about the session's cookie."""

    def flags(self, answer: TestResponse) -> dict[str, dict[str, object]]:
        found = {}
        for header in answer.headers.getlist("Set-Cookie"):
            for name, morsel in SimpleCookie(header).items():
                found[name] = {flag: morsel[flag] for flag in ("path", "secure", "httponly", "samesite", "domain")}
        return found

    def test_over_plain_http_it_is_not_secure_or_nobody_could_sign_in(self, site: Site) -> None:
        site.person("alice")
        told = self.flags(site.nobody().sign_in("alice"))
        assert told == {"postern": {"path": "/", "secure": "", "httponly": True, "samesite": "Lax", "domain": ""}}

    @pytest.mark.parametrize("base", ["", "/vpn"])
    def test_over_https_it_is_secure_for_this_host_and_the_whole_of_it(
        self, make_site: Callable[..., Site], base: str
    ) -> None:
        site = make_site(PUBLIC_URL=f"https://vpn.example.net{base}")
        site.person("alice")
        told = self.flags(site.nobody(base_url="https://vpn.example.net").sign_in("alice"))
        assert told == {
            "__Host-postern": {"path": "/", "secure": True, "httponly": True, "samesite": "Lax", "domain": ""}
        }

    def test_it_lasts_thirty_days_and_is_set_at_the_sign_in_only(self, site: Site) -> None:
        site.person("alice")
        browser = site.nobody()
        assert "Expires=" in browser.sign_in("alice").headers["Set-Cookie"]
        browser.get("/profiles/")  # Its first page makes the CSRF token of the session.
        for path in ("/profiles/", "/tokens", "/nothing"):
            assert "Set-Cookie" not in browser.get(path).headers

    def test_a_sign_out_takes_it_away(self, site: Site) -> None:
        answer = site.signed_in().post("/logout")
        assert answer.headers["Set-Cookie"].startswith("postern=; Expires=Thu, 01 Jan 1970")

    def test_scripts_are_given_none(self, site: Site) -> None:
        site.profile()
        script = site.script()
        for path in ("/api/v1/profiles", "/profiles/phone.conf", "/healthz", "/api/v1/openapi.json"):
            assert "Set-Cookie" not in script.get(path).headers
