"""Puts a backup in the place of what a database holds, without undoing what must never be undone.

People, tokens, profiles and the server's data become those of the file. A key that was revoked since stays out, a
key that is live now and not in the file is ordered off the interface, and no address gets a second owner.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from webapp.domain.addresses import FIRST_INDEX
from webapp.errors import N_, SettingsInvalid
from webapp.models import (
    AddressSequence,
    ApiToken,
    AuditEvent,
    ChangeSeq,
    Installation,
    ReleasedAddress,
    RevokedKey,
    Server,
    User,
    VpnProfile,
)
from webapp.services import audit, schema
from webapp.services.allocator import KEPT_FOR
from webapp.services.backup import (
    BackupRefused,
    Contents,
    check_contents,
    check_whole,
    copy_file,
    decrypt,
    is_encrypted,
    private_folder,
)
from webapp.services.database import Database, open_database, ring
from webapp.services.tombstones import Tombstones
from webapp.services.transfer import (
    TABLES,
    insert_rows,
    lock_tables,
    open_file,
    raise_sequences,
    read_chunks,
    read_sequences,
    snapshot,
)
from webapp.services.vault import Vault

REPLACED = ("users", "vpn_profiles", "peer_status", "api_tokens", "address_sequences")
"""Emptied and filled from the file."""
MERGED = (
    "servers",
    "installation",
    "change_seq",
    "audit_events",
    "released_addresses",
    "revoked_keys",
    "deleted_profiles",
)
"""Filled from both, each by a rule of its own."""
DROPPED = ("sessions", "setup_links")
"""Emptied: people sign in again, and a link that was used since must not work a second time."""
LEFT_ALONE = ("throttle_counters", "agent_reports", "agent_requests")
"""They are about this machine and this hour, not about what the backup holds."""

NOT_IN_CLIENT_FILES = {"id", "name", "interface", "interface_mode", "private_key", "revision", "created_at"}
"""Columns of a server that may differ from the backup's without making a downloaded file out of date."""


@dataclass(frozen=True)
class Backup:
    """An opened, checked backup of this version."""

    path: Path
    contents: Contents


@dataclass(frozen=True)
class Release:
    """A released address: whose key had it, and how long its profile can be brought back (None: it cannot)."""

    public_key: str
    released_at: datetime
    confirmed_absent_at: datetime | None
    kept_until: datetime | None


@dataclass(frozen=True)
class Facts:
    """What one database says of keys and addresses, by index in the pool."""

    profiles: Mapping[int, str]
    released: Mapping[int, Release] = field(default_factory=dict)
    revoked: frozenset[str] = frozenset()
    next_index: int = FIRST_INDEX


@dataclass(frozen=True)
class Plan:
    """What becomes of keys and addresses.

    ``restored``: the keys of the file that are let in. ``refused``: those of its profiles that were revoked.
    ``going``: keys that are live now and will not be. ``newly_revoked``: keys to be noted as revoked, and ordered
    off the interface, that this database does not know as such. ``released``: every address that rests then.
    """

    restored: frozenset[str]
    refused: frozenset[str]
    going: frozenset[str]
    newly_revoked: frozenset[str]
    released: Mapping[int, Release]
    next_index: int


def make_plan(current: Facts, backup: Facts, tombstones: frozenset[str], now: datetime, *, has_interface: bool) -> Plan:
    """Decide who gets in and which addresses rest. No address is both given and resting, and none is lost.

    Only what the current database saw gone from the interface counts as gone; what the file or the tombstones
    say is looked for again (without an interface there is nothing to look at).
    """
    absent = None if has_interface else now
    revoked = current.revoked | backup.revoked | tombstones
    given = {index: key for index, key in backup.profiles.items() if key not in revoked}
    restored = frozenset(given.values())
    going = {index: key for index, key in current.profiles.items() if key not in restored}
    # The later ones know better: the file, then what rests now, then who has the address at this moment.
    released = {
        index: Release(old.public_key, old.released_at, absent, old.kept_until)
        for index, old in backup.released.items()
    }
    refused = {index: key for index, key in backup.profiles.items() if key in revoked}
    released.update({index: Release(key, now, absent, None) for index, key in refused.items()})
    released.update(current.released)
    for index, key in going.items():
        old = backup.released.get(index)
        kept_until = old.kept_until if old is not None and old.public_key == key else None
        released[index] = Release(key, now, absent, kept_until)
    for index in given:
        released.pop(index, None)
    used = max((*given, *released), default=FIRST_INDEX - 1) + 1
    return Plan(
        restored=restored,
        refused=frozenset(refused.values()),
        going=frozenset(going.values()),
        newly_revoked=(revoked | frozenset(going.values())) - current.revoked,
        released=released,
        next_index=max(current.next_index, backup.next_index, used),
    )


