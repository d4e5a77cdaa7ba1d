"""The state of a profile, from what should be and what the agent saw. One function, no clock of its own."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

CONNECTED_FOR = timedelta(seconds=180)
"""A live tunnel shakes hands every two minutes and gives up after three (whitepaper, REJECT_AFTER_TIME)."""


class State(StrEnum):
    """What a person is told about a profile; the words are the page's."""

    PENDING = "pending"
    READY = "ready"
    CONNECTED = "connected"
    AWAY = "away"
    BLOCKED = "blocked"
    OFF = "off"
    EXPIRED = "expired"


def is_expired(expires_at: datetime | None, now: datetime) -> bool:
    """Whether the moment has come; None never comes."""
    return expires_at is not None and expires_at <= now


def profile_state(
    *,
    enabled: bool,
    expires_at: datetime | None,
    confirmed: bool,
    has_interface: bool,
    latest_handshake: datetime | None,
    now: datetime,
) -> State:
    """Return the state; what the owner decided holds once the agent saw it done, and is pending until then.

    ``enabled`` is false when the profile or its person is switched off. ``has_interface`` is false in mode
    ``off``, where nothing is ever pending. A handshake from the future (a clock that jumped) counts as now.
    """
    is_over = is_expired(expires_at, now)
    # Both ways count as done only when the interface was seen to agree: let in, and shut out.
    if has_interface and confirmed == (is_over or not enabled):
        return State.PENDING
    if is_over:
        return State.EXPIRED
    if not enabled:
        return State.OFF
    if latest_handshake is None:
        return State.READY
    return State.CONNECTED if now - latest_handshake < CONNECTED_FOR else State.AWAY
