"""What Postern is for, with nothing faked: ``make run``, a page, a file, a tunnel, and nothing that tears it."""

from __future__ import annotations

import hashlib
import os
import re
import signal
from pathlib import Path

import pytest

from tests.e2e import far_host
from tests.e2e.conftest import LIVE_S, Home, Peer
from tests.e2e.network import daemon_of, wait_until
from tests.e2e.person import Device

pytestmark = pytest.mark.tunnel

PAYLOAD_BYTES = 4 * 1024 * 1024
STRANGER = "ANbSfNbyjnsJYBZcJrDi7vYDhMMEoVCBcU/PLRzWfXI="
"""A public key that nobody here has."""
RECOVERY_S = 45
"""A device notices after 15 s that the server forgot it (WireGuard whitepaper, 6.2) and shakes hands again."""


def is_whole(before: Peer, after: Peer) -> bool:
    """Whether a peer was left alone: its handshake and counters never went back."""
    return (
        after.latest_handshake >= before.latest_handshake > 0
        and after.rx_bytes >= before.rx_bytes > 0
        and after.tx_bytes >= before.tx_bytes > 0
        and (after.allowed_ips, after.preshared_key) == (before.allowed_ips, before.preshared_key)
    )


def identities(peers: dict[str, Peer]) -> dict[str, tuple[str, frozenset[str]]]:
    """What makes the peers of an interface, without what they did."""
    return {key: (peer.preshared_key, peer.allowed_ips) for key, peer in peers.items()}


def test_first_start_prints_where_to_go_and_decides_to_manage(home: Home) -> None:
    output = (home.folder / "make-run-1.log").read_text(encoding="utf-8")
    assert f"The server is made: {home.interface}, mode manage, plain WireGuard.\n" in output
    assert f"\n  Postern: {home.origin}\n" in output
    assert len(re.findall(r"/setup\?token=", output)) == 1
    assert "Traceback" not in output
    assert "Not there yet" not in output


def test_set_up_link_works_once(home: Home) -> None:
    link = re.search(r"http\S+/setup\?token=\S+", (home.folder / "make-run-1.log").read_text(encoding="utf-8"))
    assert link is not None
    assert home.person.get(link[0]).status in {403, 404, 409, 410}


def test_one_word_becomes_a_tunnel_to_the_server_and_beyond(home: Home, phone: Device) -> None:
    network = home.network
    assert phone.pings("10.8.0.1")
    assert phone.pings("fd00:8::1")
    assert phone.pings(network.behind_ipv4)
    assert phone.pings(network.behind_ipv6)
    assert phone.name_servers.read_text(encoding="ascii") == "nameserver 1.1.1.1\nnameserver 1.0.0.1\n"
    wait_until(lambda: home.person.profile(phone.name)["state"] == "connected", LIVE_S, "the API says connected")
    assert "Connected" in home.person.get("/profiles/").text
    profile = home.person.profile(phone.name)
    assert profile["latest_handshake"] is not None
    assert profile["rx_bytes"] > 0 < profile["tx_bytes"]


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_megabytes_go_both_ways_and_leave_under_the_servers_own_address(
    home: Home, phone: Device, family: str, tmp_path: Path
) -> None:
    is_ipv4 = family == "ipv4"
    host = home.network.behind_ipv4 if is_ipv4 else f"[{home.network.behind_ipv6}]"
    sent, headers, back = tmp_path / "sent", tmp_path / "headers", tmp_path / "back"
    sent.write_bytes(os.urandom(PAYLOAD_BYTES))
    url = f"http://{host}:{far_host.PORT}/"
    post = ["-H", "Expect:", "-D", headers, "-o", back, "--data-binary", f"@{sent}"]
    phone.space.run("curl", "-sS", "--noproxy", "*", "--max-time", "25", *post, url)
    assert hashlib.sha256(back.read_bytes()).digest() == hashlib.sha256(sent.read_bytes()).digest()
    seen_as = home.network.server_inner_ipv4 if is_ipv4 else home.network.server_inner_ipv6
    assert f"Seen-As: {seen_as}\r\n" in headers.read_bytes().decode("ascii")


def test_without_a_tunnel_the_far_host_stays_out_of_reach(home: Home) -> None:
    """The proof that the tests above see the tunnel and its translation, not a route around them."""
    assert not home.network.guest.pings(home.network.behind_ipv4)
    assert not home.network.guest.pings(home.network.behind_ipv6)