@dataclass(frozen=True)
class Change:
    """How many of a kind there are now and in the file, how many come back, and how many go."""

    now: int
    in_file: int
    come_back: int
    go: int


@dataclass(frozen=True)
class Preview:
    """What a restore changes. ``refused``: profiles of the file that stay out, because their keys were revoked."""

    people: Change
    profiles: Change
    tokens: Change
    refused: int
    newest: datetime | None


class RestoreService:
    """Puts backups back into one database."""

    def __init__(
        self, db: Database, vault: Vault, tombstones: Tombstones, data_dir: Path, clock: Callable[[], datetime]
    ) -> None:
        self.db = db
        self.vault = vault
        self.tombstones = tombstones
        self.data_dir = data_dir
        self.clock = clock

    @contextmanager
    def open(self, file: Path, passphrase: str | None, migrate: Callable[[Database, Path], object]) -> Iterator[Backup]:
        """Check the file and hand out a backup of this version, decrypted and migrated in a copy where need be.

        Raises BackupRefused for a file that is foreign, cut short, damaged or newer, for a missing or wrong
        passphrase, and for another ENCRYPTION_KEY. The file is never written to, and no copy is left behind.
        """
        with private_folder(self.data_dir) as folder:
            path = file
            if is_encrypted(file):
                if passphrase is None:
                    raise BackupRefused(N_("This backup is encrypted: give its passphrase with --passphrase-stdin."))
                path = folder / "plain.db"
                decrypt(file, path, passphrase)
            version = check_whole(path)
            if version > schema.CURRENT:
                raise BackupRefused(
                    N_("This backup was made by a newer Postern (version %(version)s). Update Postern first."),
                    version=version,
                )
            if version < schema.CURRENT:
                path = _migrated(path, folder, migrate)
                version = check_whole(path)
            yield Backup(path, check_contents(path, version, self.vault))

    def preview(self, backup: Backup) -> Preview:
        """Say what a restore would change. Raises DatabaseUnusable or BackupRefused; nothing is ever changed."""
        with _reading(backup) as source, snapshot(self.db) as current:
            return _preview(current, source, self._plan(current, source, self.clock()), backup)

    def restore(self, backup: Backup, name: str) -> Preview:
        """Put the backup in the place of what is stored, in one transaction, and say what was changed.

        ``name`` is the file's, for the audit log. Raises BackupRefused where a row of the file cannot be stored,
        DatabaseUnusable where the database cannot be written; nothing was changed then.
        """

        now = self.clock()

        def work(session: Session) -> tuple[Preview, Plan]:
            with _reading(backup) as source:
                current = lock_tables(session)
                plan = self._plan(current, source, now)
                preview = _preview(current, source, plan, backup)
                _Replacement(session, source, plan, now).run(_printable(name))
            return preview, plan

        preview, plan = self.db.transact(work)
        for public_key in sorted(plan.newly_revoked):
            self.tombstones.revoke(public_key)
        return preview

    def _plan(self, current: Connection, source: Connection, now: datetime) -> Plan:
        mode = current.scalar(select(Server.interface_mode))
        return make_plan(_facts(current), _facts(source), self.tombstones.read(), now, has_interface=mode != "off")


@contextmanager
def _reading(backup: Backup) -> Iterator[Connection]:
    """Open the file; a value in it that is none of ours is a damaged file."""
    try:
        with open_file(backup.path).connect() as source:
            yield source
    except (IntegrityError, ValueError, TypeError) as error:
        raise BackupRefused(N_("This file is damaged. Nothing was changed.")) from error


