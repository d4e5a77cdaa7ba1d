"""One's devices over HTTP: list, add, show, file, QR code, delete; as form, as htmx, as a stranger, as nobody."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from urllib.parse import unquote

import pytest
from markupsafe import escape
from sqlalchemy import event, update

from tests.web.conftest import PROBLEM, Browser, Site
from webapp.domain.wgconf_parser import parse_config
from webapp.models import AddressSequence, AuditEvent, ReleasedAddress, Server, User, VpnProfile
from webapp.services.servers import Problem

NO_ADDRESS = "No address is free. Tell the person who runs this server."
NO_ENDPOINT = "The server&#39;s address is not set yet. The person who runs it can set it."


def names_on(page: str) -> list[str]:
    return re.findall(r'<h2><a href="[^"]+"><bdi>([^<]*)</bdi>', page)


def lede(browser: Browser, path: str = "/profiles/") -> str:
    """Return the sentence that sums up the list."""
    found = re.search(r'<p class="lede">(.*?)</p>', browser.get(path).text, re.DOTALL)
    assert found
    return " ".join(found[1].split())


class TestCreate:
    """One word makes a device."""

    def test_a_form_gets_a_flash_and_303_to_the_list(self, alice: Browser) -> None:
        answer = alice.post("/profiles/", {"name": "phone"})
        assert (answer.status_code, answer.location) == (303, "/profiles/")
        page = alice.get("/profiles/").text
        assert '<p class="note is-open">phone was added.</p>' in page
        assert names_on(page) == ["phone"]

    def test_htmx_gets_the_list_the_empty_field_and_the_news(self, alice: Browser) -> None:
        answer = alice.post("/profiles/", {"name": "phone"}, htmx=True)
        assert answer.status_code == 200
        assert "<html" not in answer.text
        assert answer.text.lstrip().startswith('<section class="stack" id="devices"')
        assert 'name="name" value=""' in answer.text
        assert names_on(answer.text) == ["phone"]
        news = '<p class="note is-open"><span><b><bdi>phone</bdi></b> was added.'
        assert f'<div hx-swap-oob="innerHTML:#messages">{news}' in answer.text
        # The flash is the plain form's; a later page must not say it again.
        assert "was added" not in alice.get("/profiles/").text

    @pytest.mark.parametrize("htmx", [False, True])
    @pytest.mark.parametrize(
        ("name", "sentence"),
        [
            ("", "Please type a name."),
            (" \u00a0", "Please type a name."),
            ("x" * 65, "This name is too long: 64 characters at most."),
            ("a\nb", "This name holds a character that cannot be shown."),
            ("a\u0085b", "This name holds a character that cannot be shown."),
            ("a\u202eb", "This name holds a character that cannot be shown."),
            ("a\x00b", "This name holds a character that cannot be shown."),
            ("a/b", "A name cannot hold a slash."),
            (".hidden", "A name cannot begin with a dot."),
            ("123", "A name needs more than digits."),
            ("Phone", "You already have a “Phone”. Try “Phone 2”."),
        ],
    )
    def test_a_bad_name_is_422_at_the_field_and_takes_no_address(
        self, site: Site, alice: Browser, name: str, sentence: str, htmx: bool
    ) -> None:
        site.profile("phone")
        answer = alice.post("/profiles/", {"name": name}, htmx=htmx)
        assert answer.status_code == 422
        assert ("<html" in answer.text) is not htmx
        assert f'<p class="wrong" id="name-wrong">{sentence}</p>' in answer.text
        assert 'aria-invalid="true" aria-describedby="name-wrong"' in answer.text
        if name.isprintable():
            assert f'name="name" value="{name}"' in answer.text
        assert site.count(VpnProfile) == 1
        with site.services.db.read() as session:
            assert session.query(AddressSequence).one().next_index == 3

    def test_a_missing_field_is_422(self, alice: Browser) -> None:
        assert alice.post("/profiles/").status_code == 422

    @pytest.mark.parametrize(
        "name", ["<script>alert(1)<script>", '"><img src=x>', "Ünïcödé 📱", "{{ 7*7 }}", "a%sb%(x)s"]
    )
    def test_a_strange_name_is_stored_as_it_is_and_shown_escaped(self, alice: Browser, name: str) -> None:
        shown = str(escape(name))
        assert names_on(alice.post("/profiles/", {"name": name}, htmx=True).text) == [shown]
        for path in ("/profiles/", "/profiles/1", "/profiles/1/delete"):
            page = alice.get(path)
            assert page.status_code == 200
            assert page.text.count(name) == (page.text.count(shown) if name == shown else 0)

    def test_a_full_pool_is_409_and_leaves_no_half_row(self, make_site: Callable[..., Site]) -> None:
        site = make_site(WG_NETWORK="10.8.0.0/30")
        alice = site.signed_in()
        alice.post("/profiles/", {"name": "one"})
        audited = site.count(AuditEvent)
        answer = alice.post("/profiles/", {"name": "two"})
        assert answer.status_code == 409
        assert NO_ADDRESS in answer.text
        answer = alice.post("/profiles/", {"name": "two"}, htmx=True)
        assert (answer.status_code, answer.headers["HX-Retarget"], answer.headers["HX-Reswap"]) == (
            409,
            "#messages",
            "innerHTML",
        )
        assert answer.text == f'<p class="note is-blocked">{NO_ADDRESS}</p>'
        assert (site.count(VpnProfile), site.count(AuditEvent)) == (1, audited)

    def test_past_the_limit_of_a_person_it_is_409_and_the_page_offers_no_field(
        self, site: Site, alice: Browser
    ) -> None:
        site.profile("phone")
        with site.services.db.write() as session:
            session.execute(update(User).values(profile_limit=1))
        answer = alice.post("/profiles/", {"name": "tablet"})
        assert answer.status_code == 409
        assert "You have 1 of 1 devices. Delete one first." in answer.text
        page = alice.get("/profiles/").text
        assert "You have 1 of 1 devices. Delete one first." in page
        assert 'name="name"' not in page

    def test_two_people_may_use_the_same_name(self, site: Site, alice: Browser, mallory: Browser) -> None:
        alice.post("/profiles/", {"name": "phone"})
        assert mallory.post("/profiles/", {"name": "phone"}).status_code == 303

    def test_nobody_makes_nothing(self, site: Site, nobody: Browser) -> None:
        assert nobody.post("/profiles/", {"name": "phone"}).status_code == 303
        answer = nobody.post("/profiles/", {"name": "phone"}, htmx=True)
        assert (answer.status_code, answer.headers["HX-Redirect"]) == (401, "/login")
        assert site.count(VpnProfile) == 0

    def test_a_posted_id_or_owner_is_not_listened_to(self, site: Site, alice: Browser) -> None:
        mallory = site.person("mallory")
        alice.post("/profiles/", {"name": "phone", "id": "77", "user_id": str(mallory.id), "ipv4_address": "10.8.0.99"})
        with site.services.db.read() as session:
            row = session.query(VpnProfile).one()
        assert (row.id, row.ipv4_address) == (1, "10.8.0.2")
        assert row.user_id != mallory.id


class TestList:
    """The newest first, fifty to a page, at a cost that does not grow."""

    def test_without_devices_it_says_how_to_begin(self, alice: Browser) -> None:
        assert "<h2>No devices yet</h2><p>Add the first one. It takes a minute.</p>" in alice.get("/profiles/").text

    def test_one_sees_ones_own(self, site: Site, alice: Browser, mallory: Browser) -> None:
        site.profile("phone")
        assert names_on(alice.get("/profiles/").text) == ["phone"]
        assert names_on(mallory.get("/profiles/").text) == []

    def test_more_than_fifty_are_paged_and_nothing_is_lost(self, site: Site, alice: Browser) -> None:
        made = [site.profile(f"device {number:03}").name for number in range(101)]
        seen: list[str] = []
        path: str | None = "/profiles/"
        pages = []
        while path is not None:
            page = alice.get(path).text
            pages.append(page)
            seen += names_on(page)
            found = re.search(r'rel="next" href="([^"]+)"', page)
            path = None if found is None else found[1]
        assert seen == made[::-1]
        assert [len(names_on(page)) for page in pages] == [50, 50, 1]
        assert ['rel="prev"' in page for page in pages] == [False, True, True]

    def test_a_page_of_a_longer_list_asks_for_its_own_gates(self, site: Site, alice: Browser) -> None:
        for number in range(51):
            site.profile(f"device {number:03}")
        second = alice.get("/profiles/?before=2")
        assert 'hx-get="/profiles/gates?before=2"' in second.text
        assert names_on(alice.get("/profiles/gates?before=2", htmx=True).text) == ["device 000"]

    def test_a_page_past_the_end_does_not_say_that_there_is_nothing(self, site: Site, alice: Browser) -> None:
        site.profile("phone")
        page = alice.get("/profiles/?before=1").text
        assert "No devices yet" not in page
        assert 'rel="prev" href="/profiles/"' in page

    @pytest.mark.parametrize("before", ["x", "-1", "1.5", "9" * 30, "²", "1 OR 1=1"])
    def test_a_page_that_is_no_number_is_404(self, alice: Browser, before: str) -> None:
        for path in ("/profiles/", "/profiles/gates"):
            answer = alice.get(path, query_string={"before": before}, htmx=path.endswith("gates"))
            assert answer.status_code == 404

    def test_it_asks_the_database_as_often_for_fifty_as_for_one(self, make_site: Callable[..., Site]) -> None:
        site = make_site(is_fresh=True)
        alice = site.signed_in()
        asked: list[str] = []
        event.listen(site.services.db.engine, "before_cursor_execute", lambda *words: asked.append(words[2]))
        site.profile("device")
        counts = []
        for more in (0, 49):
            for number in range(more):
                site.profile(f"device {number}")
            asked.clear()
            alice.get("/profiles/")
            counts.append(len([line for line in asked if line.startswith("SELECT")]))
        assert counts[0] == counts[1] <= 6

    def test_the_sentence_sums_up(self, managed: Site) -> None:
        alice = managed.signed_in()
        phone, tablet = managed.profile("phone"), managed.profile("tablet")
        agent = managed.agent()
        assert lede(alice) == "None is connected right now. 2 wait for the server."
        agent.report()
        assert lede(alice) == "None is connected right now. 2 are being activated."
        agent.look()
        assert lede(alice) == "None is connected right now."
        agent.hear(phone.public_key, managed.clock.now)
        assert lede(alice) == "One is connected."
        agent.hear(tablet.public_key, managed.clock.now)
        assert lede(alice) == "All are connected."

    def test_all_are_connected_is_said_of_the_whole_list_only(self, managed: Site) -> None:
        alice = managed.signed_in()
        made = [managed.profile(f"device {number}") for number in range(51)]
        agent = managed.agent()
        agent.look()
        for profile in made[1:]:
            agent.wg.hear(profile.public_key, rx=1, tx=1, at=managed.clock.now)
        agent.look()
        assert lede(alice) == "50 are connected."
        assert lede(alice, "/profiles/?before=2") == "None is connected right now."

    def test_opened_by_hand_the_gates_lead_to_the_list(self, alice: Browser) -> None:
        answer = alice.get("/profiles/gates")
        assert (answer.status_code, answer.location) == (303, "/profiles/")

    def test_the_front_door_leads_to_the_list(self, alice: Browser) -> None:
        assert alice.get("/").location == "/profiles/"

    def test_a_missing_address_of_the_server_is_told_with_the_way_to_mend_it(
        self, make_site: Callable[..., Site]
    ) -> None:
        site = make_site(WG_ENDPOINT=None)
        sentence = "The server&#39;s address is not set yet: devices can be added, but have no file."
        told = f'<p class="note is-fetch"><span>{sentence}'
        assert f"{told}</span></p>" in site.signed_in("alice").get("/profiles/").text
        assert f'{told} <a href="/server">Go to the server page</a></span></p>' in site.admin().get("/profiles/").text


class TestStates:
    """A device's state in words, on its row and on its page."""

    def both(self, browser: Browser) -> tuple[str, str]:
        gates, status = browser.get("/profiles/gates", htmx=True), browser.get("/profiles/1/status", htmx=True)
        assert (gates.status_code, status.status_code) == (200, 200)
        assert "<html" not in gates.text + status.text
        return gates.text, status.text

    def test_it_is_activated_then_ready_then_connected_then_away(self, managed: Site) -> None:
        alice = managed.signed_in()
        phone = managed.profile()
        agent = managed.agent()
        agent.report()
        gates, status = self.both(alice)
        assert '<p class="state is-pending">Activating…</p>' in gates
        assert 'hx-trigger="every 1s"' in gates
        assert "<b>Activating…</b>" in status
        assert 'hx-trigger="every 1s"' in status
        agent.look()
        gates, status = self.both(alice)
        assert '<p class="state is-ready">Ready <span>not used yet</span></p>' in gates
        assert "Show me how" in gates
        assert "<b>Waiting for the first connection…</b>" in status
        assert 'hx-trigger="every 2s"' in status
        agent.hear(phone.public_key, managed.clock.now, rx=1_300_000, tx=412_000_000)
        managed.clock.advance(seconds=3)
        gates, status = self.both(alice)
        assert (
            '<p class="state is-open">Connected <span><time datetime="2026-03-04T05:06:07+00:00">3\u00a0s ago' in gates
        )
        assert "Downloaded <b><bdi>412\u00a0MB</bdi></b>" in gates
        assert "Uploaded <b><bdi>1.3\u00a0MB</bdi></b>" in gates
        assert "<b>Connected.</b>" in status
        managed.clock.advance(days=1, hours=2)
        gates, status = self.both(alice)
        assert '<p class="state is-ready">Away <span>seen <time datetime="2026-03-04T05:06:07+00:00">yesterday' in gates
        assert "<b>Away</b>" in status

    def test_what_stands_in_the_way_is_said(self, managed: Site) -> None:
        alice = managed.signed_in()
        managed.profile()
        reason = "The part of the server that lets devices in is not running."
        gates, status = self.both(alice)
        assert f'<p class="state is-pending">Waiting for the server</p>\n<p class="use">{reason}</p>' in gates
        assert f'<b>Waiting for the server</b> <span class="small">{reason}</span>' in status
        assert 'hx-trigger="every 3s"' in gates
        managed.agent().report(Problem("No tunnel", "wg is not <b>installed</b>: 100 %."), is_up=False)
        gates, status = self.both(alice)
        assert "wg is not &lt;b&gt;installed&lt;/b&gt;: 100 %." in gates
        assert "wg is not &lt;b&gt;installed&lt;/b&gt;: 100 %." in status

    def test_a_changed_server_asks_for_a_new_download(self, site: Site, alice: Browser) -> None:
        site.profile()
        alice.get("/profiles/phone.conf")
        with site.services.db.write() as session:
            session.execute(update(Server).values(revision=Server.revision + 1))
        gates, _ = self.both(alice)
        assert '<p class="state is-fetch">Download again <span>server changed</span></p>' in gates
        assert "Get the new file" in gates
        assert lede(alice) == "None is connected right now. One needs a new file."
        alice.get("/profiles/phone.conf")
        assert "Download again" not in self.both(alice)[0]

    def test_one_that_is_off_or_over_says_so(self, site: Site, alice: Browser) -> None:
        site.profile()
        with site.services.db.write() as session:
            session.execute(update(VpnProfile).values(enabled=False))
        gates, status = self.both(alice)
        assert '<p class="state is-shut">Off <span>' in gates
        assert "<b>Off</b>" in status
        with site.services.db.write() as session:
            session.execute(update(VpnProfile).values(expires_at=site.clock.now))
        gates, status = self.both(alice)
        assert (
            '<p class="state is-shut">Expired <span><time datetime="2026-03-04T05:06:07.890000+00:00">4\u00a0Mar'
            in gates
        )
        assert "<b>Expired</b>" in status

    def test_without_javascript_a_page_loads_itself_again_only_while_a_moment_is_awaited(self, managed: Site) -> None:
        again = '<noscript><meta http-equiv="refresh" content="3"></noscript>'
        alice = managed.signed_in()
        managed.profile()
        pages = ("/profiles/", "/profiles/1")
        # The agent is not there: it would go on for ever, and take away what somebody types.
        assert [again in alice.get(path).text for path in pages] == [False, False]
        agent = managed.agent()
        agent.report()
        assert [again in alice.get(path).text for path in pages] == [True, True]
        refused = alice.post("/profiles/", {"name": ""})
        assert "http-equiv" not in refused.text
        agent.look()
        assert [again in alice.get(path).text for path in pages] == [False, False]

    def test_opened_by_hand_the_status_leads_to_the_device(self, site: Site, alice: Browser) -> None:
        site.profile()
        assert alice.get("/profiles/1/status").location == "/profiles/1"


