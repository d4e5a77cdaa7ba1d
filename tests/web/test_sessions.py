"""Signing in and out: the same answer for every failure, limits, a new session each time, and where it leads."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import update

from tests.web.conftest import PASSWORD, PROBLEM, Browser, Site
from webapp.models import SignInSession, User
from webapp.web.forms import local_path

WRONG = "Name or password is wrong."


def test_the_right_password_leads_to_the_devices(site: Site, nobody: Browser) -> None:
    site.person("alice")
    answer = nobody.sign_in("alice")
    assert (answer.status_code, answer.location) == (303, "/profiles/")
    assert nobody.get("/profiles/").status_code == 200


def test_the_case_of_the_name_does_not_matter(site: Site, nobody: Browser) -> None:
    site.person("alice")
    assert nobody.sign_in("ALICE").status_code == 303


def test_htmx_is_told_to_load_the_page(site: Site, nobody: Browser) -> None:
    site.person("alice")
    answer = nobody.post("/login", {"username": "alice", "password": PASSWORD}, htmx=True)
    assert (answer.status_code, answer.headers["HX-Redirect"]) == (200, "/profiles/")


def test_every_failure_is_the_same_page_and_the_same_work(site: Site) -> None:
    site.person("alice")
    site.person("gone")
    site.services.accounts.create_user("machine", None)
    with site.services.db.write() as session:
        session.execute(update(User).where(User.username == "gone").values(disabled=True))
    pages, work = [], []
    for name, password in [("alice", "wrong"), ("gone", PASSWORD), ("machine", ""), ("who", PASSWORD), ("", "")]:
        browser = site.nobody()
        token, before = browser.csrf(), len(site.hasher.verified)
        answer = browser.sign_in(name, password)
        assert answer.status_code == 422
        assert f'<p class="note is-blocked" role="alert">{WRONG}</p>' in answer.text
        pages.append(answer.text.replace(token, "TOKEN").replace(f'value="{name}"', "NAME"))
        work.append(len(site.hasher.verified) - before)
    assert work == [1, 1, 1, 1, 1]
    # The token's signature holds the time, so each page has one of its own.
    assert len({page.split('name="csrf_token"')[0] for page in pages}) == 1


def test_the_typed_name_stays_and_the_password_does_not(site: Site, nobody: Browser) -> None:
    answer = nobody.sign_in('<b>"eve', "hunter22")
    assert 'value="&lt;b&gt;&#34;eve"' in answer.text
    assert "hunter22" not in answer.text


def test_a_password_is_not_cut_off(site: Site, nobody: Browser) -> None:
    site.services.accounts.create_user("long", "p" * 256)
    assert nobody.sign_in("long", "p" * 256 + "x").status_code == 422
    assert nobody.sign_in("long", "p" * 255).status_code == 422
    assert nobody.sign_in("long", "p" * 256).status_code == 303


class TestThrottle:
    """Ten wrong tries per name and address, then a wait that is told."""

    def guess(self, browser: Browser, times: int, name: str = "alice") -> list[int]:
        return [browser.sign_in(name, "wrong").status_code for _ in range(times)]

    def test_the_eleventh_wrong_try_is_429_with_the_wait(self, site: Site, nobody: Browser) -> None:
        site.person("alice")
        assert self.guess(nobody, 10) == [422] * 10
        site.clock.advance(seconds=60.5)
        answer = nobody.sign_in("alice", "wrong")
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "840")
        assert "Too many tries. Try again in 14 min." in answer.text

    def test_past_the_limit_even_the_right_password_waits_and_no_hash_is_computed(
        self, site: Site, nobody: Browser
    ) -> None:
        site.person("alice")
        self.guess(nobody, 10)
        before = len(site.hasher.verified)
        assert nobody.sign_in("alice").status_code == 429
        assert len(site.hasher.verified) == before

    def test_another_address_and_another_name_are_not_held_up(self, site: Site, nobody: Browser) -> None:
        site.person("alice")
        site.person("bob")
        self.guess(nobody, 11)
        assert site.nobody(REMOTE_ADDR="203.0.113.5").sign_in("alice").status_code == 303
        assert nobody.sign_in("bob").status_code == 303

    def test_an_unknown_name_is_held_up_alike(self, nobody: Browser) -> None:
        assert self.guess(nobody, 11, "who")[-1] == 429

    def test_the_wait_ends(self, site: Site, nobody: Browser) -> None:
        site.person("alice")
        self.guess(nobody, 11)
        site.clock.advance(minutes=15)
        assert nobody.sign_in("alice").status_code == 303

    def test_the_right_password_forgets_the_wrong_ones(self, site: Site, nobody: Browser) -> None:
        site.person("alice")
        self.guess(nobody, 9)
        assert nobody.sign_in("alice").status_code == 303
        assert self.guess(site.nobody(), 10) == [422] * 10


class TestSession:
    """The cookie is worth what the database says."""

    def test_the_session_is_new_at_every_sign_in(self, site: Site, nobody: Browser) -> None:
        nobody.csrf()
        seen = [nobody.cookie()]
        site.person("alice")
        for _ in range(2):
            nobody.sign_in("alice")
            seen.append(nobody.cookie())
        assert len(set(seen)) == 3
        assert site.count(SignInSession) == 2

    def test_a_csrf_token_from_before_the_sign_in_is_refused_after_it(self, site: Site, nobody: Browser) -> None:
        old = nobody.csrf()
        site.person("alice")
        nobody.sign_in("alice")
        assert nobody.post("/profiles/", {"name": "phone", "csrf_token": old}).status_code == 403

    def test_sign_out_ends_it_in_the_database(self, site: Site, alice: Browser) -> None:
        stolen = alice.cookie()
        answer = alice.post("/logout")
        assert (answer.status_code, answer.location) == (303, "/login")
        assert site.count(SignInSession) == 0
        assert site.nobody().hold(str(stolen)).get("/profiles/").status_code == 303

    def test_a_cookie_in_another_browser_is_the_same_session(self, site: Site, alice: Browser) -> None:
        assert site.nobody().hold(str(alice.cookie())).get("/profiles/").status_code == 200

    def test_sign_out_by_htmx_loads_the_sign_in_page(self, alice: Browser) -> None:
        answer = alice.post("/logout", htmx=True)
        assert (answer.status_code, answer.headers["HX-Redirect"]) == (200, "/login")

    def test_sign_out_is_no_link(self, site: Site, alice: Browser) -> None:
        assert alice.get("/logout").status_code == 405
        assert site.count(SignInSession) == 1

    def test_sign_out_ends_one_browser_only(self, site: Site, alice: Browser) -> None:
        other = site.signed_in("alice")
        alice.post("/logout")
        assert other.get("/profiles/").status_code == 200

    @pytest.mark.parametrize("change", [{"disabled": True}, {"session_epoch": 1}])
    def test_disabling_somebody_ends_their_sessions_at_the_next_request(
        self, site: Site, alice: Browser, change: dict[str, object]
    ) -> None:
        with site.services.db.write() as session:
            session.execute(update(User).where(User.username == "alice").values(**change))
        assert alice.get("/profiles/").status_code == 303

    def test_it_ends_after_seven_idle_days(self, site: Site, alice: Browser) -> None:
        site.clock.advance(days=6, hours=23)
        assert alice.get("/profiles/").status_code == 200
        site.clock.advance(days=6, hours=23)
        assert alice.get("/profiles/").status_code == 200
        site.clock.advance(days=7)
        assert alice.get("/profiles/").status_code == 303

    def test_it_ends_after_thirty_days_whatever_happens(self, site: Site, alice: Browser) -> None:
        codes = []
        for _ in range(31):
            site.clock.advance(days=1)
            codes.append(alice.get("/profiles/").status_code)
        assert codes == [200] * 29 + [303] * 2

    def test_only_the_hash_of_its_id_is_stored(self, site: Site, alice: Browser) -> None:
        with alice.client.session_transaction(base_url=alice.base_url) as cookie:
            token = cookie["sid"]
        with site.services.db.read() as session:
            assert token not in str(vars(session.query(SignInSession).one()))

    @pytest.mark.parametrize("cookie", ["", "x", "a.b.c", "é", "x" * 4000])
    def test_a_forged_cookie_is_nobody(self, site: Site, nobody: Browser, cookie: str) -> None:
        assert nobody.hold(cookie).get("/profiles/").status_code == 303


class TestNext:
    """Where a sign-in leads back to: a path of this very site, nothing else."""

    def test_somebody_who_was_sent_away_comes_back(self, site: Site, nobody: Browser) -> None:
        site.person("alice")
        answer = nobody.get("/profiles/7?x=1&y=%2F")
        assert (answer.status_code, answer.location) == (303, "/login?next=/profiles/7?x%3D1%26y%3D%252F")
        form = nobody.get(answer.location)
        assert '<input type="hidden" name="next" value="/profiles/7?x=1&amp;y=%2F">' in form.text
        answer = nobody.sign_in("alice", next="/profiles/7?x=1&y=%2F")
        assert answer.location == "/profiles/7?x=1&y=%2F"

    def test_a_wrong_password_keeps_it(self, nobody: Browser) -> None:
        answer = nobody.sign_in("alice", "wrong", next="/tokens")
        assert '<input type="hidden" name="next" value="/tokens">' in answer.text

    def test_who_is_signed_in_already_goes_straight_on(self, alice: Browser) -> None:
        assert alice.get("/login").location == "/profiles/"
        assert alice.get("/login?next=/tokens").location == "/tokens"

    def test_a_form_that_was_not_sent_is_not_repeated(self, nobody: Browser) -> None:
        answer = nobody.post("/profiles/", {"name": "phone"})
        assert (answer.status_code, answer.location) == (303, "/login")

    @pytest.mark.parametrize(
        "target",
        [
            "https://evil.example/",
            "//evil.example/",
            "///evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "/\t/evil.example",
            "/ /evil.example",
            " /tokens",
            "/tokens\r\nSet-Cookie: a=b",
            "/\x00tokens",
            "javascript:alert(1)",
            "data:text/html,x",
            "tokens",
            "http:/evil.example",
            "?x=//evil.example",
            "",
            "/" + "x" * 500,
        ],
    )
    def test_an_odd_target_is_forgotten(self, site: Site, nobody: Browser, target: str) -> None:
        assert local_path(target) is None
        site.person("alice")
        assert nobody.sign_in("alice", next=target).location == "/profiles/"

    @pytest.mark.parametrize("target", ["/", "/tokens", "/profiles/?before=7", "/profiles/é.conf", "/a//b", "/a@b:c"])
    def test_a_local_path_is_kept(self, target: str) -> None:
        assert local_path(target) == target


def test_nobody_signs_out_by_being_sent_to_the_sign_in(nobody: Browser) -> None:
    answer = nobody.post("/logout")
    assert (answer.status_code, answer.location) == (303, "/login")


def test_a_script_without_a_csrf_token_gets_problem_json(site: Site) -> None:
    answer = site.nobody(headers={"Accept": "*/*"}).open("/login", "POST", data={"username": "a", "password": "b"})
    assert (answer.status_code, answer.mimetype) == (403, PROBLEM)


def test_last_seen_is_written_every_five_minutes_at_most(site: Site, alice: Browser) -> None:
    def last_seen() -> object:
        with site.services.db.read() as session:
            return session.query(SignInSession).one().last_seen_at

    begin = last_seen()
    site.clock.advance(minutes=4)
    alice.get("/profiles/")
    assert last_seen() == begin
    site.clock.advance(minutes=1)
    alice.get("/profiles/")
    assert last_seen() == site.clock.now
    assert site.clock.now - begin == timedelta(minutes=5)  # type: ignore[operator]
