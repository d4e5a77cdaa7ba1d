"""Copies whole tables from one database to another in chunks, and proves that both hold the same.

Rows and sequences only: what a table means, and which rows may be left out, is the business of whoever asks.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    Connection,
    Engine,
    NullPool,
    TableClause,
    bindparam,
    column,
    create_engine,
    event,
    func,
    insert,
    inspect,
    select,
    table,
    text,
)
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from webapp.errors import AppError, DatabaseUnusable
from webapp.models import Base
from webapp.services import schema
from webapp.services.database import Database, open_database, sqlite_path

CHUNK = 2000
"""Rows in memory at a time: one million profiles are copied in a few megabytes."""
_SUM_BYTES = 16

TABLES: Mapping[str, TableClause] = {
    # An empty JSON cell stays empty: the models' own type would write the word "null" into it.
    model.name: table(
        model.name,
        *(column(c.name, JSON(none_as_null=True) if isinstance(c.type, JSON) else c.type) for c in model.columns),
    )
    for model in Base.metadata.sorted_tables
}
"""Every table, with those that others refer to first."""
_NEVER_AGAIN = tuple(
    model.name for model in Base.metadata.sorted_tables if model.dialect_options["sqlite"]["autoincrement"]
)
"""Tables whose ids are never given twice, even after the row with the largest one is gone."""
_NUMBERED = tuple(
    model.name for model in Base.metadata.sorted_tables if list(model.primary_key.columns.keys()) == ["id"]
)


class CopyRefused(AppError):
    """A database cannot be copied. The target holds no rows then, and the source is as it was."""


@dataclass(frozen=True)
class TableSum:
    """What a table holds: how many rows, and a sum over them that depends neither on order nor on the database."""

    rows: int
    digest: int


def read_chunks(connection: Connection, name: str) -> Iterator[list[dict[str, Any]]]:
    """Yield the table's rows, some thousand at a time, each as column name and value."""
    rows = connection.execute(select(TABLES[name]), execution_options={"yield_per": CHUNK})
    keys = list(rows.keys())
    for part in rows.partitions():
        yield [dict(zip(keys, row, strict=True)) for row in part]


def insert_rows(connection: Connection, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert the rows; nothing where there are none.

    Raises IntegrityError as the database does, ValueError for a value that the column cannot hold.
    """
    try:
        for start in range(0, len(rows), CHUNK):
            connection.execute(insert(TABLES[name]), rows[start : start + CHUNK])
    except DataError as error:
        raise ValueError(f"a value of {name} does not fit") from error


def count_rows(connection: Connection) -> dict[str, int]:
    """Return how many rows each table has."""
    return {name: connection.scalar(select(func.count()).select_from(each)) or 0 for name, each in TABLES.items()}


def sum_tables(connection: Connection) -> dict[str, TableSum]:
    """Return the sum of every table; equal rows have equal sums on SQLite and on PostgreSQL."""
    sums = {}
    for name in TABLES:
        total = _Sum()
        for rows in read_chunks(connection, name):
            total.add(rows)
        sums[name] = total.result
    return sums


def copy_tables(source: Connection, target: Connection) -> dict[str, TableSum]:
    """Copy every row and the sequences to tables that are there and empty; return the sums of what was read.

    Both connections are in a transaction of the caller's: the source's is one snapshot, the target's is not
    committed here.
    """
    _be_patient(source)
    _be_patient(target)
    sums = {}
    for name in TABLES:
        total = _Sum()
        for rows in read_chunks(source, name):
            total.add(rows)
            insert_rows(target, name, rows)
        sums[name] = total.result
    raise_sequences(target, read_sequences(source))
    return sums


class _Sum:
    """Adds rows up: the sum of their hashes does not care in which order a database returns them."""

    def __init__(self) -> None:
        self._rows = 0
        self._digest = 0

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        for row in rows:
            values = [json.dumps(v, sort_keys=True) if isinstance(v, (dict, list)) else v for v in row.values()]
            digest = blake2b(repr(values).encode("utf-8", "surrogatepass"), digest_size=_SUM_BYTES).digest()
            self._digest += int.from_bytes(digest, "big")
            self._rows += 1

    @property
    def result(self) -> TableSum:
        return TableSum(self._rows, self._digest % 2 ** (8 * _SUM_BYTES))


def read_sequences(connection: Connection) -> dict[str, int]:
    """Return the largest id that each table with ids ever gave out, where the database remembers it."""
    if connection.dialect.name == "sqlite":
        rows = connection.execute(text("SELECT name, seq FROM sqlite_sequence"))
        return {name: last for name, last in rows if name in _NEVER_AGAIN}
    found = {}
    for name, sequence in _sequences(connection).items():
        last, is_called = connection.execute(text(f"SELECT last_value, is_called FROM {sequence}")).one()  # noqa: S608
        found[name] = last if is_called else last - 1
    return found


def raise_sequences(connection: Connection, at_least: Mapping[str, int]) -> None:
    """Let every table's next id be above its rows, above what was given out before, and above ``at_least``."""
    if connection.dialect.name == "sqlite":
        known = set(connection.scalars(text("SELECT name FROM sqlite_sequence")))
        for name in _NEVER_AGAIN:
            values = {"name": name, "last": at_least.get(name, 0)}
            if name not in known:
                connection.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, 0)"), values)
            connection.execute(text("UPDATE sqlite_sequence SET seq = max(seq, :last) WHERE name = :name"), values)
        return
    given = read_sequences(connection)
    for name, sequence in _sequences(connection).items():
        largest = connection.scalar(select(func.max(TABLES[name].c.id))) or 0
        last = max(largest, given[name], at_least.get(name, 0))
        if last > 0:
            connection.execute(select(func.setval(sequence, bindparam("last"), True)), {"last": last})