def test_a_profile_is_pending_then_ready_then_connected_within_seconds(home: Home, phone: Device) -> None:
    name = phone.name[::-1]
    profile = home.person.api("POST", "/profiles", {"name": name})
    try:
        states = [profile["state"]]
        wait_until(lambda: profile["public_key"] in home.peers(), LIVE_S, "the peer is on the interface")

        def is_ready() -> bool:
            states.append(home.person.profile(name)["state"])
            return states[-1] == "ready"

        wait_until(is_ready, LIVE_S, "the API says ready")
        owner = home.curl_in(home.network.guest, name)
        owner.token = home.person.token
        with Device(home.network.guest, owner.fetch(name), profile).switched_on():
            assert home.network.guest.pings("10.8.0.1")
            wait_until(lambda: home.person.profile(name)["state"] == "connected", LIVE_S, "the API says connected")
        assert states[0] == "pending"
        assert set(states) == {"pending", "ready"}
    finally:
        home.person.delete(profile)


def test_a_new_device_leaves_the_others_alone(home: Home, phone: Device) -> None:
    before = home.peers()[phone.public_key]
    with home.guest() as guest:
        assert guest.pings(home.network.behind_ipv4)
        assert is_whole(before, home.peers()[phone.public_key])
        assert phone.pings("10.8.0.1")
    assert is_whole(before, home.peers()[phone.public_key])


def test_a_deleted_device_is_cut_off_and_its_address_is_confirmed_free(home: Home, phone: Device) -> None:
    with home.guest() as guest:
        before = home.peers()[phone.public_key]
        home.person.delete(guest.profile)
        wait_until(lambda: guest.public_key not in home.peers(), LIVE_S, "the peer is gone")
        assert not guest.pings("10.8.0.1")
        wait_until(lambda: home.is_released(guest), LIVE_S, "the released address is confirmed")
        assert is_whole(before, home.peers()[phone.public_key])
        assert phone.pings("10.8.0.1")


def test_a_device_that_is_switched_off_by_the_api_is_cut_off_until_it_is_on_again(home: Home, phone: Device) -> None:
    with home.guest() as guest:
        path = f"/profiles/{guest.profile['id']}"
        home.person.api("PATCH", path, {"enabled": False})
        wait_until(lambda: guest.public_key not in home.peers(), LIVE_S, "the peer is gone")
        assert not guest.pings("10.8.0.1")
        home.person.api("PATCH", path, {"enabled": True})
        wait_until(lambda: guest.public_key in home.peers(), LIVE_S, "the peer is back")
        guest.switch_off()
        guest.switch_on()
        home.wait_for_ping(guest)


def test_stopping_drops_no_tunnel_and_a_second_start_is_quiet(home: Home, phone: Device) -> None:
    before = home.peers()[phone.public_key]
    first = home.run
    assert first is not None
    assert first.stop(signal.SIGINT) < 15
    assert first.processes() == {}
    assert not home.person.answers()
    assert home.network.server.run("ss", "-Hltn", f"sport = :{8000}") == ""
    assert phone.pings("10.8.0.1")
    assert phone.pings(home.network.behind_ipv4)
    assert phone.pings(home.network.behind_ipv6)
    second = home.start()
    assert "Installing" not in second.output
    assert "/setup" not in second.output
    assert f"\n  Postern: {home.origin}\n" in second.output
    assert home.person.get("/profiles/").status == 200, "the session outlives a restart"
    assert is_whole(before, home.peers()[phone.public_key])
    assert phone.pings("10.8.0.1")


def test_a_device_deleted_while_the_agent_was_down_is_gone_when_it_is_back(home: Home, phone: Device) -> None:
    with home.guest() as guest:
        before = home.peers()[phone.public_key]
        run = home.run
        assert run is not None
        (agent,) = run.find("postern agent")
        os.kill(agent, signal.SIGSTOP)
        home.person.delete(guest.profile)
        assert guest.pings("10.8.0.1"), "nobody was there to remove it"
        os.kill(agent, signal.SIGKILL)
        wait_until(lambda: run.find("postern agent") not in ([], [agent]), 15, "the agent is started again")
        wait_until(lambda: home.is_released(guest), LIVE_S, "the released address is confirmed")
        assert guest.public_key not in home.peers()
        assert is_whole(before, home.peers()[phone.public_key])


