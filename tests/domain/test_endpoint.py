"""Where a server is reached: host names, addresses and ports, and what is none of them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapp.domain.endpoint import Endpoint, is_hostname


@pytest.mark.parametrize(
    ("text", "host", "port", "spelling"),
    [
        ("vpn.example.net:51820", "vpn.example.net", 51820, "vpn.example.net:51820"),
        ("VPN.Example.NET:1", "vpn.example.net", 1, "vpn.example.net:1"),
        ("localhost:65535", "localhost", 65535, "localhost:65535"),
        ("192.0.2.1:00443", IPv4Address("192.0.2.1"), 443, "192.0.2.1:443"),
        ("[2001:DB8:0::1]:51820", IPv6Address("2001:db8::1"), 51820, "[2001:db8::1]:51820"),
        ("впн.рф:443", "xn--b1awf.xn--p1ai", 443, "xn--b1awf.xn--p1ai:443"),
        ("xn--b1awf.xn--p1ai:443", "xn--b1awf.xn--p1ai", 443, "xn--b1awf.xn--p1ai:443"),
        (f"{'a' * 63}.example:1", f"{'a' * 63}.example", 1, f"{'a' * 63}.example:1"),
    ],
)
def test_an_endpoint_has_one_spelling(text: str, host: object, port: int, spelling: str) -> None:
    endpoint = Endpoint.parse(text)
    assert (endpoint.host, endpoint.port, str(endpoint)) == (host, port, spelling)
    assert Endpoint.parse(spelling) == endpoint


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        *(
            (text, "An endpoint is host:port, or [address]:port for IPv6.")
            for text in (
                "",
                "vpn.example.net",
                "vpn.example.net:",
                ":51820",
                "2001:db8::1:51820",
                "a:b:1",
                "a:-1",
            )
        ),
        *(
            (text, "An endpoint is host:port, or [address]:port for IPv6.")
            for text in (
                "[::1",
                "[fe80::1%eth0]:1",
                "[cafe]:1",
                "[]:1",
                "a:1\n",
                "a:١",
                "a:123456",
                "https://a:1",
                "a:1/x",
            )
        ),
        *(
            (text, "The host must be a name such as vpn.example.net, or an IP address.")
            for text in (
                "a b:1",
                "-a:1",
                "a-:1",
                "a..b:1",
                "a.:1",
                "a_b:1",
                "a/b:1",
                "$(id):1",
                "a\nb:1",
                "a#b:1",
            )
        ),
        *(
            (text, "The host must be a name such as vpn.example.net, or an IP address.")
            for text in (
                "1.2.3:1",
                "1.2.3.256:1",
                "01.2.3.4:1",
                "1.2.3.4.5:1",
                "straße.example:1",
                "é" * 70 + ":1",
            )
        ),
        *(
            (text, "The host must be a name such as vpn.example.net, or an IP address.")
            for text in ("a" * 64 + ":1", ".".join(["a" * 60] * 5) + ":1", "é" * 100_000 + ":1", "[1:2]:1")
        ),
        *(
            (text, "The port must be a number from 1 to 65535.")
            for text in ("a:0", "a:65536", "192.0.2.1:99999", "[2001:db8::1]:0")
        ),
        *((text, "This address cannot be reached from outside.") for text in ("0.0.0.0:1", "[::]:1", "224.0.0.1:1")),
    ],
)
def test_anything_else_is_refused_with_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the whole sentence is compared below.
        Endpoint.parse(text)
    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    "host", ["VPN.example.net", "192.0.2.1", "впн.рф", "a\nb", "", IPv6Address("fe80::1%a\n[Peer]")]
)
def test_an_endpoint_that_exists_is_safe_to_write(host: str | IPv6Address) -> None:
    with pytest.raises(ValueError, match=r"must be a name|cannot be reached"):
        Endpoint(host, 1)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("a", True),
        ("a-b.c1", True),
        ("1.example", True),
        ("a.1", False),
        ("A", False),
        ("a\n", False),
        ("", False),
    ],
)
def test_a_host_name_is_letters_digits_and_hyphens(text: str, answer: bool) -> None:
    assert is_hostname(text) is answer


@given(
    st.one_of(
        st.ip_addresses(),
        st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z]{2,8}){0,3}", fullmatch=True),
    ),
    st.integers(1, 65535),
)
def test_what_is_written_is_read_back(host: object, port: int) -> None:
    try:
        endpoint = Endpoint(host, port)  # type: ignore[arg-type]
    except ValueError:
        address = ip_address(str(host))
        assert address.is_multicast or address.is_unspecified
    else:
        assert Endpoint.parse(str(endpoint)) == endpoint
