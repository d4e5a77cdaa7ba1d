"""The interface follows the database, peer by peer, and only what was seen is confirmed."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest
from sqlalchemy import select, text, update

from tests.fakes import Clock, FakeWireGuard
from webapp.domain.keys import PublicKey
from webapp.domain.states import State
from webapp.domain.wgconf import ServerPeer
from webapp.errors import DatabaseUnusable, ToolError, ToolForbidden, ToolMissing, ToolRefused, ToolTimedOut
from webapp.models import PeerStatus, ReleasedAddress, Server, User, VpnProfile
from webapp.services.audit import Actor
from webapp.services.profiles import ProfileView
from webapp.services.reconcile import Outcome, Reconciler
from webapp.services.wg import InterfaceState, generate_preshared_key
from webapp.wiring import Services

ALICE = Actor("alice", 1)


@pytest.fixture
def host(services: Services, clock: Clock, new_person: Callable[..., int]) -> Host:
    return Host(services, clock, new_person("alice"))


class Host:
    """A managed server with its agent's reconciler, a fake interface, and one person."""

    def __init__(self, services: Services, clock: Clock, alice: int) -> None:
        self.services = services
        self.db = services.db
        self.clock = clock
        self.alice = alice
        self.wg = FakeWireGuard()
        with self.db.write() as session:
            session.execute(update(Server).values(interface_mode="manage"))
            server_id = session.scalars(select(Server.id)).one()
        self.reconciler = Reconciler(self.db, services.vault, server_id)

    def look(self, *, removes_strangers: bool = True) -> Outcome:
        return self.reconciler.reconcile(self.wg, self.clock(), removes_strangers=removes_strangers)

    def create(self, name: str = "phone") -> ProfileView:
        return self.services.profiles.create_profile(self.alice, name, ALICE)

    def change(self, profile: ProfileView, **values: object) -> None:
        self.services.profiles.change_profile(self.alice, profile.id, ALICE, **values)  # type: ignore[arg-type]

    def delete(self, profile: ProfileView) -> None:
        self.services.profiles.delete_profile(self.alice, profile.id, ALICE)

    def state(self, profile: ProfileView) -> State:
        with self.db.read() as session:
            return self.services.profiles.show_profile(session, self.alice, profile.id).state

    def status(self, profile: ProfileView) -> PeerStatus | None:
        with self.db.read() as session:
            return session.scalar(select(PeerStatus).where(PeerStatus.profile_id == profile.id))

    def released(self) -> list[tuple[str, datetime | None]]:
        with self.db.read() as session:
            return [(row.public_key, row.confirmed_absent_at) for row in session.scalars(select(ReleasedAddress))]

    def shown(self) -> dict[str, str]:
        """Key → addresses, as the interface really is."""
        return {key: peer.allowed_ips for key, peer in self.wg._peers.items()}


def stranger(*networks: str) -> ServerPeer:
    return ServerPeer(PublicKey(os.urandom(32)), None, tuple(ip_network(network) for network in networks))


