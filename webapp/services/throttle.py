"""Counts wrong tries in the database, where all workers see them and a restart does not forget them."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from sqlalchemy import case, delete, select
from sqlalchemy.orm import Session

from webapp.errors import Throttled
from webapp.models import ThrottleCounter

WINDOW = timedelta(minutes=15)
TRIES_PER_ACCOUNT_AND_ADDRESS = 10
TRIES_PER_ACCOUNT = 100
"""Looser, so that a stranger elsewhere cannot lock a person out, yet an end to guessing from many addresses."""


def sign_in_limits(username_key: str, address: str) -> dict[str, int]:
    """Return the counters of one sign-in and how many tries each allows. Names are hashed: a counter holds none."""
    return {
        _key("sign-in", username_key, address): TRIES_PER_ACCOUNT_AND_ADDRESS,
        _key("sign-in", username_key): TRIES_PER_ACCOUNT,
    }


def _key(*parts: str) -> str:
    # repr keeps the parts apart whatever a stranger types as a name, and takes what is no Unicode.
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def count_try(session: Session, limits: dict[str, int], now: datetime) -> Throttled | None:
    """Count one try on every counter, before it is known whether it is right: a crowd cannot slip past.

    Returns the error to raise once the transaction is stored, when a counter is over its limit, else None.
    """
    # Imported here: every dialect costs the start of the process, and only one is in use.
    if session.get_bind().dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert
    else:
        from sqlalchemy.dialects.sqlite import insert  # type: ignore[assignment]
    verdict = None
    for key, limit in limits.items():
        statement = insert(ThrottleCounter).values(key=key, window_start=now, count=1)
        is_over = ThrottleCounter.window_start <= now - WINDOW
        count, window_start = session.execute(
            statement.on_conflict_do_update(
                index_elements=["key"],
                set_={
                    "count": case((is_over, 1), else_=ThrottleCounter.count + 1),
                    "window_start": case((is_over, now), else_=ThrottleCounter.window_start),
                },
            ).returning(ThrottleCounter.count, ThrottleCounter.window_start)
        ).one()
        if count > limit:
            wait = window_start + WINDOW - now
            verdict = Throttled(int(wait.total_seconds()) + 1)
            # The looser counters behind it stay as they are: a stranger's hundred tries must not lock others out.
            break
    return verdict


def forget_tries(session: Session, limits: dict[str, int]) -> None:
    """Remove the counters after a right password."""
    session.execute(delete(ThrottleCounter).where(ThrottleCounter.key.in_(limits)))


def forget_old(session: Session, now: datetime) -> None:
    """Remove counters whose window has passed; called now and then so that the table stays small."""
    old = select(ThrottleCounter.key).where(ThrottleCounter.window_start <= now - WINDOW).limit(1000)
    session.execute(
        delete(ThrottleCounter).where(ThrottleCounter.key.in_(old)),
        execution_options={"synchronize_session": False},
    )
