"""Addresses: in order, once each, back after their rest, and nothing taken when the transaction fails."""

from __future__ import annotations

from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from sqlalchemy import select

from tests.fakes import Clock
from webapp.domain.addresses import Pool
from webapp.errors import PoolExhausted
from webapp.models import AddressSequence, ReleasedAddress
from webapp.services.allocator import Lease, confirm_released, get_next_available_ip, release_address
from webapp.wiring import Services

POOL = Pool(IPv4Network("10.8.0.0/29"))  # Five devices: .2 to .6.
KEY = "iooU8XWoS7Up5EBO+O5JqpMfiLISaBSSeLGQRgbW3Ds="


@pytest.fixture
def desk(each_services: Services, clock: Clock) -> Desk:
    return Desk(each_services, clock)


class Desk:
    """Takes and gives back addresses, each in a transaction of its own, on SQLite and on PostgreSQL."""

    def __init__(self, services: Services, clock: Clock) -> None:
        self.db = services.db
        self.clock = clock
        with services.db.read() as session:
            self.server_id = services.servers.current(session).id

    def take(self, pool: Pool = POOL) -> Lease:
        with self.db.write() as session:
            return get_next_available_ip(session, self.server_id, pool, self.clock())

    def release(self, index: int, *, confirmed_at: datetime | None = None) -> None:
        with self.db.write() as session:
            release_address(session, self.server_id, index, KEY, self.clock(), confirmed=False)
            row = session.scalars(select(ReleasedAddress).where(ReleasedAddress.address_index == index)).one()
            row.confirmed_absent_at = confirmed_at

    def next_index(self) -> int:
        with self.db.read() as session:
            return session.scalars(select(AddressSequence.next_index)).one()


def test_addresses_are_given_in_order_and_the_server_keeps_the_first(desk: Desk) -> None:
    assert [desk.take() for _ in range(5)] == [
        Lease(index, IPv4Address(f"10.8.0.{index}"), None) for index in (2, 3, 4, 5, 6)
    ]


def test_ipv6_has_the_same_index(desk: Desk) -> None:
    pool = Pool(IPv4Network("10.8.0.0/16"), IPv6Network("fd00::/64"))
    assert desk.take(pool) == Lease(2, IPv4Address("10.8.0.2"), IPv6Address("fd00::2"))


def test_a_full_pool_is_an_error_that_takes_nothing(desk: Desk) -> None:
    for _ in range(5):
        desk.take()
    for _ in range(2):
        with pytest.raises(PoolExhausted):
            desk.take()
        assert desk.next_index() == 7


def test_a_pool_that_grew_goes_on_where_it_stood(desk: Desk) -> None:
    for _ in range(5):
        desk.take()
    assert desk.take(Pool(IPv4Network("10.8.0.0/28"))).index == 7


def test_a_lease_rolls_back_with_its_transaction(desk: Desk) -> None:
    desk.take()
    desk.release(2, confirmed_at=desk.clock() - timedelta(days=1))

    def fail() -> None:
        with desk.db.write() as session:
            assert get_next_available_ip(session, desk.server_id, POOL, desk.clock()).index == 2
            assert get_next_available_ip(session, desk.server_id, POOL, desk.clock()).index == 3
            raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            fail()
    assert desk.next_index() == 3
    assert [desk.take().index, desk.take().index] == [2, 3]


def test_a_released_address_rests_for_an_hour_after_its_key_was_seen_gone(desk: Desk) -> None:
    for _ in range(5):
        desk.take()
    desk.release(4, confirmed_at=desk.clock())
    desk.clock.advance(minutes=59, seconds=59)
    with pytest.raises(PoolExhausted):
        desk.take()
    desk.clock.advance(seconds=1)
    assert desk.take().index == 4
    with pytest.raises(PoolExhausted):
        desk.take()


def test_a_released_address_is_never_given_while_its_key_may_be_on_the_interface(desk: Desk) -> None:
    for _ in range(5):
        desk.take()
    desk.release(4)
    desk.clock.advance(days=1000)
    with pytest.raises(PoolExhausted):
        desk.take()


def test_rested_addresses_come_before_new_ones_and_the_longest_rested_first(desk: Desk) -> None:
    for _ in range(3):
        desk.take()
    desk.release(2, confirmed_at=desk.clock() - timedelta(hours=2))
    desk.release(3, confirmed_at=desk.clock() - timedelta(hours=3))
    assert [desk.take().index for _ in range(3)] == [3, 2, 5]


def test_a_released_address_outside_a_smaller_pool_is_left_alone(desk: Desk) -> None:
    for _ in range(5):
        desk.take()
    desk.release(6, confirmed_at=desk.clock() - timedelta(hours=2))
    with pytest.raises(PoolExhausted):
        desk.take(Pool(IPv4Network("10.8.0.0/30")))
    assert desk.take().index == 6


def test_without_an_interface_every_released_address_counts_as_gone(desk: Desk) -> None:
    for _ in range(5):
        desk.take()
    desk.release(3)
    with desk.db.write() as session:
        confirm_released(session, desk.server_id, desk.clock())
    desk.clock.advance(hours=1)
    assert desk.take().index == 3
