"""Makes the interface's peers equal to the database, and writes down what the interface says.

One function does both the first filling and the smallest change: it compares everything and touches only what
differs, so a flushed interface, a killed daemon and a new profile are the same case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any, NamedTuple

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from webapp.domain.keys import PresharedKey, PublicKey
from webapp.domain.wgconf import ServerPeer
from webapp.errors import DecryptionFailed
from webapp.models import Base, ChangeSeq, PeerStatus, ReleasedAddress, RevokedKey, User, VpnProfile
from webapp.services.database import Database
from webapp.services.profiles import PRESHARED_KEY
from webapp.services.vault import Vault
from webapp.services.wg import InterfaceState, PeerState, WireGuard

COUNTER_COLUMNS = ("endpoint", "latest_handshake", "rx_bytes", "tx_bytes", "counter_rx", "counter_tx")


class StoredStatus(NamedTuple):
    """The columns of a ``PeerStatus`` that are compared; ten thousand of these cost a fifth of as many ORM objects."""

    profile_id: int
    public_key: str
    confirmed_at: datetime | None
    latest_handshake: datetime | None
    endpoint: str | None
    rx_bytes: int
    tx_bytes: int
    counter_rx: int
    counter_tx: int


@dataclass(frozen=True, slots=True)
class DesiredPeer:
    """A peer that should stand on the interface. ``allowed_ips`` is sorted text as ``dump`` has it."""

    profile_id: int
    allowed_ips: tuple[str, ...]
    sealed_preshared_key: bytes


@dataclass(frozen=True)
class Desired:
    """What should be true of one server, read in one snapshot: never a part of it.

    ``read_at`` and ``change_seq`` are the snapshot's; ``valid_until`` is when the next profile expires (None: none
    will). ``ours`` are all keys of our profiles, also those that are off; ``released`` those whose removal is not
    confirmed yet.
    """

    read_at: datetime
    change_seq: int
    valid_until: datetime | None
    peers: Mapping[str, DesiredPeer]
    ours: frozenset[str]
    released: frozenset[str]
    statuses: Mapping[int, StoredStatus]

    def holds(self, change_seq: int, now: datetime) -> bool:
        """Whether the snapshot is still true: nothing changed since, nobody expired, no clock was put back."""
        is_in_time = self.read_at <= now and (self.valid_until is None or self.valid_until > now)
        return self.change_seq == change_seq and is_in_time


@dataclass(frozen=True)
class Outcome:
    """What one reconciliation did and saw.

    ``withheld`` are our keys that were not added, because a stranger that stays holds their address. ``state`` is
    the interface as it was left (None: there is none). ``strangers`` are keys on it that are not
    ours; ``unreadable`` are profiles whose preshared key does not open; ``unconfirmed`` are keys that the command
    took and the interface does not show.
    """

    added: int
    removed: int
    state: InterfaceState | None
    strangers: tuple[str, ...]
    withheld: tuple[str, ...]
    unreadable: tuple[int, ...]
    unconfirmed: tuple[str, ...]


class PresharedKeys:
    """Opens preshared keys, and remembers each by its sealed text: 10,000 are asked for at every change."""

    def __init__(self, vault: Vault) -> None:
        self.vault = vault
        self._opened: dict[str, tuple[bytes, PresharedKey]] = {}

    def open(self, public_key: str, sealed: bytes) -> PresharedKey:
        """Return the preshared key. Raises DecryptionFailed."""
        known = self._opened.get(public_key)
        if known is not None and known[0] == sealed:
            return known[1]
        key = PresharedKey(self.vault.open(PRESHARED_KEY, public_key, sealed))
        self._opened[public_key] = (sealed, key)
        return key

    def forget_all_but(self, public_keys: Mapping[str, object]) -> None:
        """Drop what no peer needs any more."""
        for public_key in self._opened.keys() - public_keys.keys():
            del self._opened[public_key]


def load_desired(session: Session, server_id: int, now: datetime) -> Desired:
    """Read everything that the interface should be, in the session's one snapshot. Raises; never returns a part."""
    change_seq = session.scalars(select(ChangeSeq.value)).one()
    rows = session.execute(
        select(
            VpnProfile.id,
            VpnProfile.public_key,
            VpnProfile.ipv4_address,
            VpnProfile.ipv6_address,
            VpnProfile.preshared_key,
            VpnProfile.enabled,
            VpnProfile.expires_at,
            User.disabled,
        )
        .join(User, User.id == VpnProfile.user_id)
        .where(VpnProfile.server_id == server_id)
    ).all()
    peers = {}
    for row in rows:
        if row.enabled and not row.disabled and (row.expires_at is None or row.expires_at > now):
            addresses = [f"{row.ipv4_address}/32"]
            if row.ipv6_address is not None:
                addresses.append(f"{row.ipv6_address}/128")
            peers[row.public_key] = DesiredPeer(row.id, tuple(sorted(addresses)), row.preshared_key)
    released = session.scalars(
        select(ReleasedAddress.public_key).where(
            ReleasedAddress.server_id == server_id, ReleasedAddress.confirmed_absent_at.is_(None)
        )
    )
    revoked = session.scalars(
        select(RevokedKey.public_key).where(RevokedKey.server_id == server_id, RevokedKey.confirmed_absent_at.is_(None))
    )
    statuses = session.execute(
        select(*(getattr(PeerStatus, column) for column in StoredStatus._fields))
        .join(VpnProfile, VpnProfile.id == PeerStatus.profile_id)
        .where(VpnProfile.server_id == server_id)
    )
    return Desired(
        now,
        change_seq,
        min((row.expires_at for row in rows if row.expires_at and row.expires_at > now), default=None),
        peers,
        frozenset(row.public_key for row in rows),
        frozenset(released).union(revoked),
        {row.profile_id: row for row in map(StoredStatus._make, statuses)},
    )