class TestPeers:
    def test_new_profiles_are_added_in_one_call_and_confirmed(self, host: Host) -> None:
        one, two = host.create("one"), host.create("two")
        outcome = host.look()
        assert (outcome.added, outcome.removed, outcome.strangers, outcome.unreadable, outcome.unconfirmed) == (
            *(2, 0, (), (), ()),
        )
        assert host.shown() == {one.public_key: "10.8.0.2/32", two.public_key: "10.8.0.3/32"}
        assert [verb for verb, _ in host.wg.calls] == ["show", "add", "show"]
        assert [host.state(one), host.state(two)] == [State.READY, State.READY]

    def test_the_preshared_key_of_the_file_is_on_the_interface(self, host: Host) -> None:
        made = host.create()
        host.look()
        with host.db.read() as session:
            file = host.services.profiles.profile_file(session, host.alice, str(made.id)).text
        state = host.wg.show()
        assert state is not None
        assert f"PresharedKey = {state.peers[made.public_key].preshared_key}\n" in file

    def test_with_nothing_to_do_it_only_looks(self, host: Host) -> None:
        host.create()
        host.look()
        host.look()
        host.wg.calls.clear()
        with host.db.write() as session:
            session.execute(
                text("CREATE TRIGGER t BEFORE UPDATE ON peer_status BEGIN SELECT RAISE(FAIL, 'wrote'); END")
            )
        assert host.look().added == 0
        assert [verb for verb, _ in host.wg.calls] == ["show"]

    def test_one_change_touches_one_peer(self, host: Host) -> None:
        made = [host.create(f"p{n}") for n in range(5)]
        host.look()
        for one in made:
            host.wg.hear(one.public_key, rx=100, tx=200, at=host.clock())
        host.wg.calls.clear()
        host.change(made[2], enabled=False)
        host.look()
        assert [call for call in host.wg.calls if call[0] != "show"] == [("remove", (made[2].public_key,))]
        host.wg.calls.clear()
        host.change(made[2], enabled=True)
        host.look()
        assert [call for call in host.wg.calls if call[0] != "show"] == [("add", (made[2].public_key,))]
        state = host.wg.show()
        assert state is not None
        assert state.peers[made[0].public_key].rx_bytes == 100

    @pytest.mark.parametrize("way", ["off", "expired", "person disabled", "deleted"])
    def test_whoever_may_not_is_removed(self, host: Host, way: str) -> None:
        made = host.create()
        host.look()
        if way == "off":
            host.change(made, enabled=False)
        elif way == "expired":
            host.change(made, expires_at=host.clock() + timedelta(seconds=5))
            host.look()
            assert host.shown() != {}
            host.clock.advance(seconds=5)  # Nobody rings for this one.
        elif way == "person disabled":
            with host.db.write() as session:
                session.execute(update(User).values(disabled=True))
                session.execute(text("UPDATE change_seq SET value = value + 1"))
        else:
            host.delete(made)
        assert host.look().removed == 1
        assert host.shown() == {}

    def test_a_flushed_interface_is_filled_again(self, host: Host) -> None:
        made = host.create()
        host.look()
        host.wg.restart()
        assert host.look().added == 1
        assert host.shown() == {made.public_key: "10.8.0.2/32"}

    @pytest.mark.parametrize("what", ["addresses", "preshared key"])
    def test_a_peer_that_somebody_changed_is_mended(self, host: Host, what: str) -> None:
        made = host.create()
        host.look()
        before = host.wg.show()
        key = PublicKey.from_base64(made.public_key)
        other = stranger("10.8.0.2/32" if what == "preshared key" else "10.99.0.0/16")
        preshared = generate_preshared_key() if what == "preshared key" else None
        host.wg.add_peers([ServerPeer(key, preshared, other.allowed_ips)])
        assert host.look().added == 1
        assert host.wg.show() == before

    def test_an_address_that_a_stranger_took_comes_back(self, host: Host) -> None:
        made = host.create()
        host.look()
        thief = stranger("10.8.0.2/32")
        host.wg.add_peers([thief])
        host.look()
        assert host.shown() == {made.public_key: "10.8.0.2/32"}

    def test_ipv6_addresses_follow_a_new_network(self, host: Host) -> None:
        made = host.create()
        host.look()
        with host.db.write() as session:
            session.execute(update(VpnProfile).values(ipv6_address="fd00::2"))
            session.execute(text("UPDATE change_seq SET value = value + 1"))
        assert host.look().added == 1
        assert host.shown() == {made.public_key: "10.8.0.2/32,fd00::2/128"}
        assert host.look().added == 0


class TestStrangers:
    def test_a_managed_interface_is_cleared_of_them(self, host: Host) -> None:
        host.wg.add_peers([stranger("10.8.0.77/32")])
        outcome = host.look()
        assert (outcome.removed, outcome.strangers) == (1, ())
        assert host.shown() == {}

    def test_an_adopted_interface_keeps_and_shows_them(self, host: Host) -> None:
        other = stranger("10.8.0.77/32")
        host.wg.add_peers([other])
        made = host.create()
        outcome = host.look(removes_strangers=False)
        assert outcome.strangers == (str(other.public_key),)
        assert host.shown() == {str(other.public_key): "10.8.0.77/32", made.public_key: "10.8.0.2/32"}

    def test_our_own_deleted_ones_are_no_strangers(self, host: Host) -> None:
        made = host.create()
        host.look(removes_strangers=False)
        host.delete(made)
        assert host.look(removes_strangers=False).removed == 1
        assert host.shown() == {}

    def test_an_adopted_interfaces_strangers_keep_their_addresses(self, host: Host) -> None:
        other = stranger("10.8.0.2/32")
        host.wg.add_peers([other])
        host.create()
        host.look(removes_strangers=False)
        assert host.shown()[str(other.public_key)] == "10.8.0.2/32"


