"""Makes backups: one file that is a whole database of ours, proven readable before it gets its name.

What a file is (plain or under a passphrase), how it is made, checked and kept is here; what a restore does with it
is ``restore``'s.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import sqlite3
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

from sqlalchemy import Connection, NullPool, create_engine, func, inspect, select, text
from sqlalchemy.exc import DBAPIError

from webapp.errors import N_, AppError, DecryptionFailed
from webapp.models import AuditEvent, Base, Installation, Server, VpnProfile
from webapp.services import schema
from webapp.services.database import Database
from webapp.services.profiles import PRESHARED_KEY
from webapp.services.servers import PRIVATE_KEY, Problem
from webapp.services.transfer import copy_tables, count_rows, open_file, snapshot, sum_tables
from webapp.services.vault import Vault

MAGIC = b"postern backup 1\n"
SALT_BYTES = 16
CHUNK = 64 * 1024
_TAG_BYTES = 16
_SQLITE_MAGIC = b"SQLite format 3\0"
_SQLITE_HEAD_BYTES = 100
"""https://www.sqlite.org/fileformat.html, 1.3"""
PASSPHRASE_CHARACTERS = 8
FOLDER = "backups"
DAILY_KEPT = 7
ROOM_LEFT = 64 * 2**20
"""A scheduled backup leaves so many bytes free: the database itself needs room to go on."""
_SCHEDULED = re.compile(r"postern-(\d{8})-\d{6}\.db")


class BackupRefused(AppError):
    """A backup cannot be made (no file is left behind), or a file cannot be used (nothing was changed)."""


@dataclass(frozen=True)
class Contents:
    """What a checked backup holds: its tables' version and row counts, and when something last happened in it."""

    version: str
    key_id: str
    rows: dict[str, int]
    newest: datetime | None


