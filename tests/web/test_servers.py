"""The admin's page of the server: what needs doing, what is known, and the one thing to set."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.web.conftest import Browser, Site
from webapp.models import Server
from webapp.services.servers import Problem


def headline(page: str) -> str:
    found = re.search(r"<h1>\s*([^<]*)", page)
    assert found
    return found[1].strip()


def titles(page: str) -> list[str]:
    return re.findall(r'<div class="note is-blocked"><h2>([^<]*)</h2>', page)


@pytest.fixture
def open_site(make_site: Callable[..., Site]) -> Site:
    """A site with an interface, whose address nobody has set yet."""
    return make_site(WG_ENDPOINT=None, INTERFACE_MODE="manage")


@pytest.mark.parametrize("htmx", [False, True])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_it_is_the_admins_alone(site: Site, alice: Browser, method: str, htmx: bool) -> None:
    answer = alice.open("/server", method, htmx=htmx, data={"csrf_token": alice.csrf(), "endpoint": "evil.example:1"})
    assert answer.status_code == 403
    assert "You may not do this." in answer.text
    assert ("<html" in answer.text) is not htmx


def test_others_are_not_shown_the_way(site: Site, alice: Browser) -> None:
    assert 'href="/server"' not in alice.get("/profiles/").text
    assert 'href="/server"' in site.admin().get("/profiles/").text


def test_a_token_of_the_admin_does_not_open_it(site: Site) -> None:
    site.person("ada", is_admin=True)
    assert site.script(site.token("ada")).get("/server").status_code == 401


def test_all_is_well_when_nothing_is_wrong(managed: Site) -> None:
    managed.agent().look()
    page = managed.admin().get("/server").text
    assert (headline(page), titles(page)) == ("All is well", [])


def test_the_headline_counts_what_needs_doing(open_site: Site) -> None:
    admin = open_site.admin()
    page = admin.get("/server").text
    assert headline(page) == "Two things need you"
    assert titles(page) == ["The agent is not running", "The address of this server is not set"]
    open_site.agent().report(
        Problem("The tunnel cannot be brought up to date", "wg is not installed.", "apt install wireguard-tools"),
        Problem("<b>100 %(x)s</b>", "%s & more"),
    )
    page = admin.get("/server").text
    assert headline(page) == "3 things need you"
    assert '<code id="command-1" dir="ltr">apt install wireguard-tools</code>' in page
    assert "<h2>&lt;b&gt;100 %(x)s&lt;/b&gt;</h2><p>%s &amp; more</p>" in page


def test_a_silent_agent_says_nothing_any_more(managed: Site) -> None:
    managed.agent().report(Problem("Old news", "…"))
    managed.clock.advance(minutes=1)
    page = managed.admin().get("/server").text
    assert titles(page) == ["The agent is not running"]
    assert "silent, last answer" in page


def test_without_an_interface_it_says_how_to_get_one(site: Site) -> None:
    page = site.admin().get("/server").text
    assert (headline(page), titles(page)) == ("One thing needs you", ["There is no tunnel on this machine"])
    assert "Profiles only: Postern does not touch any interface." in page


def test_it_counts_devices_and_connections(managed: Site) -> None:
    admin = managed.admin()
    assert '<p class="lede">No devices yet.</p>' in admin.get("/server").text
    phone = managed.profile("phone")
    agent = managed.agent()
    agent.look()
    assert '<p class="lede">The only device is not connected.</p>' in admin.get("/server").text
    agent.hear(phone.public_key, managed.clock.now)
    assert '<p class="lede">The only device is connected.</p>' in admin.get("/server").text
    managed.profile("tablet", "mallory")
    assert '<p class="lede">1 of 2 devices is connected.</p>' in admin.get("/server").text


def test_the_private_key_is_never_shown(open_site: Site) -> None:
    admin = open_site.admin()
    with open_site.services.db.read() as session:
        row = session.query(Server).one()
    secret = open_site.services.vault.open("servers.private_key", str(row.public_key), row.private_key or b"")
    assert len(secret) == 32
    from base64 import b64encode

    for path in ("/server", "/setup/server", "/profiles/", "/readyz", "/api/v1/openapi.json"):
        text = admin.get(path).text
        assert b64encode(secret).decode() not in text
        assert secret.hex() not in text
    assert str(row.public_key) in admin.get("/server").text


class TestEndpoint:
    """The address that devices connect to."""

    def test_a_form_stores_it_and_comes_back_with_a_flash(self, open_site: Site) -> None:
        admin = open_site.admin()
        answer = admin.post("/server", {"endpoint": "vpn.example.net:443"})
        assert (answer.status_code, answer.location) == (303, "/server")
        page = admin.get("/server").text
        assert '<p class="note is-open">Saved.</p>' in page
        assert 'value="vpn.example.net:443"' in page

    def test_htmx_is_told_to_load_the_page(self, open_site: Site) -> None:
        answer = open_site.admin().post("/server", {"endpoint": "[2001:db8::1]:443"}, htmx=True)
        assert (answer.status_code, answer.headers["HX-Redirect"]) == (200, "/server")

    def test_a_change_makes_given_files_out_of_date_and_none_does_not(self, open_site: Site) -> None:
        admin = open_site.admin()
        revisions = []
        for endpoint in ("a.example:1", "a.example:1", " a.example:1 ", "b.example:1"):
            admin.post("/server", {"endpoint": endpoint})
            with open_site.services.db.read() as session:
                revisions.append(open_site.services.servers.current(session).revision)
        assert revisions == [2, 2, 2, 3]

    @pytest.mark.parametrize("endpoint", ["", "   ", "a b", "x:0", "x:99999", "http://x:1/", "'\"><b>x:1", "x\x00:1"])
    def test_a_bad_one_is_422_at_the_field_with_what_was_typed(self, open_site: Site, endpoint: str) -> None:
        answer = open_site.admin().post("/server", {"endpoint": endpoint})
        assert answer.status_code == 422
        assert 'class="wrong" id="endpoint-wrong"' in answer.text
        assert "<b>x" not in answer.text
        assert answer.text.startswith("<!doctype html>")
        assert "<title>Not saved: Server · Postern</title>" in answer.text
        with open_site.services.db.read() as session:
            assert open_site.services.servers.current(session).endpoint is None

    def test_one_that_the_environment_pins_is_read_only(self, site: Site) -> None:
        admin = site.admin()
        page = admin.get("/server").text
        assert 'value="198.51.100.1:51820" aria-describedby="endpoint-hint" readonly' in page
        assert "Set outside, by <code>WG_ENDPOINT</code>. Change it there." in page
        assert "Save</button>" not in page
        answer = admin.post("/server", {"endpoint": "evil.example:1"})
        assert answer.status_code == 403
        assert "This is set outside, by WG_ENDPOINT. Change it there." in answer.text