class TestShow:
    """The device's own page."""

    def test_it_has_the_file_the_code_the_steps_and_the_line(self, site: Site, alice: Browser) -> None:
        site.profile()
        page = alice.get("/profiles/1")
        assert page.status_code == 200
        assert '<a class="btn main wide" href="/profiles/1.conf">Download file</a>' in page.text
        assert '<img src="/profiles/1/qr.svg" alt="QR code of the file for phone"' in page.text
        assert "Install WireGuard" in page.text
        assert "PrivateKey" not in page.text

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("phone", ["curl", "-fsSO", "http://127.0.0.1:8000/profiles/phone.conf"]),
            ("my phone", ["curl", "-fsS", "-o", "my-phone.conf", "http://127.0.0.1:8000/profiles/my%20phone.conf"]),
            ("$(reboot) `x` '\"", ["curl", "-fsS", "-o", "reboot-x.conf", "…"]),
        ],
    )
    def test_the_curl_line_is_ready_to_copy_and_safe_in_a_shell(
        self, site: Site, alice: Browser, name: str, words: list[str]
    ) -> None:
        profile = site.profile(name)
        found = re.search(r'<code id="curl-line" dir="ltr">([^<]+)</code>', alice.get(f"/profiles/{profile.id}").text)
        assert found
        line = found[1].replace("&#34;", '"').replace("&#39;", "'").replace("&amp;", "&")
        said = shlex.split(line)
        assert [word for word in said if word not in {"-H", "Authorization: Bearer $TOKEN"}][:-1] == words[:-1]
        address = said[-1]
        assert words[-1] in ("…", address)
        assert not set("$`'\"();&|<> ") & set(address)
        fetched = site.script().get(address.removeprefix("http://127.0.0.1:8000"))
        assert (fetched.status_code, fetched.mimetype) == (200, "application/octet-stream")

    def test_without_an_address_of_the_server_it_says_what_is_missing(self, make_site: Callable[..., Site]) -> None:
        site = make_site(WG_ENDPOINT=None)
        alice = site.signed_in()
        site.profile()
        page = alice.get("/profiles/1").text
        assert f"<b>The file cannot be made yet.</b> {NO_ENDPOINT}" in page
        assert "Download file</a>" not in page
        assert "qr.svg" not in page

    @pytest.mark.parametrize("path", ["/profiles/0", "/profiles/2", "/profiles/99999999999999999999", "/profiles/-1"])
    def test_an_id_that_is_none_is_404(self, site: Site, alice: Browser, path: str) -> None:
        site.profile()
        assert alice.get(path).status_code == 404