def test_flushed_peers_come_back(home: Home, phone: Device) -> None:
    with home.guest():
        before = identities(home.peers())
        removals = [word for key in before for word in ("peer", key, "remove")]
        home.wg("set", *removals)
        wait_until(lambda: identities(home.peers()) == before, LIVE_S, "all peers are back")


def test_a_killed_daemon_is_replaced_with_all_its_peers(home: Home, phone: Device) -> None:
    daemon = daemon_of(home.interface)
    if daemon is None:
        pytest.skip("the kernel carries this interface; there is no daemon to kill")
    with home.guest() as guest:
        before = identities(home.peers())
        os.kill(daemon, signal.SIGKILL)
        wait_until(lambda: daemon_of(home.interface) not in {None, daemon}, LIVE_S, "a new daemon runs")
        wait_until(lambda: identities(home.peers()) == before, LIVE_S, "all peers are back")
        home.wait_for_ping(guest, RECOVERY_S)
        home.wait_for_ping(phone, RECOVERY_S)
        assert phone.pings(home.network.behind_ipv4)
        assert phone.pings(home.network.behind_ipv6)


def test_a_deleted_interface_is_made_again(home: Home, phone: Device) -> None:
    before = identities(home.peers())
    home.network.server.run("ip", "link", "delete", "dev", home.interface)
    wait_until(lambda: identities(home.peers()) == before, LIVE_S, "the interface is back with its peers")
    phone.switch_off()
    phone.switch_on()
    home.wait_for_ping(phone)
    assert phone.pings("fd00:8::1")


def test_what_an_interface_lost_by_hand_is_given_back_and_peers_are_left_alone(home: Home, phone: Device) -> None:
    server = home.network.server
    before = home.peers()[phone.public_key]
    server.run("ip", "address", "delete", "10.8.0.1/24", "dev", home.interface)
    server.run("ip", "address", "delete", "fd00:8::1/64", "dev", home.interface)
    server.run("nft", "delete", "table", "inet", f"postern_{home.interface}")
    home.wait_for_ping(phone)
    for address in ("fd00:8::1", home.network.behind_ipv4, home.network.behind_ipv6):
        wait_until(lambda address=address: phone.pings(address), LIVE_S, f"the phone reaches {address}")
    server.run("ip", "link", "set", "dev", home.interface, "down")
    home.wait_for_ping(phone, RECOVERY_S)
    assert home.peers()[phone.public_key].allowed_ips == before.allowed_ips


def test_a_foreign_peer_is_removed(home: Home, phone: Device) -> None:
    before = home.peers()[phone.public_key]
    home.wg("set", "peer", STRANGER, "allowed-ips", "10.8.0.77/32")
    wait_until(lambda: STRANGER not in home.peers(), LIVE_S, "the stranger is gone")
    assert is_whole(before, home.peers()[phone.public_key])
    assert phone.pings("10.8.0.1")


def test_a_stolen_address_goes_back_to_its_owner(home: Home, phone: Device) -> None:
    with home.guest() as guest:
        before = home.peers()
        thief_key, owner_key = guest.public_key, phone.public_key
        home.wg("set", "peer", thief_key, "allowed-ips", f"{guest.profile['ipv4_address']}/32,10.8.0.2/32")
        assert identities(home.peers()) != identities(before)
        wait_until(lambda: identities(home.peers()) == identities(before), LIVE_S, "everybody has their own again")
        after = home.peers()
        assert is_whole(before[owner_key], after[owner_key])
        assert is_whole(before[thief_key], after[thief_key])
        assert phone.pings("10.8.0.1")
        assert guest.pings("10.8.0.1")


def test_another_key_or_port_by_hand_is_put_right(home: Home, phone: Device) -> None:
    before = home.wg("show", "public-key")
    home.wg("set", "private-key", "/dev/stdin", "listen-port", "51999", stdin=home.network.server.run("wg", "genkey"))
    wait_until(lambda: home.wg("show", "public-key") == before, LIVE_S, "the key is back")
    assert home.wg("show", "listen-port") == "51820\n"
    home.wait_for_ping(phone, RECOVERY_S)