class BackupService:
    """The verbs on backups of one database."""

    def __init__(self, db: Database, vault: Vault, data_dir: Path, clock: Callable[[], datetime]) -> None:
        self.db = db
        self.vault = vault
        self.data_dir = data_dir
        self.clock = clock

    def make(self, file: Path, *, passphrase: str | None = None, force: bool = False) -> Contents:
        """Write what is confirmed now to the file (0600), while others go on writing, and prove that it opens.

        With a passphrase the file is encrypted with it as well. Raises BackupRefused where the file exists already
        (unless ``force``), cannot be written or does not stand the proof: no file is left behind then, and one
        that ``force`` would have replaced is still there. Raises DatabaseUnusable; no file then either.
        """
        if passphrase is not None:
            _check_passphrase(passphrase)
        if not force and os.path.lexists(file):
            raise BackupRefused(N_("%(file)s exists already. Take another name, or --force."), file=file)
        try:
            with _temporary(file) as fresh:
                if passphrase is None:
                    contents = self._write(fresh)
                else:
                    # The plain text stays where the database is: the file may be for somewhere less private.
                    with private_folder(self.data_dir) as folder:
                        plain = folder / "plain.db"
                        os.close(os.open(plain, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
                        contents = self._write(plain)
                        encrypt(plain, fresh, passphrase)
                        decrypt(fresh, folder / "again.db", passphrase)
                        if _digest(plain) != _digest(folder / "again.db"):
                            raise BackupRefused(N_("What was written cannot be read back. No file was made."))
                _sync(fresh)
                os.replace(fresh, file)
            with suppress(OSError):  # Some file systems cannot sync a folder.
                _sync(file.absolute().parent)
        except (OSError, sqlite3.Error, DBAPIError) as error:
            raise BackupRefused(
                N_("The backup could not be made: %(reason)s. No file was left behind."), reason=_reason(error)
            ) from error
        return contents

    def _write(self, target: Path) -> Contents:
        """Fill the empty file with one snapshot and check it against that. Raises as ``make``."""
        if self.db.engine.dialect.name == "sqlite":
            rows = _copy_pages(self.db, target)
            contents = check(target, self.vault)
            is_same = contents.rows == rows
        else:
            with snapshot(self.db) as source, _new_database(target) as copy:
                sums = copy_tables(source, copy)
            contents = check(target, self.vault)
            with open_file(target).connect() as connection:
                is_same = sum_tables(connection) == sums
        if not is_same:
            raise BackupRefused(N_("The copy is not what was read. No file was made."))
        return contents

    def run_scheduled(self) -> Problem | None:
        """Make today's backup in DATA_DIR/backups unless there is one, and keep the newest seven.

        Returns what the admin should know where it could not be made, and tries again when it is called again.
        """
        now = self.clock()
        folder = self.data_dir / FOLDER
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            kept = sorted(path for path in folder.iterdir() if _SCHEDULED.fullmatch(path.name))
            if any(path.name.startswith(f"postern-{now:%Y%m%d}-") for path in kept):
                return None
            for left in folder.glob("postern-*.tmp*"):
                left.unlink()  # A backup that was killed left it.
            self._check_room(folder)
            fresh = folder / f"postern-{now:%Y%m%d-%H%M%S}.db"
            self.make(fresh)
            for old in kept[: -(DAILY_KEPT - 1)]:
                old.unlink()
        except (OSError, AppError) as error:
            return Problem(
                N_("The daily backup could not be made"),
                _reason(error) if isinstance(error, OSError) else str(error),
                f"df -h {folder}",
            )
        return None

    def _check_room(self, folder: Path) -> None:
        with self.db.read() as session:
            if session.get_bind().dialect.name == "sqlite":
                pages = session.scalar(text("PRAGMA page_count")) * session.scalar(text("PRAGMA page_size"))
            else:
                pages = session.scalar(text("SELECT pg_database_size(current_database())"))
        disk = os.statvfs(folder)
        if disk.f_bavail * disk.f_frsize < pages + ROOM_LEFT:
            raise BackupRefused(N_("The disk has no room for it (%(size)s MB are needed)."), size=pages // 10**6 + 1)


def _copy_pages(db: Database, target: Path) -> dict[str, int]:
    """Copy an SQLite database by its online backup, and return the row counts of that very snapshot."""
    pooled = db.engine.raw_connection()
    try:
        source = pooled.driver_connection
        assert isinstance(source, sqlite3.Connection)  # noqa: S101
        source.execute("BEGIN")
        try:
            # The first read fixes the snapshot; the backup of the same connection copies that.
            names = [name for (name,) in source.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            rows = {
                name: source.execute(f"SELECT count(*) FROM {name}").fetchone()[0]  # noqa: S608
                for name in Base.metadata.tables
                if name in names
            }
            with closing(sqlite3.connect(target, isolation_level=None)) as copy:
                copy.execute("PRAGMA synchronous = OFF")  # It is synced once, at the end.
                source.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE")
        finally:
            source.execute("ROLLBACK")
    finally:
        pooled.close()
    return rows


@contextmanager
def _new_database(path: Path) -> Iterator[Connection]:
    """Make all tables of this version in the file and open the one transaction that fills them."""
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool, hide_parameters=True)
    with engine.begin() as connection:
        for pragma in ("journal_mode = MEMORY", "synchronous = OFF"):  # A file that was cut short is thrown away.
            connection.exec_driver_sql(f"PRAGMA {pragma}")
        Base.metadata.create_all(connection)
        connection.exec_driver_sql(
            "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL,"
            " CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
        )
        connection.exec_driver_sql("INSERT INTO alembic_version VALUES (?)", (schema.CURRENT,))
        yield connection


def copy_file(plain: Path, target: Path) -> None:
    """Copy a plain backup, or an SQLite database with all that its log holds, to a file that exists and is empty."""
    pooled = open_file(plain).raw_connection()
    try:
        source = pooled.driver_connection
        assert isinstance(source, sqlite3.Connection)  # noqa: S101
        with closing(sqlite3.connect(target, isolation_level=None)) as copy:
            source.backup(copy)
    finally:
        pooled.close()


def check_whole(path: Path) -> str:
    """Return the version of a plain backup after looking at every page of it.

    Raises BackupRefused for a file that is foreign, cut short or damaged.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(_SQLITE_HEAD_BYTES)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise BackupRefused(N_("%(file)s cannot be read: %(reason)s."), file=path, reason=_reason(error)) from error
    if not head.startswith(_SQLITE_MAGIC):
        raise BackupRefused(N_("This file is no backup of Postern. Nothing was changed."))
    pages, page_size = int.from_bytes(head[28:32], "big"), int.from_bytes(head[16:18], "big")
    if size < _SQLITE_HEAD_BYTES or pages * (65536 if page_size == 1 else page_size) > size:
        raise BackupRefused(N_("This file was cut short. Nothing was changed."))
    engine = open_file(path)
    try:
        with engine.connect() as connection:
            if connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar() != "ok":
                raise BackupRefused(_DAMAGED)
            is_ours = inspect(connection).has_table("alembic_version") and inspect(connection).has_table("vpn_profiles")
            found = connection.scalar(text("SELECT version_num FROM alembic_version")) if is_ours else None
            if found is None:
                raise BackupRefused(N_("This is the database of another program. Nothing was changed."))
            if connection.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
                raise BackupRefused(_DAMAGED)
    except DBAPIError as error:
        raise BackupRefused(_DAMAGED) from error
    return str(found)


_DAMAGED = N_("This file is damaged. Nothing was changed.")


def check(path: Path, vault: Vault) -> Contents:
    """Return what a plain backup of this version holds, after proving that it is whole and opens with this key.

    Raises BackupRefused for one that is foreign, cut short, damaged, of another version, or made with another
    ENCRYPTION_KEY.
    """
    return check_contents(path, check_whole(path), vault)


def check_contents(path: Path, version: str, vault: Vault) -> Contents:
    """Do what is left of ``check`` for a file of which ``check_whole`` returned that version. Raises the same."""
    if version != schema.CURRENT:
        raise BackupRefused(
            N_("This backup has version %(version)s, this Postern reads %(current)s. Nothing was changed."),
            version=version,
            current=schema.CURRENT,
        )
    try:
        with open_file(path).connect() as connection:
            key_id = connection.scalar(select(Installation.encryption_key_id))
            if key_id is None or connection.scalar(select(func.count(Server.id))) != 1:
                raise BackupRefused(N_("This backup holds no installation. Nothing was changed."))
            if key_id != vault.key_id:
                raise BackupRefused(
                    N_(
                        "This backup was made with the ENCRYPTION_KEY %(theirs)s, and this installation has %(ours)s."
                        " Nothing was changed. Bring back that key (or its file DATA_DIR/encryption_key) first."
                    ),
                    theirs=key_id,
                    ours=vault.key_id,
                )
            _open_one(connection, vault)
            newest = connection.scalar(select(func.max(AuditEvent.at)))
            return Contents(version, key_id, count_rows(connection), newest)
    except (DBAPIError, ValueError, TypeError, DecryptionFailed) as error:
        raise BackupRefused(_DAMAGED) from error


def _open_one(connection: Connection, vault: Vault) -> None:
    """Open the server's key and the newest profile's, where there are such. Raises DecryptionFailed."""
    server = select(Server.public_key, Server.private_key).where(Server.private_key.is_not(None))
    profile = select(VpnProfile.public_key, VpnProfile.preshared_key).order_by(VpnProfile.id.desc()).limit(1)
    for purpose, query in ((PRIVATE_KEY, server), (PRESHARED_KEY, profile)):
        for public_key, sealed in connection.execute(query):
            vault.open(purpose, str(public_key), sealed or b"")


def is_encrypted(path: Path) -> bool:
    """Whether the file asks for a passphrase. Raises BackupRefused where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise BackupRefused(N_("%(file)s cannot be read: %(reason)s."), file=path, reason=_reason(error)) from error


def encrypt(plain: Path, target: Path, passphrase: str) -> None:
    """Write the file's encryption to the target, which exists.

    ``magic | salt (16) | chunks``: each chunk is 64 KiB under AES-256-GCM with its number as the nonce; the last
    one, which may be empty, is marked, so that a file that was cut short between two chunks is noticed. The key
    is scrypt's (n=2**15, r=8, p=1) of the passphrase; every file has a salt and so a key of its own.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    salt = os.urandom(SALT_BYTES)
    cipher = AESGCM(_key(passphrase, salt))
    with open(plain, "rb") as source, open(target, "r+b") as file:
        file.write(MAGIC + salt)
        for number, chunk, is_last in _chunks(source, CHUNK):
            file.write(cipher.encrypt(_nonce(number, is_last), chunk, MAGIC))


def decrypt(file: Path, plain: Path, passphrase: str) -> None:
    """Write the file's plain text to a new file (0600).

    Raises BackupRefused for another passphrase, a changed byte or a missing end; the new file is of no use then.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    with open(file, "rb") as source, open(os.open(plain, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
        salt = source.read(len(MAGIC) + SALT_BYTES)[len(MAGIC) :]
        cipher = AESGCM(_key(passphrase, salt))
        number = -1
        try:
            for number, chunk, is_last in _chunks(source, CHUNK + _TAG_BYTES):
                target.write(cipher.decrypt(_nonce(number, is_last), chunk, MAGIC))
        except InvalidTag as error:
            if number == 0:
                sentence = N_("The passphrase is wrong, or the file is damaged. Nothing was changed.")
            else:
                sentence = N_("This file was cut short or damaged. Nothing was changed.")
            raise BackupRefused(sentence) from error


def _chunks(file: IO[bytes], size: int) -> Iterator[tuple[int, bytes, bool]]:
    """Yield number, bytes, and whether they are the last; an empty file has one empty chunk."""
    number, chunk = 0, file.read(size)
    while True:
        following = file.read(size)
        yield number, chunk, not following
        if not following:
            return
        number, chunk = number + 1, following


def _nonce(number: int, is_last: bool) -> bytes:
    return number.to_bytes(11, "big") + (b"\x01" if is_last else b"\x00")


def _key(passphrase: str, salt: bytes) -> bytes:
    secret = unicodedata.normalize("NFC", passphrase).encode("utf-8", "surrogateescape")
    return hashlib.scrypt(secret, salt=salt, n=2**15, r=8, p=1, maxmem=2**26, dklen=32)


def _check_passphrase(passphrase: str) -> None:
    if len(passphrase) < PASSPHRASE_CHARACTERS:
        raise BackupRefused(
            N_("The passphrase is too short: %(characters)s characters or more."), characters=PASSPHRASE_CHARACTERS
        )


@contextmanager
def _temporary(file: Path) -> Iterator[Path]:
    """Make an empty file (0600) beside the other; it is gone at the end unless it was given its name."""
    fresh = file.with_name(f"{file.name}.{secrets.token_hex(4)}.tmp")
    os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        yield fresh
    finally:
        for left in (fresh, *(fresh.with_name(fresh.name + ending) for ending in ("-journal", "-wal", "-shm"))):
            left.unlink(missing_ok=True)


@contextmanager
def private_folder(parent: Path) -> Iterator[Path]:
    """Make a folder (0700) that is gone with all it holds at the end."""
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix="backup-") as folder:
        yield Path(folder)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _digest(path: Path) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).splitlines()[0]