class TestConfirmation:
    """What the command said is a promise; what the interface shows is the fact."""

    def test_a_peer_that_was_taken_and_is_not_shown_is_not_confirmed(self, host: Host) -> None:
        made = host.create()
        host.wg.hides.add(made.public_key)
        outcome = host.look()
        assert (outcome.added, outcome.unconfirmed) == (1, (made.public_key,))
        assert host.state(made) == State.PENDING
        host.wg.hides.clear()
        host.look()
        assert host.state(made) == State.READY

    def test_a_deleted_key_is_an_order_until_it_is_seen_gone(self, host: Host) -> None:
        made = host.create()
        host.look()
        host.delete(made)
        host.wg.keeps.add(made.public_key)
        for _ in range(3):
            assert host.look().removed == 1
            assert host.released() == [(made.public_key, None)]
        host.wg.keeps.clear()
        host.clock.advance(minutes=1)
        host.look()
        assert host.released() == [(made.public_key, host.clock())]

    def test_an_interface_that_cannot_be_seen_confirms_nothing(self, host: Host) -> None:
        made, other = host.create(), host.create("other")
        host.look()
        host.delete(made)
        host.wg.is_there = False
        outcome = host.look()
        assert outcome.state is None
        assert host.released() == [(made.public_key, None)]
        assert host.state(other) == State.PENDING

    def test_a_peer_that_vanished_is_pending_until_it_is_back(self, host: Host) -> None:
        made = host.create()
        host.look()
        host.wg.restart()
        host.wg.hides.add(made.public_key)
        host.look()
        assert host.state(made) == State.PENDING

    @pytest.mark.parametrize(
        "error",
        [
            ToolMissing(command="wg"),
            ToolForbidden(command="wg"),
            ToolTimedOut(command="wg", timeout_s="5"),
            ToolRefused(command="wg", reason="no"),
        ],
        ids=lambda error: type(error).__name__,
    )
    @pytest.mark.parametrize("verb", ["show", "add", "remove"])
    @pytest.mark.parametrize("is_late", [False, True], ids=["before", "after"])
    def test_a_command_that_fails_confirms_nothing_and_the_next_look_mends(
        self, host: Host, error: ToolError, verb: str, is_late: bool
    ) -> None:
        old = host.create("old")
        host.look()
        host.delete(old)
        new = host.create("new")
        (host.wg.fails_late if is_late else host.wg.fails)[verb] = error
        with pytest.raises(type(error)):
            host.look()
        assert host.released() == [(old.public_key, None)]
        assert host.state(new) == State.PENDING
        host.wg.fails.clear()
        host.wg.fails_late.clear()
        host.look()
        assert host.released() == [(old.public_key, host.clock())]
        assert (host.state(new), host.shown()) == (State.READY, {new.public_key: new.ipv4_address + "/32"})

    def test_a_failed_read_leaves_the_interface_as_it_is(self, host: Host) -> None:
        made = host.create()
        host.look()
        host.create("second")
        with host.db.write() as session:
            session.execute(text("ALTER TABLE released_addresses RENAME TO away"))
        host.wg.calls.clear()
        with pytest.raises(DatabaseUnusable):
            host.look()
        assert host.wg.calls == []
        assert host.shown() == {made.public_key: "10.8.0.2/32"}

    def test_a_preshared_key_that_cannot_be_read_is_reported_and_never_left_out(self, host: Host) -> None:
        good, bad = host.create("good"), host.create("bad")
        with host.db.write() as session:
            session.execute(update(VpnProfile).where(VpnProfile.id == bad.id).values(preshared_key=b"broken"))
        outcome = host.look()
        assert outcome.unreadable == (bad.id,)
        assert host.shown().keys() == {good.public_key}

    def test_one_that_is_deleted_while_it_is_added_is_removed_at_the_next_look(self, host: Host) -> None:
        made = host.create()

        class Racing(FakeWireGuard):
            def show(self) -> InterfaceState | None:
                state = super().show()
                if len(self.calls) == 3 and self.calls[1][0] == "add":
                    host.delete(made)
                return state

        host.wg = Racing()
        host.look()
        assert host.status(made) is None
        assert host.released() == [(made.public_key, None)]
        host.look()
        assert host.shown() == {}
        assert host.released() == [(made.public_key, host.clock())]