class Reconciler:
    """Keeps the peers of one server. It remembers the last snapshot, so that an idle look costs no reading."""

    def __init__(self, db: Database, vault: Vault, server_id: int) -> None:
        self.db = db
        self.server_id = server_id
        self._keys = PresharedKeys(vault)
        self._desired: Desired | None = None

    def reconcile(self, wg: WireGuard, now: datetime, *, removes_strangers: bool) -> Outcome:
        """Compare the interface with the database, touch the peers that differ, and store what is seen then.

        Raises DatabaseUnusable or ToolError: the interface keeps what it had and got so far, nothing is
        confirmed that was not seen, and the next call does the rest. Where there is no interface, every
        peer counts as not confirmed, and no released key as gone.
        """
        desired = self._read(now)
        state = wg.show()
        actual = {} if state is None else state.peers
        held = {} if removes_strangers else _addresses_of_strangers(desired, actual)
        to_add, withheld, unreadable = _peers_to_add(desired, actual, held, self._keys)
        to_remove = _keys_to_remove(desired, actual, removes_strangers)
        if not removes_strangers:
            # What awg-quick brings back from its own file after a restart stays revoked.
            to_remove += self._revoked_among(sorted(actual.keys() - desired.ours - desired.released))
        if state is not None and to_remove:
            wg.remove_peers(to_remove)
        if state is not None and to_add:
            wg.add_peers(to_add)
        if state is not None and (to_add or to_remove):
            # The exit code is a promise; what the interface shows is the fact.
            state = wg.show()
            actual = {} if state is None else state.peers
        # An interface that cannot be seen proves nothing about the keys that should be gone from it.
        gone = [] if state is None else [key for key in desired.released if key not in actual]
        try:
            is_changed = _store(self.db, self.server_id, desired, actual, gone, now)
        except IntegrityError:
            is_changed = True  # A profile came or went since the snapshot: the next look sees it.
        if is_changed:
            self._desired = None
        return Outcome(
            len(to_add),
            len(to_remove),
            state,
            tuple(sorted(actual.keys() - desired.ours - desired.released)),
            withheld,
            unreadable,
            tuple(key for key in desired.peers if key not in actual),
        )

    def _revoked_among(self, public_keys: Sequence[str]) -> list[str]:
        """Return those of the keys that were ever revoked and not brought back."""
        found: list[str] = []
        with self.db.read() as session:
            for start in range(0, len(public_keys), 500):
                chunk = public_keys[start : start + 500]
                found += session.scalars(select(RevokedKey.public_key).where(RevokedKey.public_key.in_(chunk)))
        return found

    def _read(self, now: datetime) -> Desired:
        """Return the desired peers: the remembered ones while nothing changed and nobody expired."""
        known = self._desired
        with self.db.read() as session:
            if known is not None and known.holds(session.scalars(select(ChangeSeq.value)).one(), now):
                return known
            self._desired = load_desired(session, self.server_id, now)
        self._keys.forget_all_but(self._desired.peers)
        return self._desired


def _addresses_of_strangers(desired: Desired, actual: Mapping[str, PeerState]) -> Mapping[str, str]:
    """Return whose each network is, of the peers that are not ours: ``wg`` would move it without a word."""
    known = desired.ours | desired.released
    return {network: key for key, peer in actual.items() if key not in known for network in peer.allowed_ips.split(",")}


def _peers_to_add(
    desired: Desired, actual: Mapping[str, PeerState], held: Mapping[str, str], keys: PresharedKeys
) -> tuple[list[ServerPeer], tuple[str, ...], tuple[int, ...]]:
    to_add, withheld, unreadable = [], [], []
    for public_key, peer in desired.peers.items():
        try:
            preshared = keys.open(public_key, peer.sealed_preshared_key)
        except DecryptionFailed:
            unreadable.append(peer.profile_id)
            continue
        present = actual.get(public_key)
        if (
            present is not None
            and tuple(sorted(present.allowed_ips.split(","))) == peer.allowed_ips
            and present.preshared_key == preshared.to_base64()
        ):
            continue
        if any(address in held for address in peer.allowed_ips):
            withheld.append(public_key)
            continue
        networks = tuple(ip_network(address) for address in peer.allowed_ips)
        to_add.append(ServerPeer(PublicKey.from_base64(public_key), preshared, networks))
    return to_add, tuple(withheld), tuple(unreadable)