def _migrated(path: Path, folder: Path, migrate: Callable[[Database, Path], object]) -> Path:
    """Return a copy of the file, brought up to this version."""
    copy = folder / "migrated.db"
    os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    copy_file(path, copy)
    db = open_database(f"sqlite:///{copy}")
    try:
        migrate(db, folder)
    except SettingsInvalid as error:
        raise BackupRefused(N_("This backup has a version that is not known here. Nothing was changed.")) from error
    finally:
        db.close()
    return copy


def _facts(connection: Connection) -> Facts:
    profiles = connection.execute(
        select(VpnProfile.address_index, VpnProfile.public_key), execution_options={"yield_per": 5000}
    )
    released = connection.execute(
        select(
            ReleasedAddress.address_index,
            ReleasedAddress.public_key,
            ReleasedAddress.released_at,
            ReleasedAddress.confirmed_absent_at,
            ReleasedAddress.kept_until,
        )
    )
    return Facts(
        {index: key for index, key in profiles},  # noqa: C416 - a Row is not a pair for the type checker
        {row.address_index: Release(*row[1:]) for row in released},
        frozenset(connection.scalars(select(RevokedKey.public_key))),
        connection.scalar(select(AddressSequence.next_index)) or FIRST_INDEX,
    )


def _preview(current: Connection, source: Connection, plan: Plan, backup: Backup) -> Preview:
    people, tokens = (
        Change(len(now), len(then), len(then - now), len(now - then))
        for now, then in (
            (_set_of(current, column), _set_of(source, column)) for column in (User.username_key, ApiToken.token_hash)
        )
    )
    live = current.scalar(select(func.count(VpnProfile.id))) or 0
    in_file = len(plan.restored) + len(plan.refused)
    profiles = Change(live, in_file, len(plan.restored) - (live - len(plan.going)), len(plan.going))
    return Preview(people, profiles, tokens, len(plan.refused), backup.contents.newest)


def _set_of(connection: Connection, column: Any) -> frozenset[str]:
    return frozenset(connection.scalars(select(column)))