class TestCounters:
    def test_handshake_endpoint_and_totals_are_stored(self, host: Host) -> None:
        made = host.create()
        host.look()
        host.wg.hear(made.public_key, rx=148, tx=92, at=host.clock(), endpoint="203.0.113.5:4000")
        host.look()
        status = host.status(made)
        assert status is not None
        assert (status.rx_bytes, status.tx_bytes, status.endpoint) == (148, 92, "203.0.113.5:4000")
        assert status.latest_handshake == host.clock().replace(microsecond=0)
        assert host.state(made) == State.CONNECTED

    def test_totals_outlive_a_restart_of_the_daemon(self, host: Host) -> None:
        made = host.create()
        host.look()
        totals = []
        for _ in range(3):
            host.wg.hear(made.public_key, rx=1000, tx=2000, at=datetime(2026, 1, 1, tzinfo=UTC))
            host.look()
            host.wg.restart()
            host.look()
            status = host.status(made)
            assert status is not None
            totals.append((status.rx_bytes, status.tx_bytes))
            assert status.latest_handshake == datetime(2026, 1, 1, tzinfo=UTC)
        assert totals == [(1000, 2000), (2000, 4000), (3000, 6000)]

    def test_totals_outlive_switching_off_and_on(self, host: Host) -> None:
        made = host.create()
        host.look()
        host.wg.hear(made.public_key, rx=1000, tx=2000)
        host.look()
        for enabled in (False, True):
            host.change(made, enabled=enabled)
            host.look()
        host.wg.hear(made.public_key, rx=1500, tx=1)
        host.look()
        status = host.status(made)
        assert status is not None
        assert (status.rx_bytes, status.tx_bytes) == (2500, 2001)

    def test_totals_never_fall(self, host: Host) -> None:
        made = host.create()
        host.look()
        host.wg.hear(made.public_key, rx=1000, tx=1000)
        host.look()
        host.wg.restart()
        host.wg.hides.add(made.public_key)
        host.look()
        host.wg.hides.clear()
        host.wg.hear(made.public_key, rx=10, tx=10)
        host.look()
        status = host.status(made)
        assert status is not None
        assert (status.rx_bytes, status.tx_bytes) == (1010, 1010)


def test_two_thousand_peers_are_one_call_and_one_transaction(host: Host) -> None:
    with host.db.write() as session:
        session.execute(update(Server).values(network="10.8.0.0/16"))
        server_id = session.scalars(select(Server.id)).one()
        for n in range(2, 2002):
            key = str(PublicKey(os.urandom(32)))
            session.add(
                VpnProfile(
                    user_id=host.alice,
                    server_id=server_id,
                    name=f"n{n}",
                    name_key=f"n{n}",
                    file_name=f"n{n}",
                    private_key=None,
                    public_key=key,
                    preshared_key=host.services.vault.seal("vpn_profiles.preshared_key", key, bytes(32)),
                    address_index=n,
                    ipv4_address=f"10.8.{n >> 8}.{n & 255}",
                    created_at=host.clock(),
                )
            )
        session.execute(text("UPDATE change_seq SET value = value + 1"))
    assert host.look().added == 2000
    assert len(host.shown()) == 2000
    assert [verb for verb, _ in host.wg.calls] == ["show", "add", "show"]
    with host.db.write() as session:
        session.execute(update(VpnProfile).values(enabled=False))
        session.execute(text("UPDATE change_seq SET value = value + 1"))
    assert host.look().removed == 2000
    assert host.shown() == {}
