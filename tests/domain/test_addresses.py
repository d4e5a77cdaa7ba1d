"""The pool: an index is an address in both families, and what is never given out."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapp.domain.addresses import FIRST_INDEX, Pool


@pytest.mark.parametrize(
    ("network", "network6", "size", "first", "last", "last6"),
    [
        ("10.8.0.0/24", None, 253, "10.8.0.2", "10.8.0.254", None),
        ("10.8.0.0/30", None, 1, "10.8.0.2", "10.8.0.2", None),
        ("10.8.0.0/16", None, 65533, "10.8.0.2", "10.8.255.254", None),
        ("10.0.0.0/8", None, 2**24 - 3, "10.0.0.2", "10.255.255.254", None),
        ("10.8.0.0/24", "fd00::/64", 253, "10.8.0.2", "10.8.0.254", "fd00::fe"),
        ("10.8.0.0/24", "fd00::/126", 2, "10.8.0.2", "10.8.0.3", "fd00::3"),
        ("10.8.0.0/24", "fd00::/120", 253, "10.8.0.2", "10.8.0.254", "fd00::fe"),
        ("10.8.0.0/16", "fd00::/120", 254, "10.8.0.2", "10.8.0.255", "fd00::ff"),
    ],
)
def test_a_pool_goes_from_its_third_address_to_the_last_but_one(
    network: str, network6: str | None, size: int, first: str, last: str, last6: str | None
) -> None:
    pool = Pool(IPv4Network(network), None if network6 is None else IPv6Network(network6))
    assert (pool.size, pool.ipv4(FIRST_INDEX), pool.ipv4(pool.last_index)) == (
        size,
        IPv4Address(first),
        IPv4Address(last),
    )
    assert pool.ipv6(pool.last_index) == (None if last6 is None else IPv6Address(last6))


@given(st.integers(2, 65534))
def test_address_and_index_are_each_others_reverse(index: int) -> None:
    pool = Pool(IPv4Network("10.8.0.0/16"), IPv6Network("fd00::/64"))
    address, address6 = pool.ipv4(index), pool.ipv6(index)
    assert pool.index(address) == index
    assert address6 == IPv6Address("fd00::") + index


@pytest.mark.parametrize("index", [-1, 0, 1, 255, 256, 2**64])
def test_network_server_broadcast_and_beyond_are_never_given(index: int) -> None:
    pool = Pool(IPv4Network("10.8.0.0/24"), IPv6Network("fd00::/64"))
    for ask in (pool.ipv4, pool.ipv6):
        with pytest.raises(ValueError, match=rf"^index {index} is outside 2 … 254$"):
            ask(index)


@pytest.mark.parametrize("address", ["10.7.255.255", "10.8.0.0", "10.8.0.1", "10.8.0.255", "10.8.1.2"])
def test_an_address_outside_the_pool_has_no_index(address: str) -> None:
    with pytest.raises(ValueError, match=r"^index -?\d+ is outside 2 … 254$"):
        Pool(IPv4Network("10.8.0.0/24")).index(IPv4Address(address))


@pytest.mark.parametrize(
    ("network", "network6", "message"),
    [
        ("10.8.0.0/31", None, "10.8.0.0/31 is too small: /30 holds the server and one device"),
        ("10.8.0.0/32", None, "10.8.0.0/32 is too small: /30 holds the server and one device"),
        ("10.8.0.0/24", "fd00::/127", "fd00::/127 is too small: /126 holds the server and two devices"),
    ],
)
def test_a_network_without_room_for_a_device_is_refused(network: str, network6: str | None, message: str) -> None:
    with pytest.raises(ValueError, match="too small") as caught:
        Pool(IPv4Network(network), None if network6 is None else IPv6Network(network6))
    assert str(caught.value) == message


def test_the_server_has_the_first_address_with_the_networks_length() -> None:
    pool = Pool(IPv4Network("10.8.0.0/16"), IPv6Network("fd00::/64"))
    assert pool.server_ipv4 == IPv4Interface("10.8.0.1/16")
    assert pool.server_ipv6 == IPv6Interface("fd00::1/64")
    assert Pool(IPv4Network("10.8.0.0/16")).server_ipv6 is None
