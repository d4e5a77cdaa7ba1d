"""The first account by a one-time link, and the address of the server."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.web.conftest import PASSWORD, PROBLEM, Site
from webapp.models import SetupLink, SignInSession, User

FORM = {"username": "nora", "password": PASSWORD}
DEAD = "This link does not work any more. Ask for a new one."


@pytest.fixture
def link(site: Site) -> str:
    """The token of the link that the console printed."""
    token = site.services.accounts.make_setup_link()
    assert token is not None
    return token


@pytest.fixture
def open_site(make_site: Callable[..., Site]) -> Site:
    """A site whose address nobody has set yet."""
    return make_site(WG_ENDPOINT=None)


def test_looking_at_the_link_does_not_use_it_up(site: Site, link: str) -> None:
    for method in ("HEAD", "GET", "GET"):
        assert site.nobody().open(f"/setup?token={link}", method).status_code == 200


def test_the_first_account_is_an_admin_who_is_signed_in_at_once(site: Site, link: str) -> None:
    browser = site.nobody()
    answer = browser.post("/setup", {"token": link, **FORM})
    assert (answer.status_code, answer.location) == (303, "/profiles/")
    assert site.services.accounts.find("nora").is_admin
    assert browser.get("/server").status_code == 200


def test_where_the_address_is_unknown_the_set_up_goes_on_to_ask_for_it(open_site: Site) -> None:
    token = open_site.services.accounts.make_setup_link()
    answer = open_site.nobody().post("/setup", {"token": str(token), **FORM})
    assert (answer.status_code, answer.location) == (303, "/setup/server")


def test_htmx_is_told_to_load_the_next_page(site: Site, link: str) -> None:
    answer = site.nobody().post("/setup", {"token": link, **FORM}, htmx=True)
    assert (answer.status_code, answer.headers["HX-Redirect"]) == (200, "/profiles/")


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"password": "short"}, "Use 8 characters or more. Four random words work well."),
        ({"password": "p" * 257}, "Use 256 characters or fewer."),
        ({"username": " "}, "Please type a name."),
        ({"username": "a\x07b"}, "This name holds a character that cannot be shown."),
    ],
)
def test_a_bad_field_is_422_with_its_sentence_and_the_link_stays_good(
    site: Site, link: str, fields: dict[str, str], sentence: str
) -> None:
    browser = site.nobody()
    answer = browser.post("/setup", {"token": link, **FORM, **fields})
    assert answer.status_code == 422
    (name,) = fields
    assert f'<p class="wrong" id="{name}-wrong">{sentence}</p>' in answer.text
    assert 'aria-invalid="true"' in answer.text
    assert FORM["password"] not in answer.text
    assert site.count(User) == 0
    assert browser.post("/setup", {"token": link, **FORM}).status_code == 303


def test_all_bad_fields_are_named_at_once(site: Site, link: str) -> None:
    answer = site.nobody().post("/setup", {"token": link, "username": "", "password": ""})
    assert re.findall(r'class="wrong" id="(\w+)-wrong"', answer.text) == ["username", "password"]


@pytest.mark.parametrize("token", ["", "forged", "x" * 5000])
def test_a_link_that_never_was_is_410_and_makes_nobody(site: Site, link: str, token: str) -> None:
    browser = site.nobody()
    assert browser.get("/setup", query_string={"token": token}).status_code == 410
    answer = browser.post("/setup", {"token": token, **FORM})
    assert answer.status_code == 410
    assert DEAD in answer.text
    assert site.count(User) == 0


def test_a_used_link_is_dead_and_looks_like_one_that_never_was(site: Site, link: str) -> None:
    site.nobody().post("/setup", {"token": link, **FORM})
    used = site.nobody().post("/setup", {"token": link, "username": "eve", "password": PASSWORD})
    forged = site.nobody().post("/setup", {"token": "forged", "username": "eve", "password": PASSWORD})
    assert (used.status_code, used.data) == (410, forged.data)
    assert site.count(User) == 1


def test_a_link_dies_after_a_day(site: Site, link: str) -> None:
    site.clock.advance(hours=24)
    assert site.nobody().get(f"/setup?token={link}").status_code == 410


def test_a_link_is_dead_when_somebody_has_an_account_by_other_means(site: Site, link: str) -> None:
    site.person("ada", is_admin=True)
    assert site.nobody().post("/setup", {"token": link, **FORM}).status_code == 410


def test_the_token_is_stored_as_a_hash_only(site: Site, link: str) -> None:
    with site.services.db.read() as session:
        row = session.query(SetupLink).one()
    assert link not in str(vars(row))


def test_the_set_up_drops_whatever_session_the_browser_held(site: Site, link: str) -> None:
    browser = site.nobody()
    browser.csrf()
    before = browser.cookie()
    browser.post("/setup", {"token": link, **FORM})
    assert browser.cookie() != before
    assert site.count(SignInSession) == 1


class TestServer:
    """Step two: where devices connect to."""

    def test_it_is_the_admins_alone(self, open_site: Site) -> None:
        assert open_site.signed_in("alice").get("/setup/server").status_code == 403
        assert open_site.nobody().get("/setup/server").status_code == 303
        answer = open_site.signed_in("alice").post("/setup/server", {"endpoint": "evil.example:1"}, htmx=True)
        assert (answer.status_code, answer.headers["HX-Retarget"]) == (403, "#messages")

    def test_it_suggests_the_name_that_the_browser_used(self, make_site: Callable[..., Site]) -> None:
        site = make_site(WG_ENDPOINT=None, PUBLIC_URL="http://vpn.example.net:8000")
        answer = site.admin(base_url="http://vpn.example.net:8000").get("/setup/server")
        assert 'value="vpn.example.net:51820"' in answer.text

    def test_it_shows_the_networks_and_names_in_words(self, open_site: Site) -> None:
        text = open_site.admin().get("/setup/server").text
        assert "<dd><bdi>10.8.0.0/24</bdi></dd>" in text
        assert "<dd><bdi>1.1.1.1, 1.0.0.1</bdi></dd>" in text

    @pytest.mark.parametrize("htmx", [False, True])
    def test_a_good_address_is_stored_and_leads_to_the_devices(self, open_site: Site, htmx: bool) -> None:
        answer = open_site.admin().post("/setup/server", {"endpoint": " vpn.example.net "}, htmx=htmx)
        where = answer.headers["HX-Redirect"] if htmx else answer.location
        assert (answer.status_code, where) == (200 if htmx else 303, "/profiles/")
        with open_site.services.db.read() as session:
            assert str(open_site.services.servers.current(session).endpoint) == "vpn.example.net:51820"

    @pytest.mark.parametrize("endpoint", ["", "a b:1", "host:0", "host:65536", "[::1", "<b>:1", "x\ny:1"])
    def test_a_bad_address_is_422_at_the_field_and_changes_nothing(self, open_site: Site, endpoint: str) -> None:
        answer = open_site.admin().post("/setup/server", {"endpoint": endpoint})
        assert answer.status_code == 422
        assert 'class="wrong" id="endpoint-wrong"' in answer.text
        assert "<b>:1" not in answer.text
        with open_site.services.db.read() as session:
            assert open_site.services.servers.current(session).endpoint is None

    def test_an_address_that_the_environment_pins_cannot_be_changed(self, site: Site) -> None:
        answer = site.admin().post("/setup/server", {"endpoint": "evil.example:1"})
        assert answer.status_code == 403
        assert "This is set outside, by WG_ENDPOINT. Change it there." in answer.text


def test_a_script_at_the_set_up_gets_problem_json(site: Site) -> None:
    answer = site.nobody(headers={"Accept": "*/*"}).get("/setup")
    assert (answer.status_code, answer.mimetype) == (410, PROBLEM)
