"""The server's row: decided once, kept equal to what the environment pins, and never at the cost of a profile."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
from sqlalchemy import select, update

from tests.fakes import Clock
from webapp.domain.keys import PrivateKey
from webapp.errors import FieldProblem, InvalidFields, NotPermitted, SettingsInvalid
from webapp.models import AgentReport, AuditEvent, ChangeSeq, Server, VpnProfile
from webapp.services.audit import Actor
from webapp.services.database import Database
from webapp.services.servers import PRIVATE_KEY, Problem, ServerService, ServerView, decide_mode
from webapp.services.vault import Vault
from webapp.services.wg import Tools, public_key_of
from webapp.settings import Settings
from webapp.wiring import Services, build_services

ALICE = Actor("alice", 1)
PUBLIC = "iooU8XWoS7Up5EBO+O5JqpMfiLISaBSSeLGQRgbW3Ds="
PRIVATE = "IHrBh72hXlAQV0h8OuxLrWKOrEKirM+fOd4vOiptOV4="
NO_TOOLS = Tools()
MODES = ("off", "manage", "adopt")
FLAGS = (False, True)
Prepare = Callable[..., tuple[ServerView, bool]]


@pytest.fixture
def prepare(environ: dict[str, str], database: Database, clock: Clock) -> Prepare:
    """Run what ``db upgrade`` runs, with further variables, on the same database each time."""

    def run(
        wanted_mode: str = "off",
        *,
        tools: Tools = NO_TOOLS,
        interface_exists: bool = False,
        can_manage: bool = False,
        **variables: str,
    ) -> tuple[ServerView, bool]:
        services = wired({**environ, **variables}, database, clock)
        return services.servers.prepare(wanted_mode, tools, interface_exists=interface_exists, can_manage=can_manage)

    return run


def wired(environ: dict[str, str], database: Database, clock: Clock) -> Services:
    return build_services(Settings.from_env(environ), database, Tools(), clock=clock)


@pytest.fixture
def give_profile(environ: dict[str, str], database: Database, clock: Clock) -> Callable[[], None]:
    """Make a person with one profile."""

    def give() -> None:
        services = wired(environ, database, clock)
        person = services.accounts.create_user("alice", None)
        services.profiles.create_profile(person.id, "phone", ALICE)

    return give


def row_of(db: Database) -> Server:
    with db.read() as session:
        return session.scalars(select(Server)).one()


def sequence_of(db: Database) -> int | None:
    with db.read() as session:
        return session.scalar(select(ChangeSeq.value))


class TestMode:
    @pytest.mark.parametrize(
        ("wanted", "decided", "exists", "can_manage", "mode"),
        [
            ("auto", None, False, False, "off"),
            ("auto", None, False, True, "manage"),
            ("auto", None, True, False, "adopt"),
            ("auto", None, True, True, "adopt"),
            *(("auto", decided, *flags, decided) for decided, *flags in product(MODES, FLAGS, FLAGS)),
            *((wanted, decided, True, True, wanted) for wanted, decided in product(MODES, (None, *MODES))),
        ],
    )
    def test_auto_decides_once_and_a_word_wins(
        self, wanted: str, decided: str | None, exists: bool, can_manage: bool, mode: str
    ) -> None:
        assert decide_mode(wanted, decided, interface_exists=exists, can_manage=can_manage) == mode

    def test_an_interface_that_postern_made_stays_managed(self, prepare: Prepare) -> None:
        assert prepare("auto", can_manage=True)[0].mode == "manage"
        assert prepare("auto", can_manage=True, interface_exists=True)[0].mode == "manage"

    def test_off_is_decided_again_while_nothing_hangs_on_it(self, prepare: Prepare) -> None:
        assert prepare("auto")[0].mode == "off"
        assert prepare("auto", can_manage=True)[0].mode == "manage"

    def test_off_stays_once_there_are_profiles(self, prepare: Prepare, give_profile: Callable[[], None]) -> None:
        prepare("auto")
        give_profile()
        assert prepare("auto", can_manage=True)[0].mode == "off"
        assert prepare("manage", can_manage=True)[0].mode == "manage"


class TestPrepare:
    def test_a_new_server_has_keys_and_defaults(self, prepare: Prepare, database: Database) -> None:
        server, is_new = prepare()
        row = row_of(database)
        assert is_new
        assert (
            row.name,
            row.interface,
            row.interface_mode,
            row.endpoint,
            row.listen_port,
            row.network,
            row.network6,
        ) == (*("awg0", "awg0", "off", "198.51.100.1:51820", 51820, "10.8.0.0/24", None),)
        assert (row.dns, row.allowed_ips, row.mtu, row.persistent_keepalive, row.obfuscation, row.revision) == (
            *("1.1.1.1, 1.0.0.1", "0.0.0.0/0, ::/0", None, 25, {}, 1),
        )
        assert (server.mtu, str(server.public_key)) == (1420, row.public_key)

    def test_its_private_key_is_sealed_and_belongs_to_the_public_one(
        self, prepare: Prepare, database: Database, environ: dict[str, str]
    ) -> None:
        prepare()
        row = row_of(database)
        assert row.private_key is not None
        assert row.public_key is not None
        private = PrivateKey(Vault(environ["ENCRYPTION_KEY"]).open(PRIVATE_KEY, row.public_key, row.private_key))
        assert str(public_key_of(private)) == row.public_key
        assert private.raw not in row.private_key

    def test_a_second_time_nothing_changes(self, prepare: Prepare, database: Database) -> None:
        first, _ = prepare()
        before = sequence_of(database)
        assert prepare() == (first, False)
        assert sequence_of(database) == before

    def test_with_awg_a_managed_server_gets_parameters_that_stay(self, prepare: Prepare) -> None:
        awg = Tools(awg="/usr/bin/awg")
        server, _ = prepare("manage", tools=awg)
        assert server.obfuscation.generation == "2.0"
        assert prepare("manage", tools=awg)[0].obfuscation == server.obfuscation

    @pytest.mark.parametrize(
        ("mode", "tools"), [("off", Tools(awg="/usr/bin/awg")), ("manage", Tools(wg="/usr/bin/wg"))]
    )
    def test_otherwise_it_is_plain_wireguard(self, prepare: Prepare, mode: str, tools: Tools) -> None:
        assert not prepare(mode, tools=tools)[0].obfuscation

    def test_an_adopted_server_has_no_keys_of_ours(self, prepare: Prepare, database: Database) -> None:
        prepare("adopt")
        assert (row_of(database).public_key, row_of(database).private_key) == (None, None)

    def test_what_clients_know_raises_the_revision_once(self, prepare: Prepare, database: Database) -> None:
        prepare()
        before = sequence_of(database)
        assert before is not None
        assert prepare(WG_DNS="9.9.9.9", WG_MTU="1280", WG_ENDPOINT="vpn.example.net:443")[0].revision == 2
        assert sequence_of(database) == before + 1
        assert prepare(WG_DNS="9.9.9.9", WG_MTU="1280", WG_ENDPOINT="vpn.example.net:443")[0].revision == 2

    def test_a_pinned_private_key_is_used_and_sealed(self, prepare: Prepare, database: Database) -> None:
        server, _ = prepare("manage", WG_SERVER_PRIVATE_KEY=PRIVATE, WG_SERVER_PUBLIC_KEY=PUBLIC)
        assert str(server.public_key) == PUBLIC
        stored = row_of(database).private_key
        assert stored is not None
        assert PrivateKey.from_base64(PRIVATE).raw not in stored

    def test_a_pinned_public_key_alone_is_enough_without_an_interface(
        self, prepare: Prepare, database: Database
    ) -> None:
        assert str(prepare("off", WG_SERVER_PUBLIC_KEY=PUBLIC)[0].public_key) == PUBLIC
        assert row_of(database).private_key is None

    @pytest.mark.parametrize(
        ("mode", "variables", "problem"),
        [
            (
                "manage",
                {"WG_SERVER_PUBLIC_KEY": PUBLIC},
                "WG_SERVER_PUBLIC_KEY: mode manage needs WG_SERVER_PRIVATE_KEY as well",
            ),
            (
                "off",
                {"WG_SERVER_PUBLIC_KEY": PRIVATE, "WG_SERVER_PRIVATE_KEY": PRIVATE},
                "WG_SERVER_PUBLIC_KEY, WG_SERVER_PRIVATE_KEY: do not belong together",
            ),
        ],
    )
    def test_keys_that_contradict_are_refused_and_nothing_is_made(
        self, prepare: Prepare, database: Database, mode: str, variables: dict[str, str], problem: str
    ) -> None:
        with pytest.raises(SettingsInvalid) as caught:
            prepare(mode, **variables)
        assert caught.value.problems == (problem,)
        with database.read() as session:
            assert session.scalars(select(Server)).all() == []

    def test_another_encryption_key_is_refused_and_nothing_is_changed(
        self, prepare: Prepare, database: Database
    ) -> None:
        prepare()
        with pytest.raises(SettingsInvalid, match=r"^ENCRYPTION_KEY: is not the key that this database was made with"):
            prepare(ENCRYPTION_KEY="0123456789abcdef0123456789abcdef", WG_DNS="9.9.9.9")
        assert row_of(database).dns == "1.1.1.1, 1.0.0.1"

    def test_switching_off_confirms_what_was_still_to_be_removed(
        self, prepare: Prepare, database: Database, environ: dict[str, str], clock: Clock
    ) -> None:
        prepare("manage", WG_NETWORK="10.8.0.0/30")
        services = wired(environ, database, clock)
        alice = services.accounts.create_user("alice", None).id
        made = services.profiles.create_profile(alice, "phone", ALICE)
        services.profiles.delete_profile(alice, made.id, ALICE)
        prepare("off")
        clock.advance(hours=1)
        assert services.profiles.create_profile(alice, "phone", ALICE).ipv4_address == made.ipv4_address


class TestNetwork:
    def test_without_profiles_any_network_will_do(self, prepare: Prepare, database: Database) -> None:
        prepare()
        prepare(WG_NETWORK="172.16.0.0/16", WG_NETWORK6="fd00::/64")
        assert (row_of(database).network, row_of(database).network6) == ("172.16.0.0/16", "fd00::/64")

    def test_it_may_grow_around_given_addresses(
        self, prepare: Prepare, database: Database, give_profile: Callable[[], None]
    ) -> None:
        prepare()
        give_profile()
        prepare(WG_NETWORK="10.8.0.0/16")
        assert row_of(database).network == "10.8.0.0/16"

    def test_ipv6_may_come_later_and_asks_for_a_new_download(
        self, prepare: Prepare, database: Database, give_profile: Callable[[], None]
    ) -> None:
        prepare()
        give_profile()
        before = sequence_of(database)
        assert before is not None
        assert prepare(WG_NETWORK6="fd00::/64")[0].revision == 2
        with database.read() as session:
            assert session.scalars(select(VpnProfile.ipv6_address)).all() == ["fd00::2"]
        assert sequence_of(database) == before + 1

    @pytest.mark.parametrize(
        ("variables", "problem"),
        [
            ({"WG_NETWORK": "10.9.0.0/24"}, "10.9.0.0/24 does not hold addresses that were given from 10.8.0.0/24"),
            ({"WG_NETWORK": "10.0.0.0/8"}, "10.0.0.0/8 does not hold addresses that were given from 10.8.0.0/24"),
        ],
    )
    def test_what_would_change_a_given_address_is_refused(
        self,
        prepare: Prepare,
        database: Database,
        give_profile: Callable[[], None],
        variables: dict[str, str],
        problem: str,
    ) -> None:
        prepare()
        give_profile()
        with pytest.raises(SettingsInvalid) as caught:
            prepare(**variables)
        assert caught.value.problems == (f"WG_NETWORK, WG_NETWORK6: {problem}: phone has 10.8.0.2",)
        assert row_of(database).network == "10.8.0.0/24"

    def test_another_ipv6_network_is_refused_once_addresses_were_given(
        self, prepare: Prepare, give_profile: Callable[[], None]
    ) -> None:
        prepare(WG_NETWORK6="fd00::/64")
        give_profile()
        with pytest.raises(SettingsInvalid):
            prepare(WG_NETWORK6="fd01::/64")


class TestEndpoint:
    @pytest.fixture
    def servers(self, prepare: Prepare, environ: dict[str, str], database: Database, clock: Clock) -> ServerService:
        environ["WG_ENDPOINT"] = ""
        prepare()
        return wired(environ, database, clock).servers

    @pytest.mark.parametrize(
        ("text", "stored"),
        [
            ("vpn.example.net:443", "vpn.example.net:443"),
            (" VPN.example.net ", "vpn.example.net:51820"),
            ("192.0.2.1", "192.0.2.1:51820"),
            ("[2001:db8::1]", "[2001:db8::1]:51820"),
        ],
    )
    def test_it_is_stored_with_the_servers_port_where_none_was_typed(
        self, servers: ServerService, database: Database, text: str, stored: str
    ) -> None:
        servers.set_endpoint(text, ALICE)
        row = row_of(database)
        assert (row.endpoint, row.revision) == (stored, 2)
        with database.read() as session:
            event = session.scalars(select(AuditEvent)).one()
        assert (event.action, event.subject) == ("server.change", f"endpoint {stored}")
        servers.set_endpoint(text, ALICE)
        assert row_of(database).revision == 2

    @pytest.mark.parametrize("text", ["", "a b", "vpn.example.net:0", "vpn\n[Peer]:1", "http://x", "2001:db8::1"])
    def test_what_is_no_endpoint_is_refused_at_its_field(
        self, servers: ServerService, database: Database, text: str
    ) -> None:
        with pytest.raises(InvalidFields) as caught:
            servers.set_endpoint(text, ALICE)
        assert [problem.field for problem in caught.value.problems] == ["endpoint"]
        assert isinstance(caught.value.problems[0], FieldProblem)
        assert row_of(database).endpoint is None

    def test_a_pinned_one_cannot_be_changed(self, services: Services) -> None:
        with pytest.raises(NotPermitted, match=r"^This is set outside, by WG_ENDPOINT\. Change it there\.$"):
            services.servers.set_endpoint("vpn.example.net:443", ALICE)


class TestReport:
    def say(self, services: Services, clock: Clock, problems: list[list[str | None]], **facts: object) -> None:
        with services.db.write() as session:
            session.add(AgentReport(server_id=1, seen_at=clock(), problems=problems, facts=facts))

    def ask(self, services: Services) -> tuple[bool, str | None]:
        with services.db.read() as session:
            report = services.servers.report(session, 1)
        return report.is_alive, report.pending_reason

    def test_an_agent_that_never_spoke_is_not_running(self, services: Services) -> None:
        assert self.ask(services) == (False, "The part of the server that lets devices in is not running.")

    def test_thirty_silent_seconds_are_an_end(self, services: Services, clock: Clock) -> None:
        self.say(services, clock, [], is_up=True)
        clock.advance(seconds=29)
        assert self.ask(services) == (True, None)
        clock.advance(seconds=1)
        assert self.ask(services)[0] is False

    def test_what_stands_in_the_way_is_said(self, services: Services, clock: Clock) -> None:
        self.say(services, clock, [["No tunnel", "wg is not installed.", "apt install wireguard-tools"]], is_up=False)
        assert self.ask(services) == (True, "wg is not installed.")
        with services.db.read() as session:
            assert services.servers.report(session, 1).problems == (
                Problem("No tunnel", "wg is not installed.", "apt install wireguard-tools"),
            )

    def test_a_problem_beside_a_working_interface_delays_nobody(self, services: Services, clock: Clock) -> None:
        self.say(services, clock, [["Nothing is passed on", "…", None]], is_up=True)
        assert self.ask(services) == (True, None)


def test_the_key_of_the_database_is_checked_without_writing(services: Services) -> None:
    with services.db.read() as session:
        services.servers.check_key(session)
    other = ServerService(
        services.db,
        Vault("another master key of some length"),
        services.settings.server,
        services.servers.keys,
        Clock(),
    )
    with pytest.raises(SettingsInvalid), services.db.read() as session:
        other.check_key(session)


def test_the_servers_own_view_holds_no_private_key() -> None:
    assert not [name for name in ServerView.__dataclass_fields__ if "private" in name]


def test_counts_are_of_this_server(services: Services, clock: Clock, new_person: Callable[..., int]) -> None:
    alice = new_person("alice")
    for n in range(3):
        services.profiles.create_profile(alice, f"p{n}", ALICE)
    with services.db.write() as session:
        session.execute(update(Server).values(revision=5))
    with services.db.read() as session:
        assert services.servers.count_profiles(session, 1, clock()) == (3, 0)
        assert services.servers.count_profiles(session, 2, clock()) == (0, 0)