class _Replacement:
    """One restore in one transaction that nobody else can write into."""

    def __init__(self, session: Session, source: Connection, plan: Plan, now: datetime) -> None:
        self.session = session
        self.source = source
        self.target = session.connection()
        self.plan = plan
        self.now = now
        self.server = _only(self.target, Server)
        self.had_profiles = self.target.scalar(select(VpnProfile.id).limit(1)) is not None

    def run(self, name: str) -> None:
        sequences = read_sequences(self.source)
        people_before = {row.id: row.created_at for row in self.target.execute(select(User.id, User.created_at))}
        deleted_before = self._deleted(self.target)
        # Deleted, not truncated: an agent that reads meanwhile must go on seeing its whole snapshot.
        emptied = {*REPLACED, *DROPPED, "deleted_profiles", "released_addresses"}
        for table in reversed(list(TABLES)):
            if table in emptied:
                self.target.execute(delete(TABLES[table]))
        self._update_server()
        self._copy("users")
        self._copy_profiles()
        self._copy("api_tokens")
        self._insert_keys_and_addresses()
        self._insert_deleted(people_before, deleted_before)
        self._merge_audit()
        raise_sequences(self.target, sequences)
        value = self.source.scalar(select(ChangeSeq.value)) or 0
        self.target.execute(update(ChangeSeq).where(ChangeSeq.value < value).values(value=value))
        created_at = self.source.scalar(select(Installation.created_at))
        self.target.execute(update(Installation).values(created_at=created_at))
        audit.record(self.session, audit.CONSOLE, "database.restore", name, self.now)
        self.session.flush()
        ring(self.session)

    def _update_server(self) -> None:
        """Take over the file's server under this row's id; its interface and mode are this machine's."""
        theirs = dict(_only(self.source, Server))
        if self.had_profiles:
            # Somebody may hold a file of a later revision than the backup's: the same number must not come again.
            differs = any(theirs[column] != self.server[column] for column in theirs.keys() - NOT_IN_CLIENT_FILES)
            theirs["revision"] = max(theirs["revision"], self.server["revision"]) + differs
        for column in ("id", "interface", "interface_mode"):
            del theirs[column]
        self.target.execute(update(Server).values(theirs))

    def _copy(self, table: str) -> None:
        for rows in read_chunks(self.source, table):
            insert_rows(self.target, table, rows)

    def _copy_profiles(self) -> None:
        left_out: set[int] = set()
        for rows in read_chunks(self.source, "vpn_profiles"):
            left_out.update(row["id"] for row in rows if row["public_key"] not in self.plan.restored)
            wanted = [row | self._here for row in rows if row["public_key"] in self.plan.restored]
            insert_rows(self.target, "vpn_profiles", wanted)
        for rows in read_chunks(self.source, "peer_status"):
            # What stands on the interface is for the agent to see anew.
            wanted = [row | {"confirmed_at": None} for row in rows if row["profile_id"] not in left_out]
            insert_rows(self.target, "peer_status", wanted)

    @property
    def _here(self) -> dict[str, Any]:
        return {"server_id": self.server["id"]}

    def _insert_keys_and_addresses(self) -> None:
        absent = self.now if self.server["interface_mode"] == "off" else None
        insert_rows(self.target, "address_sequences", [self._here | {"next_index": self.plan.next_index}])
        orders = [
            {"public_key": key, "revoked_at": self.now, "confirmed_absent_at": absent, **self._here}
            for key in self.plan.newly_revoked
        ]
        insert_rows(self.target, "revoked_keys", orders)
        # Numbered here in the order in which they were released: the one that rested longest is given out first.
        oldest_first = sorted(self.plan.released.items(), key=lambda item: (item[1].released_at, item[0]))
        released = [
            {"id": number, "address_index": index, **vars(release), **self._here}
            for number, (index, release) in enumerate(oldest_first, start=1)
        ]
        insert_rows(self.target, "released_addresses", released)

    def _deleted(self, connection: Connection) -> list[dict[str, Any]]:
        deleted = TABLES["deleted_profiles"]
        rows = connection.execute(select(deleted).where(deleted.c.deleted_at > self.now - KEPT_FOR))
        return [dict(row) for row in rows.mappings()]

    def _insert_deleted(self, people_before: Mapping[int, datetime], deleted_before: list[dict[str, Any]]) -> None:
        """Keep the deleted profiles whose address still rests for them, of people who are the same as before."""
        people = {row.id: row.created_at for row in self.target.execute(select(User.id, User.created_at))}
        taken = set(self.target.scalars(select(VpnProfile.id)))
        kept: dict[int, dict[str, Any]] = {}
        same = [row for row in deleted_before if people.get(row["user_id"]) == people_before[row["user_id"]]]
        for row in (*same, *self._deleted(self.source)):
            rests = self.plan.released.get(row["address_index"])
            is_kept = rests is not None and rests.public_key == row["public_key"]
            if is_kept and row["id"] not in taken and row["user_id"] in people:
                kept.setdefault(row["id"], row | self._here)
        insert_rows(self.target, "deleted_profiles", list(kept.values()))

    def _merge_audit(self) -> None:
        """The file's events, then what was recorded here since: the log of the time between is not lost."""
        newest, largest = self.source.execute(select(func.max(AuditEvent.at), func.max(AuditEvent.id))).one()
        if newest is None or largest is None:
            return
        # An id tells in the same installation, whatever its clock did; the time tells in another one.
        self.target.execute(delete(AuditEvent).where(AuditEvent.at <= newest, AuditEvent.id <= largest))
        lowest, highest = self.target.execute(select(func.min(AuditEvent.id), func.max(AuditEvent.id))).one()
        if lowest is not None and highest is not None and lowest <= largest:
            self.target.execute(update(AuditEvent).values(id=AuditEvent.id + max(largest, highest)))
        self._copy("audit_events")


def _only(connection: Connection, model: type[Server]) -> RowMapping:
    return connection.execute(select(TABLES[model.__tablename__])).mappings().one()


def _printable(name: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in name)
