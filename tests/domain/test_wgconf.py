"""Files as they are written: whole texts, and the promise that a file says what was meant."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface, IPv6Network, ip_address, ip_interface, ip_network
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapp.domain.endpoint import Endpoint
from webapp.domain.keys import PresharedKey, PrivateKey, PublicKey
from webapp.domain.obfuscation import Obfuscation, default_mtu
from webapp.domain.obfuscation_presets import GENERATED, PRESETS, generate
from webapp.domain.wgconf import (
    ClientConfig,
    ServerPeer,
    generate_config,
    parse_config,
    render_interface,
    render_peers,
)

PHONE = ClientConfig(
    private_key=PrivateKey(bytes([1]) * 32),
    addresses=(IPv4Interface("10.8.0.2/32"), IPv6Interface("fd00::2/128")),
    dns=(ip_address("1.1.1.1"), ip_address("1.0.0.1")),
    mtu=1420,
    obfuscation=Obfuscation(),
    server_public_key=PublicKey(bytes([2]) * 32),
    preshared_key=PresharedKey(bytes([3]) * 32),
    endpoint=Endpoint("vpn.example.net", 51820),
    allowed_ips=(ip_network("0.0.0.0/0"), ip_network("::/0")),
    persistent_keepalive=25,
)

PLAIN_FILE = """\
[Interface]
PrivateKey = AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=
Address = 10.8.0.2/32, fd00::2/128
DNS = 1.1.1.1, 1.0.0.1
MTU = 1420

[Peer]
PublicKey = AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=
PresharedKey = AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=
Endpoint = vpn.example.net:51820
AllowedIPs = 0.0.0.0/0, ::/0
PersistentKeepalive = 25
"""

OBFUSCATED_FILE = """\
[Interface]
PrivateKey = AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=
Address = 10.8.0.2/32, fd00::2/128
DNS = 1.1.1.1, 1.0.0.1
MTU = 1413
Jc = 4
Jmin = 10
Jmax = 50
S1 = 20
S2 = 35
S3 = 9
S4 = 7
H1 = 100000-200000
H2 = 300000-400000
H3 = 500000-600000
H4 = 700000-800000
I1 = <r 2><b 0x0100>

[Peer]
PublicKey = AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=
PresharedKey = AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=
Endpoint = vpn.example.net:51820
AllowedIPs = 0.0.0.0/0, ::/0
PersistentKeepalive = 25
"""

BARE_FILE = """\
[Interface]
PrivateKey = AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=
Address = 10.8.0.2/32
MTU = 1280

