"""Gives out addresses from a database sequence, and takes them back. Never looks for a gap."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from sqlalchemy import ColumnElement, bindparam, delete, select, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningDelete

from webapp.domain.addresses import FIRST_INDEX, Pool
from webapp.errors import PoolExhausted
from webapp.models import AddressSequence, DeletedProfile, ReleasedAddress, RevokedKey

KEPT_FOR = timedelta(days=1)
"""How long a deleted profile can be brought back with its address and key."""
QUARANTINE = timedelta(hours=1)
"""How long an address rests after its old peer was seen to be gone: a late packet must not reach a new owner."""


@dataclass(frozen=True)
class Lease:
    """An address that was just given out: its index in the pool, and what the index means in each family."""

    index: int
    ipv4: IPv4Address
    ipv6: IPv6Address | None


def get_next_available_ip(
    session: Session, server_id: int, pool: Pool, now: datetime, quarantine: timedelta = QUARANTINE
) -> Lease:
    """Take the oldest released address that is free for good, else the next of the sequence.

    Where neither is left, the oldest one that has rested is taken although its profile could still be brought
    back: somebody who needs an address now comes first. Needs a write transaction: the lease rolls back with
    whatever it was for. The cost does not depend on how many profiles there are. Raises PoolExhausted; nothing
    was taken.
    """
    values = {"server": server_id, "now": now, "rested_before": now - quarantine, "last_index": pool.last_index}
    index = _take_released(session, _OLDEST_FREE, values)
    if index is None:
        index = session.scalar(_NEXT, values)
    if index is None:
        index = _take_released(session, _OLDEST_RESTED, values)
    if index is None:
        raise PoolExhausted
    return Lease(index, pool.ipv4(index), pool.ipv6(index))


def _oldest(*conditions: ColumnElement[bool]) -> ReturningDelete[int, str]:
    oldest = (
        select(ReleasedAddress.id)
        .where(
            ReleasedAddress.server_id == bindparam("server"),
            ReleasedAddress.confirmed_absent_at <= bindparam("rested_before"),
            ReleasedAddress.address_index.between(FIRST_INDEX, bindparam("last_index")),
            *conditions,
        )
        .order_by(ReleasedAddress.confirmed_absent_at, ReleasedAddress.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    return (
        delete(ReleasedAddress)
        .where(ReleasedAddress.id == oldest.scalar_subquery())
        .returning(ReleasedAddress.address_index, ReleasedAddress.public_key)
        .execution_options(synchronize_session=False)
    )


# Built once: putting a statement together costs four times what running it does (docs/benchmarks.md).
_OLDEST_FREE = _oldest(ReleasedAddress.kept_until.is_(None) | (ReleasedAddress.kept_until <= bindparam("now")))
_OLDEST_RESTED = _oldest()
_NEXT = (
    update(AddressSequence)
    .where(
        AddressSequence.server_id == bindparam("server"),
        AddressSequence.next_index <= bindparam("last_index"),
    )
    .values(next_index=AddressSequence.next_index + 1)
    .returning(AddressSequence.next_index - 1)
    .execution_options(synchronize_session=False)
)


def _take_released(session: Session, oldest: ReturningDelete[int, str], values: dict[str, Any]) -> int | None:
    taken = session.execute(oldest, values).one_or_none()
    if taken is None:
        return None
    index, public_key = taken
    # Whose address is given away cannot come back.
    session.execute(
        delete(DeletedProfile)
        .where(DeletedProfile.public_key == public_key)
        .execution_options(synchronize_session=False)
    )
    return index


def release_address(
    session: Session,
    server_id: int,
    index: int,
    public_key: str,
    now: datetime,
    *,
    confirmed: bool,
    kept_until: datetime | None = None,
) -> None:
    """Give an address back, and order the removal of its key from the interface.

    ``confirmed`` is for a server without an interface: nothing has to be removed, only the quarantine runs.
    ``kept_until`` is the moment up to which its profile can be brought back; None: it cannot.
    """
    session.add(
        ReleasedAddress(
            server_id=server_id,
            address_index=index,
            public_key=public_key,
            released_at=now,
            confirmed_absent_at=now if confirmed else None,
            kept_until=kept_until,
        )
    )


def confirm_released(session: Session, server_id: int, now: datetime) -> None:
    """Count every released key of the server as gone: in mode ``off`` there is no interface to remove it from."""
    for table in (ReleasedAddress, RevokedKey):
        session.execute(
            update(table)
            .where(table.server_id == server_id, table.confirmed_absent_at.is_(None))
            .values(confirmed_absent_at=now)
            .execution_options(synchronize_session=False)
        )


def take_back(session: Session, server_id: int, index: int, public_key: str) -> bool:
    """Take a released address back for the profile that had it; False when it was given to somebody else."""
    taken = session.scalar(
        delete(ReleasedAddress)
        .where(
            ReleasedAddress.server_id == server_id,
            ReleasedAddress.address_index == index,
            ReleasedAddress.public_key == public_key,
        )
        .returning(ReleasedAddress.id)
        .execution_options(synchronize_session=False)
    )
    return taken is not None