class TestDownload:
    """The file, by session or by token."""

    @pytest.mark.parametrize("ref", ["1", "phone", "PHONE", "%70hone"])
    def test_it_comes_by_id_and_by_name_whatever_the_case(self, site: Site, alice: Browser, ref: str) -> None:
        profile = site.profile()
        answer = alice.get(f"/profiles/{ref}.conf")
        assert answer.status_code == 200
        section = parse_config(answer.text).interface
        assert section is not None
        assert [str(address) for address in section.addresses] == [f"{profile.ipv4_address}/32"]

    def test_its_headers_make_it_a_file_that_nobody_keeps(self, site: Site, alice: Browser) -> None:
        site.profile("my phone")
        answer = alice.get("/profiles/1.conf")
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert (
            answer.headers["Content-Disposition"]
            == "attachment; filename=\"my-phone.conf\"; filename*=UTF-8''my-phone.conf"
        )
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"

    @pytest.mark.parametrize("name", ["Телефон", 'a"b\\c;d', "x" * 64, "COM1", "-rf", "a=b+c", "a..b", "*"])
    def test_its_name_is_one_that_wg_quick_takes(self, site: Site, alice: Browser, name: str) -> None:
        profile = site.profile(name)
        disposition = alice.get(f"/profiles/{profile.id}.conf").headers["Content-Disposition"]
        found = re.fullmatch(r"attachment; filename=\"([^\"]+)\"; filename\*=UTF-8''(\S+)", disposition)
        assert found
        assert re.fullmatch(r"[a-zA-Z0-9_=+.-]{1,15}\.conf", found[1])
        assert unquote(found[2]) == found[1]

    def test_a_head_request_is_no_delivery(self, site: Site, alice: Browser) -> None:
        site.profile()
        head = alice.open("/profiles/1.conf", "HEAD")
        assert (head.status_code, head.data) == (200, b"")
        assert self.delivered(site) is None
        alice.get("/profiles/1.conf")
        assert self.delivered(site) == 1

    def delivered(self, site: Site) -> int | None:
        with site.services.db.read() as session:
            return session.query(VpnProfile).one().delivered_revision

    def test_a_qr_code_is_no_delivery_and_holds_the_file(self, site: Site, alice: Browser) -> None:
        site.profile()
        answer = alice.get("/profiles/1/qr.svg")
        assert (answer.status_code, answer.mimetype) == (200, "image/svg+xml")
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.text.startswith("<svg ")
        assert "style=" not in answer.text
        assert self.delivered(site) is None

    @pytest.mark.parametrize("path", ["/profiles/1.conf", "/profiles/phone.conf", "/profiles/1/qr.svg"])
    def test_without_an_address_of_the_server_it_is_409_with_the_sentence(
        self, make_site: Callable[..., Site], path: str
    ) -> None:
        site = make_site(WG_ENDPOINT=None)
        site.profile()
        assert NO_ENDPOINT in site.signed_in().get(path).text
        answer = site.script().get(path)
        assert (answer.status_code, answer.mimetype) == (409, PROBLEM)
        assert answer.get_json()["detail"] == (
            "The server's address is not set yet. The person who runs it can set it."
        )

    def test_somebody_elses_file_looks_like_none(self, site: Site, mallory: Browser) -> None:
        site.profile()
        for foreign, missing in (("1.conf", "2.conf"), ("phone.conf", "tablet.conf"), ("1/qr.svg", "2/qr.svg")):
            one, other = mallory.get(f"/profiles/{foreign}"), mallory.get(f"/profiles/{missing}")
            assert (one.status_code, one.data) == (404, other.data)

    def test_nobody_with_curl_gets_401_and_no_empty_file(self, site: Site) -> None:
        site.profile()
        answer = site.nobody(headers={"Accept": "*/*"}).get("/profiles/phone.conf")
        assert (answer.status_code, answer.mimetype) == (401, PROBLEM)
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="Postern"'

    @pytest.mark.parametrize("scope", ["read", "manage", "all"])
    def test_every_token_of_the_person_opens_it(self, site: Site, scope: str) -> None:
        site.profile()
        assert site.script(site.token(scope=scope)).get("/profiles/phone.conf").status_code == 200

    @pytest.mark.parametrize("token", ["wrong", "postern_" + "x" * 32, "é", ""])
    def test_a_wrong_token_is_401_even_beside_a_good_session(self, site: Site, alice: Browser, token: str) -> None:
        site.profile()
        header = {"Authorization": f"Bearer {token}", "Accept": "*/*"}
        answer = alice.get("/profiles/phone.conf", headers=header)
        assert answer.status_code == (401 if token else 200)