[Peer]
PublicKey = AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=
Endpoint = [2001:db8::1]:443
AllowedIPs = 10.8.0.0/24
"""

OBFUSCATION = Obfuscation.parse(
    {
        "Jc": "4",
        "Jmin": "10",
        "Jmax": "50",
        "S1": "20",
        "S2": "35",
        "S3": "9",
        "S4": "7",
        "H1": "100000-200000",
        "H2": "300000-400000",
        "H3": "500000-600000",
        "H4": "700000-800000",
        "I1": "<r 2><b 0x0100>",
    }
)


def test_a_plain_file_is_that_of_wireguard() -> None:
    assert generate_config(PHONE) == PLAIN_FILE


def test_obfuscation_stands_in_the_interface_section() -> None:
    assert generate_config(replace(PHONE, mtu=1413, obfuscation=OBFUSCATION)) == OBFUSCATED_FILE


def test_what_is_not_set_has_no_line() -> None:
    bare = replace(
        PHONE,
        addresses=(ip_interface("10.8.0.2/32"),),
        dns=(),
        mtu=1280,
        preshared_key=None,
        endpoint=Endpoint.parse("[2001:db8::1]:443"),
        allowed_ips=(ip_network("10.8.0.0/24"),),
        persistent_keepalive=0,
    )
    assert generate_config(bare) == BARE_FILE


def test_a_search_domain_stands_with_the_servers() -> None:
    text = generate_config(replace(PHONE, dns=(ip_address("10.8.0.1"), "Corp.example")))
    assert "\nDNS = 10.8.0.1, Corp.example\n" in text


@pytest.mark.parametrize(
    "changed",
    [
        {"dns": ("a\nPostUp = id",)},
        {"dns": ("a, b",)},
        {"dns": ("",)},
        {"dns": ("1.1.1.1",)},
        {"addresses": ()},
        {"addresses": (IPv6Interface("fe80::1%a\nPostUp = id/128"),)},
        {"addresses": (IPv6Interface("fe80::1%eth0/128"),)},
        {"allowed_ips": ()},
        {"allowed_ips": (IPv6Network("fe80::1%a\n[Peer]/128"),)},
        {"mtu": 0},
        {"persistent_keepalive": 65536},
        {"persistent_keepalive": -1},
    ],
    ids=str,
)
def test_a_file_that_would_say_something_else_is_not_handed_out(changed: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="the rendered file"):
        generate_config(replace(PHONE, **changed))  # type: ignore[arg-type]


@pytest.mark.parametrize("generation", GENERATED)
@pytest.mark.parametrize("preset", PRESETS)
@given(seed=st.integers())
def test_a_file_of_any_generation_fits_a_qr_code(generation: str, preset: str, seed: int) -> None:
    obfuscation = generate(generation, preset=preset, randbelow=Random(seed).randrange)
    text = generate_config(
        replace(
            PHONE,
            addresses=(
                ip_interface("10.255.255.254/32"),
                ip_interface("fd12:3456:789a:bcde:f012:3456:789a:bcde/128"),
            ),
            mtu=default_mtu(obfuscation),
            obfuscation=obfuscation,
            endpoint=Endpoint("a-rather-long-name.of-some-provider.example.net", 51820),
        )
    )
    assert len(text) <= 1200
    assert parse_config(text).interface.obfuscation == obfuscation  # type: ignore[union-attr]


key_bytes = st.binary(min_size=32, max_size=32)
networks = st.one_of(
    st.builds(
        lambda address, length: ip_network((address, length), strict=False),
        st.ip_addresses(v=4),
        st.integers(0, 32),
    ),
    st.builds(
        lambda address, length: ip_network((address, length), strict=False),
        st.ip_addresses(v=6),
        st.integers(0, 128),
    ),
)
clients = st.builds(
    ClientConfig,
    private_key=key_bytes.map(PrivateKey),
    addresses=st.lists(st.ip_addresses().map(ip_interface), min_size=1, max_size=3).map(tuple),
    dns=st.lists(st.one_of(st.ip_addresses(), st.sampled_from(["lan", "corp.example"])), max_size=3).map(tuple),
    mtu=st.integers(1280, 1420),
    obfuscation=st.builds(
        lambda generation, seed: generate(generation, randbelow=Random(seed).randrange),
        st.sampled_from(GENERATED),
        st.integers(),
    ),
    server_public_key=key_bytes.map(PublicKey),
    preshared_key=st.none() | key_bytes.map(PresharedKey),
    endpoint=st.builds(
        Endpoint,
        st.sampled_from(["a.example", ip_address("192.0.2.1"), ip_address("2001:db8::1")]),
        st.integers(1, 65535),
    ),
    allowed_ips=st.lists(networks, min_size=1, max_size=4).map(tuple),
    persistent_keepalive=st.integers(0, 65535),
)


@given(clients)
def test_what_is_written_is_read_back(client: ClientConfig) -> None:
    said = parse_config(generate_config(client))
    (peer,) = said.peers
    assert said.interface is not None
    assert client == ClientConfig(
        private_key=said.interface.private_key,  # type: ignore[arg-type]
        addresses=said.interface.addresses,
        dns=said.interface.dns,
        mtu=said.interface.mtu,  # type: ignore[arg-type]
        obfuscation=said.interface.obfuscation,
        server_public_key=peer.public_key,
        preshared_key=peer.preshared_key,
        endpoint=peer.endpoint,  # type: ignore[arg-type]
        allowed_ips=peer.allowed_ips,
        persistent_keepalive=peer.persistent_keepalive,
    )
    assert said.dropped == ()


def test_the_interface_section_has_only_the_words_of_wg() -> None:
    assert render_interface(PHONE.private_key, 51820, Obfuscation.parse({"S1": "20", "H1": "5-9"})) == (
        "[Interface]\n"
        "PrivateKey = AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n"
        "ListenPort = 51820\n"
        "S1 = 20\n"
        "H1 = 5-9\n"
    )


def test_peers_follow_the_interface_section() -> None:
    peers = [
        ServerPeer(PublicKey(bytes([4]) * 32), PresharedKey(bytes([5]) * 32), (ip_network("10.8.0.2/32"),)),
        ServerPeer(PublicKey(bytes([6]) * 32), None, (ip_network("10.8.0.3/32"), ip_network("fd00::3/128"))),
        ServerPeer(PublicKey(bytes([7]) * 32), None, ()),
    ]
    assert render_peers(peers) == (
        "\n[Peer]\n"
        "PublicKey = BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ=\n"
        "PresharedKey = BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU=\n"
        "AllowedIPs = 10.8.0.2/32\n"
        "\n[Peer]\n"
        "PublicKey = BgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgY=\n"
        "AllowedIPs = 10.8.0.3/32, fd00:0000:0000:0000:0000:0000:0000:0003/128\n"
        "\n[Peer]\n"
        "PublicKey = BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n"
    )


def test_no_peers_are_no_text() -> None:
    assert render_peers([]) == ""


@given(
    st.lists(
        st.builds(
            ServerPeer,
            key_bytes.map(PublicKey),
            st.none() | key_bytes.map(PresharedKey),
            st.lists(networks, max_size=3).map(tuple),
        ),
        unique_by=lambda peer: peer.public_key,
        max_size=5,
    )
)
def test_peers_in_are_peers_out(peers: list[ServerPeer]) -> None:
    said = parse_config(render_interface(PHONE.private_key, 51820, OBFUSCATION) + render_peers(peers))
    assert [ServerPeer(peer.public_key, peer.preshared_key, peer.allowed_ips) for peer in said.peers] == peers


def test_a_zone_cannot_smuggle_a_line_into_the_servers_peers() -> None:
    network = IPv6Network("fe80::1%a\n[Peer]\nPublicKey = x/128")
    text = render_peers([ServerPeer(PublicKey(bytes(32)), None, (network,))])
    assert text.endswith("\nAllowedIPs = fe80:0000:0000:0000:0000:0000:0000:0001/128\n")
