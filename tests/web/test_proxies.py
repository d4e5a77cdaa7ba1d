"""Behind a proxy: whose word counts, and a site that lives under a path."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.web.conftest import Browser, Site
from webapp.models import AuditEvent

FORWARDED = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "vpn.example.net",
    "X-Forwarded-Port": "444",
    "X-Forwarded-Prefix": "/evil",
    "Forwarded": "for=203.0.113.9;host=evil.example;proto=https",
}


def addresses(site: Site) -> set[str]:
    """Return where the sign-ins came from, as the audit has it."""
    with site.services.db.read() as session:
        rows = session.query(AuditEvent).filter(AuditEvent.action == "session.create")
        return {row.address for row in rows}


class TestForwarded:
    """Headers about the real client."""

    def test_from_an_unlisted_neighbour_they_mean_nothing(self, site: Site) -> None:
        site.signed_in("alice", headers=FORWARDED, REMOTE_ADDR="192.0.2.1")
        assert addresses(site) == {"192.0.2.1"}

    def test_a_stranger_cannot_take_another_name_by_them(self, site: Site) -> None:
        answer = site.nobody(headers={"X-Forwarded-Host": "evil.example"}).get("/profiles")
        assert answer.location == "http://127.0.0.1:8000/profiles/"

    def test_a_stranger_does_not_slip_past_the_throttle_by_them(self, site: Site) -> None:
        codes = [
            site.nobody(headers={"X-Forwarded-For": f"203.0.113.{number}"}).sign_in("alice", "wrong").status_code
            for number in range(11)
        ]
        assert codes == [422] * 10 + [429]

    @pytest.mark.parametrize(
        ("listed", "neighbour"),
        [("192.0.2.1", "192.0.2.1"), ("192.0.2.0/24, 2001:db8::/32", "2001:db8::1"), ("192.0.2.1", "::ffff:192.0.2.1")],
    )
    def test_from_a_listed_one_they_are_believed(
        self, make_site: Callable[..., Site], listed: str, neighbour: str
    ) -> None:
        site = make_site(TRUSTED_PROXIES=listed, PUBLIC_URL="https://vpn.example.net")
        told = {name: FORWARDED[name] for name in ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host")}
        browser = site.nobody(headers=told, REMOTE_ADDR=neighbour, base_url="https://vpn.example.net")
        site.person("alice")
        assert browser.sign_in("alice").status_code == 303
        assert addresses(site) == {"203.0.113.9"}
        assert browser.get("/profiles").location == "https://vpn.example.net/profiles/"

    def test_of_a_chain_only_the_last_link_is_believed(self, make_site: Callable[..., Site]) -> None:
        site = make_site(TRUSTED_PROXIES="192.0.2.1")
        chain = {"X-Forwarded-For": "6.6.6.6, 203.0.113.9"}
        site.signed_in("alice", headers=chain, REMOTE_ADDR="192.0.2.1")
        assert addresses(site) == {"203.0.113.9"}

    def test_the_name_that_a_proxy_passes_on_is_checked_as_any_other(self, make_site: Callable[..., Site]) -> None:
        site = make_site(TRUSTED_PROXIES="192.0.2.1")
        browser = site.nobody(headers={"X-Forwarded-Host": "evil.example"}, REMOTE_ADDR="192.0.2.1")
        assert browser.get("/login").status_code == 400

    def test_a_neighbour_without_an_address_is_nobody_to_trust(self, make_site: Callable[..., Site]) -> None:
        site = make_site(TRUSTED_PROXIES="0.0.0.0/0, ::/0")
        browser = site.nobody(headers={"X-Forwarded-Host": "evil.example"}, REMOTE_ADDR="")
        assert browser.get("/login").status_code == 200


class TestSubPath:
    """PUBLIC_URL with a path: everything stands under it, whether the proxy takes the path off or not."""

    @pytest.fixture
    def below(self, make_site: Callable[..., Site]) -> Site:
        return make_site(PUBLIC_URL="https://h.example/vpn", WG_ENDPOINT="h.example:51820")

    @pytest.fixture(params=["kept", "taken off"])
    def prefix(self, request: pytest.FixtureRequest) -> str:
        """What the proxy leaves of the path."""
        return "/vpn" if request.param == "kept" else ""

    @pytest.fixture
    def browser(self, below: Site) -> Browser:
        below.person("alice")
        return below.nobody(base_url="https://h.example")

    def test_every_address_on_every_page_stands_below_it(self, below: Site, browser: Browser, prefix: str) -> None:
        answer = browser.open(
            f"{prefix}/login",
            "POST",
            data={"csrf_token": self.csrf(browser, prefix), "username": "alice", "password": "correct horse battery"},
        )
        assert (answer.status_code, answer.location) == (303, "/vpn/profiles/")
        below.profile()
        for path in ("/profiles/", "/profiles/1", "/profiles/1/delete", "/tokens", "/nothing", "/login?next=/vpn/x"):
            page = browser.get(prefix + path)
            found = re.findall(r'\s(?:href|src|action|hx-get|hx-post)="(/[^"]*)"', page.text)
            assert all(address.startswith("/vpn/") for address in found), path
            assert found or page.status_code == 303

    def csrf(self, browser: Browser, prefix: str) -> str:
        found = re.search(r'name="csrf_token" value="([^"]+)"', browser.get(f"{prefix}/login").text)
        assert found
        return found[1]

    def test_static_files_are_there(self, browser: Browser, prefix: str) -> None:
        page = browser.get(f"{prefix}/login").text
        found = re.findall(r'(?:href|src)="/vpn(/static/[^"]+)"', page)
        assert len(found) == 4
        for address in found:
            assert browser.get(prefix + address).status_code == 200

    def test_who_was_sent_to_the_sign_in_comes_back_below_it(self, browser: Browser, prefix: str) -> None:
        answer = browser.get(f"{prefix}/profiles/7")
        assert answer.location == "/vpn/login?next=/vpn/profiles/7"
        answer = browser.open(
            f"{prefix}/login",
            "POST",
            data={
                "csrf_token": self.csrf(browser, prefix),
                "username": "alice",
                "password": "correct horse battery",
                "next": "/vpn/profiles/7",
            },
        )
        assert answer.location == "/vpn/profiles/7"

    def test_a_missing_slash_is_mended_below_it(self, browser: Browser, prefix: str) -> None:
        assert browser.get(f"{prefix}/profiles").location == "https://h.example/vpn/profiles/"

    def test_the_api_and_the_curl_line_name_the_public_address(self, below: Site, prefix: str) -> None:
        profile = below.profile("my phone")
        below.profile("tablet")
        token = below.token()
        script = Browser(below.app, {"Authorization": f"Bearer {token}"}, "https://h.example")
        body = script.get(f"{prefix}/api/v1/profiles?limit=1").get_json()
        assert body["next"] == f"https://h.example/vpn/api/v1/profiles?limit=1&after={profile.id}"
        answer = script.open(f"{prefix}/api/v1/profiles", "POST", json={"name": "laptop"})
        assert answer.location == "/vpn/api/v1/profiles/3"

    def test_a_path_that_only_begins_alike_is_another(self, browser: Browser) -> None:
        assert browser.get("/vpnprofiles/").status_code == 404
        assert browser.get("/vpn").location == "/vpn/profiles/"
