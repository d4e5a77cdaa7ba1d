"""One contract for whatever stands for an interface: the real ``wg`` on a userspace daemon, and the tests' fake."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from tests.fakes import FakeWireGuard
from tests.namespaces import WireGuardInside, namespace, unique_interface, wireguard_interface
from webapp.domain.keys import PresharedKey, PublicKey
from webapp.domain.obfuscation import Obfuscation
from webapp.domain.wgconf import ServerPeer, render_interface
from webapp.errors import ToolRefused
from webapp.services.wg import (
    PeerState,
    WireGuard,
    WireGuardCommand,
    generate_key_pair_in_process,
    generate_preshared_key,
)

OWN = generate_key_pair_in_process()


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.tunnel)])
def wg(request: pytest.FixtureRequest) -> Iterator[WireGuard]:
    """An interface with a private key and a port, and no peers."""
    if request.param == "fake":
        yield FakeWireGuard(OWN.public, 41234)
        return
    with namespace() as space, wireguard_interface(space, unique_interface()) as name:
        command = WireGuardCommand(str(shutil.which("wg")), name)
        space.call(command.configure, render_interface(OWN.private, 41234, Obfuscation()))
        yield WireGuardInside(space, command)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.tunnel)])
def missing(request: pytest.FixtureRequest) -> Iterator[WireGuard]:
    """An interface that is not there."""
    if request.param == "fake":
        fake = FakeWireGuard()
        fake.is_there = False
        yield fake
        return
    with namespace() as space:
        yield WireGuardInside(space, WireGuardCommand(str(shutil.which("wg")), unique_interface()))


def peer(*networks: str, key: PublicKey | None = None, preshared: PresharedKey | None = None) -> ServerPeer:
    key = key or PublicKey(os.urandom(32))
    preshared = preshared or generate_preshared_key()
    return ServerPeer(key, preshared, tuple(ip_network(network) for network in networks))


def quiet(peer: ServerPeer, allowed_ips: str) -> PeerState:
    """What is shown of a peer that never spoke."""
    assert peer.preshared_key is not None
    return PeerState(peer.preshared_key.to_base64(), "", allowed_ips, 0, 0, 0)


def peers_of(wg: WireGuard) -> dict[str, PeerState]:
    state = wg.show()
    assert state is not None
    return state.peers


class TestWireGuard:
    """What the reconciler relies on."""

    def test_an_interface_without_peers_shows_its_key_and_port(self, wg: WireGuard) -> None:
        state = wg.show()
        assert state is not None
        assert (state.public_key, state.listen_port, state.peers) == (OWN.public, 41234, {})

    def test_added_peers_are_shown_as_they_were_given(self, wg: WireGuard) -> None:
        phone, laptop = peer("10.8.0.2/32"), peer("10.8.0.3/32", "fd00::3/128")
        wg.add_peers([phone, laptop])
        shown = peers_of(wg)
        assert shown.keys() == {str(phone.public_key), str(laptop.public_key)}
        assert shown[str(phone.public_key)] == quiet(phone, "10.8.0.2/32")
        networks = shown[str(laptop.public_key)].allowed_ips.split(",")
        assert sorted(networks) == ["10.8.0.3/32", "fd00::3/128"]

    def test_adding_nothing_changes_nothing(self, wg: WireGuard) -> None:
        wg.add_peers([])
        wg.remove_peers([])
        assert peers_of(wg) == {}

    def test_adding_a_peer_that_is_there_replaces_its_addresses_and_preshared_key(self, wg: WireGuard) -> None:
        before = peer("10.8.0.2/32", "10.8.0.9/32")
        wg.add_peers([before])
        after = peer("10.8.0.4/32", key=before.public_key)
        wg.add_peers([after])
        assert peers_of(wg) == {str(after.public_key): quiet(after, "10.8.0.4/32")}

    def test_adding_a_peer_leaves_the_others_alone(self, wg: WireGuard) -> None:
        phone, laptop = peer("10.8.0.2/32"), peer("10.8.0.3/32")
        wg.add_peers([phone])
        wg.add_peers([laptop])
        assert peers_of(wg)[str(phone.public_key)] == quiet(phone, "10.8.0.2/32")

    def test_an_address_of_another_peer_moves_without_a_word(self, wg: WireGuard) -> None:
        phone, thief = peer("10.8.0.2/32"), peer("10.8.0.2/32")
        wg.add_peers([phone])
        wg.add_peers([thief])
        assert peers_of(wg) == {
            str(phone.public_key): quiet(phone, ""),
            str(thief.public_key): quiet(thief, "10.8.0.2/32"),
        }

    def test_of_two_peers_with_one_address_in_one_call_the_last_has_it(self, wg: WireGuard) -> None:
        first, last = peer("10.8.0.2/32"), peer("10.8.0.2/32")
        wg.add_peers([first, last])
        assert peers_of(wg) == {
            str(first.public_key): quiet(first, ""),
            str(last.public_key): quiet(last, "10.8.0.2/32"),
        }

    def test_the_key_of_the_interface_itself_is_taken_and_not_shown(self, wg: WireGuard) -> None:
        wg.add_peers([peer("10.8.0.2/32", key=OWN.public)])
        assert peers_of(wg) == {}

    def test_a_removed_peer_is_gone_and_the_others_stay(self, wg: WireGuard) -> None:
        phone, laptop = peer("10.8.0.2/32"), peer("10.8.0.3/32")
        wg.add_peers([phone, laptop])
        wg.remove_peers([str(phone.public_key)])
        assert peers_of(wg) == {str(laptop.public_key): quiet(laptop, "10.8.0.3/32")}

    def test_removing_an_unknown_key_is_no_error(self, wg: WireGuard) -> None:
        wg.remove_peers([str(PublicKey(os.urandom(32)))])
        assert peers_of(wg) == {}

    def test_a_thousand_peers_come_and_go_in_one_call(self, wg: WireGuard) -> None:
        many = [peer(f"10.9.{n // 250}.{n % 250 + 1}/32") for n in range(1000)]
        wg.add_peers(many)
        assert len(peers_of(wg)) == 1000
        wg.remove_peers([str(one.public_key) for one in many[:999]])
        assert peers_of(wg).keys() == {str(many[999].public_key)}


class TestNoInterface:
    """A missing interface is a None to the one who looks, and an error to the one who changes."""

    def test_it_shows_as_none(self, missing: WireGuard) -> None:
        assert missing.show() is None

    def test_adding_is_refused(self, missing: WireGuard) -> None:
        with pytest.raises(ToolRefused):
            missing.add_peers([peer("10.8.0.2/32")])

    def test_removing_is_refused(self, missing: WireGuard) -> None:
        with pytest.raises(ToolRefused):
            missing.remove_peers([str(PublicKey(os.urandom(32)))])