def _sequences(connection: Connection) -> dict[str, str]:
    """Return the sequence behind each table's ids; PostgreSQL only."""
    asked = {name: connection.scalar(select(func.pg_get_serial_sequence(name, "id"))) for name in _NUMBERED}
    return {name: sequence for name, sequence in asked.items() if sequence is not None}


def _be_patient(connection: Connection) -> None:
    """Take off PostgreSQL's limits for this one transaction: they are made for the web's short ones."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))


@contextmanager
def snapshot(db: Database) -> Iterator[Connection]:
    """Open one read-only transaction that sees what was confirmed before it began, however long it takes.

    Raises DatabaseUnusable.
    """
    with db.read() as session:
        connection = session.connection()
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET TRANSACTION READ ONLY"))
        _be_patient(connection)
        yield connection


def lock_tables(session: Session) -> Connection:
    """Keep all other writers out until the session's write transaction ends, and return its connection.

    SQLite's write transaction does so anyway. Readers go on, and see everything as it was.
    """
    connection = session.connection()
    _be_patient(connection)
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"LOCK TABLE {', '.join(TABLES)} IN EXCLUSIVE MODE"))
    return connection


def open_file(path: Path) -> Engine:
    """Return an engine that reads the SQLite file and can never write to it; it trusts nothing in its schema."""

    def connect() -> sqlite3.Connection:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        for pragma in ("query_only = ON", "trusted_schema = OFF", "cell_size_check = ON", "temp_store = MEMORY"):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool, hide_parameters=True)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return engine


@contextmanager
def open_source(url: str) -> Iterator[Database]:
    """Open the database to copy from, for reading only; an SQLite file that is not there is not made.

    Raises CopyRefused where there is none of this version, DatabaseUnusable where it does not answer.
    """
    path = sqlite_path(url)
    if path is not None and not path.is_file():
        raise CopyRefused("FROM: there is no file %(path)s.", path=path)
    db = open_database(url) if path is None else Database(open_file(path))
    try:
        found = schema.version(db.engine)
        if found is None:
            raise CopyRefused("FROM: this is no database of Postern. Nothing was changed.")
        if found != schema.CURRENT:
            raise CopyRefused(
                "FROM: its tables are version %(found)s, this code copies %(current)s. Type first: postern db upgrade",
                found=found,
                current=schema.CURRENT,
            )
        yield db
    finally:
        db.close()


def check_empty(target: Database) -> None:
    """Raise CopyRefused unless the database has no tables at all, or ours of this version without any row."""
    found = schema.version(target.engine)
    try:
        with target.engine.connect() as connection:
            if found is None:
                names = inspect(connection).get_table_names()
                if names:
                    raise CopyRefused(
                        "TO: this database belongs to another program (it has %(name)s). Nothing was changed.",
                        name=sorted(names)[0],
                    )
            elif found != schema.CURRENT:
                raise CopyRefused("TO: this database is not empty (version %(found)s).", found=found)
            else:
                _check_no_rows(connection)
    except DBAPIError as error:
        raise DatabaseUnusable from error


def _check_no_rows(connection: Connection) -> None:
    full = [name for name, rows in count_rows(connection).items() if rows]
    if full:
        raise CopyRefused("TO: this database is not empty (%(name)s has rows). Nothing was changed.", name=full[0])


def copy_database(source: Database, target: Database) -> dict[str, TableSum]:
    """Copy everything from one snapshot of the source to the empty, migrated target, and compare; return the sums.

    Raises CopyRefused for a target with rows, for a value that it cannot hold and for a difference, and
    DatabaseUnusable where one of the two does not answer; the target has no rows then.
    """
    with target.write() as session:
        connection = lock_tables(session)
        _check_no_rows(connection)
        try:
            with snapshot(source) as reading:
                sums = copy_tables(reading, connection)
        except (IntegrityError, ValueError, TypeError) as error:
            raise CopyRefused("A row cannot be copied: the source is damaged. TO is empty.") from error
        for name, copied in sum_tables(connection).items():
            if copied != sums[name]:
                raise CopyRefused("%(name)s is not the same in both. TO is empty.", name=name)
    return sums