def _keys_to_remove(desired: Desired, actual: Mapping[str, PeerState], removes_strangers: bool) -> list[str]:
    if removes_strangers:
        return [key for key in actual if key not in desired.peers]
    ours = desired.ours | desired.released
    return [key for key in actual if key in ours and key not in desired.peers]


def _store(
    db: Database,
    server_id: int,
    desired: Desired,
    actual: Mapping[str, PeerState],
    gone: Sequence[str],
    now: datetime,
) -> bool:
    """Write down what was seen, in one transaction, where it differs from what is stored; say whether it did."""
    fresh, changed = [], []
    for public_key, peer in desired.peers.items():
        seen = actual.get(public_key)
        status = desired.statuses.get(peer.profile_id)
        if status is not None and seen is not None and _is_stored(status, public_key, seen):
            continue
        values = _status_values(public_key, status, seen, now)
        if status is None:
            if seen is not None:
                fresh.append({"profile_id": peer.profile_id, "updated_at": now, **values})
        elif any(getattr(status, column) != value for column, value in values.items()):
            changed.append({"b_profile_id": peer.profile_id, "updated_at": now, **values})
    wanted_ids = {peer.profile_id for peer in desired.peers.values()}
    for profile_id, status in desired.statuses.items():
        is_gone = profile_id not in wanted_ids and status.public_key not in actual
        if is_gone and status.confirmed_at is not None:
            changed.append({"b_profile_id": profile_id, "updated_at": now, **_gone_values(status)})
    if not (fresh or changed or gone):
        return False
    with db.write() as session:
        if fresh:
            # A profile deleted since the snapshot has no row to hang on to.
            alive = set(
                session.scalars(select(VpnProfile.id).where(VpnProfile.id.in_([row["profile_id"] for row in fresh])))
                if len(fresh) < 500
                else session.scalars(select(VpnProfile.id).where(VpnProfile.server_id == server_id))
            )
            rows = [row for row in fresh if row["profile_id"] in alive]
            if rows:
                session.execute(insert(PeerStatus), rows)
        if changed:
            statuses = Base.metadata.tables[PeerStatus.__tablename__]
            columns: dict[str, Any] = {column: bindparam(column) for column in changed[0] if column != "b_profile_id"}
            session.connection().execute(
                update(statuses).where(statuses.c.profile_id == bindparam("b_profile_id")).values(columns),
                changed,
            )
        for start in range(0, len(gone), 500):
            for table in (ReleasedAddress, RevokedKey):
                session.execute(
                    update(table)
                    .where(
                        table.server_id == server_id,
                        table.public_key.in_(gone[start : start + 500]),
                        table.confirmed_absent_at.is_(None),
                    )
                    .values(confirmed_absent_at=now)
                    .execution_options(synchronize_session=False)
                )
    return True


def _is_stored(status: StoredStatus, public_key: str, seen: PeerState) -> bool:
    """Whether the row says already what was seen: so it is for nearly all peers at every look."""
    return (
        status.confirmed_at is not None
        and status.public_key == public_key
        and status.counter_rx == seen.rx_bytes
        and status.counter_tx == seen.tx_bytes
        and (status.endpoint or "") == seen.endpoint
        and (not seen.latest_handshake or status.latest_handshake == datetime.fromtimestamp(seen.latest_handshake, UTC))
    )


def _status_values(
    public_key: str, status: StoredStatus | None, seen: PeerState | None, now: datetime
) -> dict[str, object]:
    """Return the row that should be stored for a peer; totals grow by what the counters grew since the last look."""
    if seen is None:
        assert status is None or status.public_key  # noqa: S101
        return {"public_key": public_key, "confirmed_at": None} | (
            {} if status is None else {column: getattr(status, column) for column in COUNTER_COLUMNS}
        )
    is_same_key = status is not None and status.public_key == public_key
    confirmed = status.confirmed_at if status is not None and is_same_key else None
    before_rx = before_tx = total_rx = total_tx = 0
    handshake = None
    if status is not None:
        total_rx, total_tx, handshake = status.rx_bytes, status.tx_bytes, status.latest_handshake
        before_rx, before_tx = status.counter_rx, status.counter_tx
    if seen.latest_handshake:
        handshake = datetime.fromtimestamp(seen.latest_handshake, UTC)
    return {
        "public_key": public_key,
        "confirmed_at": confirmed or now,
        "latest_handshake": handshake,
        "endpoint": seen.endpoint or None,
        "rx_bytes": total_rx + _growth(before_rx, seen.rx_bytes),
        "tx_bytes": total_tx + _growth(before_tx, seen.tx_bytes),
        "counter_rx": seen.rx_bytes,
        "counter_tx": seen.tx_bytes,
    }


def _gone_values(status: StoredStatus) -> dict[str, object]:
    kept = {column: getattr(status, column) for column in COUNTER_COLUMNS}
    return {"public_key": status.public_key, "confirmed_at": None, **kept, "counter_rx": 0, "counter_tx": 0}


def _growth(before: int, now: int) -> int:
    """How much a counter grew; one that is lower than before was reset, and counts from zero."""
    return now - before if now >= before else now