class TestDelete:
    """Asked first, then gone."""

    def test_the_question_deletes_nothing(self, site: Site, alice: Browser) -> None:
        site.profile("<i>phone")
        page = alice.get("/profiles/1/delete")
        assert page.status_code == 200
        assert "<h1>Delete <bdi>&lt;i&gt;phone</bdi>?</h1>" in page.text
        assert site.count(VpnProfile) == 1

    def test_a_form_gets_a_flash_and_303(self, site: Site, alice: Browser) -> None:
        site.profile()
        answer = alice.post("/profiles/1/delete")
        assert (answer.status_code, answer.location) == (303, "/profiles/")
        page = alice.get("/profiles/").text
        assert "phone was deleted." in page
        assert names_on(page) == []
        assert (site.count(VpnProfile), site.count(ReleasedAddress)) == (0, 1)
        assert alice.get("/profiles/1").status_code == 404

    def test_htmx_gets_the_list_without_it(self, site: Site, alice: Browser) -> None:
        site.profile("phone")
        site.profile("tablet")
        answer = alice.post("/profiles/1/delete", htmx=True)
        assert answer.status_code == 200
        assert names_on(answer.text) == ["tablet"]

    def test_twice_is_404(self, site: Site, alice: Browser) -> None:
        site.profile()
        alice.post("/profiles/1/delete")
        assert alice.post("/profiles/1/delete").status_code == 404
        assert site.count(ReleasedAddress) == 1

    def test_a_stranger_is_told_what_a_missing_one_is_told_and_deletes_nothing(
        self, site: Site, mallory: Browser
    ) -> None:
        site.profile()
        for method in ("GET", "POST"):
            for htmx in (False, True):
                data = {"csrf_token": mallory.csrf()} if method == "POST" else None
                answers = [
                    mallory.open(f"/profiles/{number}/delete", method, htmx=htmx, data=data) for number in (1, 2)
                ]
                assert {(answer.status_code, answer.data) for answer in answers} == {(404, answers[0].data)}
        assert site.count(VpnProfile) == 1

    def test_nobody_deletes_nothing(self, site: Site, nobody: Browser) -> None:
        site.profile()
        assert nobody.post("/profiles/1/delete").status_code == 303
        assert site.count(VpnProfile) == 1


def test_an_agent_that_is_silent_for_thirty_seconds_counts_as_gone(managed: Site) -> None:
    alice = managed.signed_in()
    managed.profile()
    managed.agent().report()
    managed.clock.advance(seconds=30)
    assert "Waiting for the server" in alice.get("/profiles/").text
