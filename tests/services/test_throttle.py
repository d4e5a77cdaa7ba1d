"""Wrong tries: counted before they are judged, per account and address and per account, in windows of 15 minutes."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from tests.fakes import Clock
from webapp.errors import Throttled
from webapp.models import ThrottleCounter
from webapp.services.throttle import count_try, forget_old, forget_tries, sign_in_limits
from webapp.wiring import Services


@pytest.fixture
def door(each_services: Services, clock: Clock) -> Door:
    return Door(each_services, clock)


class Door:
    """Counts tries, each in a transaction of its own, on SQLite and on PostgreSQL."""

    def __init__(self, services: Services, clock: Clock) -> None:
        self.db = services.db
        self.clock = clock

    def knock(self, account: str = "alice", address: str = "192.0.2.1") -> int | None:
        """Return how many seconds to wait, None for none."""
        with self.db.write() as session:
            verdict = count_try(session, sign_in_limits(account, address), self.clock())
        return None if verdict is None else verdict.retry_after_s

    def forget(self, account: str = "alice", address: str = "192.0.2.1") -> None:
        with self.db.write() as session:
            forget_tries(session, sign_in_limits(account, address))

    def size(self) -> int:
        with self.db.read() as session:
            return session.scalar(select(func.count()).select_from(ThrottleCounter)) or 0


def test_ten_tries_of_one_account_from_one_address_and_no_more(door: Door) -> None:
    assert [door.knock() for _ in range(12)] == [None] * 10 + [901, 901]


def test_the_wait_ends_with_the_window(door: Door) -> None:
    for _ in range(10):
        door.knock()
    door.clock.advance(minutes=14, seconds=59)
    assert door.knock() == 2
    door.clock.advance(seconds=1)
    assert door.knock() is None


def test_tries_while_throttled_do_not_make_the_wait_longer(door: Door) -> None:
    for _ in range(60):
        door.knock()
        door.clock.advance(seconds=14)
    door.clock.advance(seconds=60)
    assert door.knock() is None


def test_another_address_may_go_on_trying(door: Door) -> None:
    for _ in range(11):
        door.knock()
    assert door.knock(address="192.0.2.2") is None
    assert door.knock(account="bob") is None


def test_a_crowd_of_addresses_is_stopped_at_a_hundred(door: Door) -> None:
    answers = [door.knock(address=f"192.0.2.{n // 5}") for n in range(102)]
    assert answers == [None] * 100 + [901, 901]


def test_one_stranger_cannot_lock_a_person_out(door: Door) -> None:
    for _ in range(120):
        door.knock(address="203.0.113.66")
    assert door.knock(address="192.0.2.1") is None


def test_a_right_password_forgets_the_tries(door: Door) -> None:
    for _ in range(10):
        door.knock()
    door.forget()
    assert [door.knock() for _ in range(11)] == [None] * 10 + [901]


def test_old_counters_are_removed_and_young_ones_kept(door: Door) -> None:
    door.knock()
    door.clock.advance(minutes=10)
    door.knock("bob")
    door.clock.advance(minutes=5)
    with door.db.write() as session:
        forget_old(session, door.clock())
    assert door.size() == 2


def test_a_counter_holds_neither_name_nor_address() -> None:
    keys = sign_in_limits("alice", "192.0.2.1")
    assert list(keys.values()) == [10, 100]
    assert all(len(key) == 64 and set(key) <= set("0123456789abcdef") for key in keys)


def test_name_and_address_are_kept_apart_in_the_key() -> None:
    assert set(sign_in_limits("a", "b")).isdisjoint(sign_in_limits("a\0b", ""))


@pytest.mark.parametrize(("seconds", "minutes"), [(0, 1), (1, 1), (60, 1), (61, 2), (901, 16)])
def test_the_sentence_rounds_the_wait_up(seconds: int, minutes: int) -> None:
    assert str(Throttled(seconds)) == f"Too many tries. Try again in {minutes} min."
