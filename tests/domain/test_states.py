"""The state of a profile: a table, and the edges of its moments."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from webapp.domain.states import State, is_expired, profile_state

NOW = datetime(2026, 3, 4, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("enabled", "expired", "confirmed", "has_interface", "shook", "state"),
    [
        (True, False, False, True, False, State.PENDING),
        (True, False, False, True, True, State.PENDING),
        (True, False, True, True, False, State.READY),
        (True, False, True, True, True, State.CONNECTED),
        (True, False, False, False, False, State.READY),
        (False, False, True, True, True, State.PENDING),
        (False, False, False, True, True, State.OFF),
        (False, False, False, False, False, State.OFF),
        (True, True, True, True, True, State.PENDING),
        (True, True, False, True, True, State.EXPIRED),
        (False, True, False, True, False, State.EXPIRED),
    ],
)
def test_what_the_owner_decided_holds_once_the_agent_saw_it_done(
    enabled: bool, expired: bool, confirmed: bool, has_interface: bool, shook: bool, state: State
) -> None:
    assert state == profile_state(
        enabled=enabled,
        expires_at=NOW if expired else None,
        confirmed=confirmed,
        has_interface=has_interface,
        latest_handshake=NOW if shook else None,
        now=NOW,
    )


@pytest.mark.parametrize(
    ("age", "state"),
    [
        (-timedelta(days=400), State.CONNECTED),  # A clock that jumped.
        (timedelta(0), State.CONNECTED),
        (timedelta(seconds=180) - timedelta(microseconds=1), State.CONNECTED),
        (timedelta(seconds=180), State.AWAY),
        (timedelta(days=400), State.AWAY),
    ],
)
def test_connected_lasts_three_minutes_from_the_last_handshake(age: timedelta, state: State) -> None:
    assert state == profile_state(
        enabled=True, expires_at=None, confirmed=True, has_interface=True, latest_handshake=NOW - age, now=NOW
    )


def test_it_expires_at_the_very_moment() -> None:
    assert [is_expired(NOW + delta, NOW) for delta in (-SECOND, 0 * SECOND, SECOND)] == [True, True, False]
    assert not is_expired(None, NOW)


def test_without_an_interface_nothing_is_ever_pending() -> None:
    flags = (True, False)
    for enabled, confirmed, shook in product(flags, flags, flags):
        state = profile_state(
            enabled=enabled,
            expires_at=None,
            confirmed=confirmed,
            has_interface=False,
            latest_handshake=NOW if shook else None,
            now=NOW,
        )
        assert state != State.PENDING
