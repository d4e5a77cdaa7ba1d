"""One engine, two ways in: ``read`` sees a snapshot, ``write`` is one transaction that takes the lock first."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, text, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from webapp.errors import DatabaseUnusable
from webapp.models import ChangeSeq

Result = TypeVar("Result")
BUSY_TIMEOUT_S = 10
"""How long a writer waits for another process's write lock before the answer is 503."""
TRIES = 3
CHANNEL = "postern_change"
"""The channel that PostgreSQL notifies when ``change_seq`` goes up."""
POOL_SIZE = 24
"""At least two connections (one reads, one writes) for each of gunicorn's threads."""


class Database:
    """The sessions of one engine. ``configure_engine`` must have seen the engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._write_engine = engine.execution_options(postern_write=True)
        # PostgreSQL would show each statement a snapshot of its own; SQLite's read transaction has one anyway.
        is_sqlite = engine.dialect.name == "sqlite"
        self._read_engine = engine if is_sqlite else engine.execution_options(isolation_level="REPEATABLE READ")
        # SQLite has one writer: waiting in line here is fairer and quicker than its own polling.
        self._line = threading.Lock() if is_sqlite else nullcontext()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Open a session that sees one snapshot. Raises DatabaseUnusable; nothing is ever changed."""
        with _deliberate(), Session(self._read_engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Open one write transaction: committed when the block ends, rolled back whole when it raises.

        Raises DatabaseUnusable when the database is locked, full, read-only, corrupt or gone; nothing is stored then.
        IntegrityError passes through: the service that wrote knows what it means.
        """
        with (
            _deliberate(),
            self._line,
            Session(self._write_engine, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    def transact(self, work: Callable[[Session], Result]) -> Result:
        """Run the work in a write transaction and return its result, after a commit.

        Where another transaction was in the way (a constraint, a deadlock, a serialisation failure) or the
        connection was lost before the commit, everything was rolled back and the work is run again, so it sees
        what the other one stored. Raises as ``write``; after a connection lost during the commit itself nobody
        knows, so it is not run again.
        """
        for tries_left in reversed(range(TRIES)):
            is_worked = False
            try:
                with self._line, Session(self._write_engine, expire_on_commit=False) as session, session.begin():
                    result = work(session)
                    session.flush()
                    is_worked = True
                return result
            except IntegrityError:
                if not tries_left:
                    raise
            except PoolTimeout as error:
                raise DatabaseUnusable from error
            except DBAPIError as error:
                if not tries_left or not _was_in_the_way(error, is_worked):
                    raise DatabaseUnusable from error
        raise AssertionError("the last try returns or raises")

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()


def _was_in_the_way(error: DBAPIError, is_worked: bool) -> bool:
    if error.connection_invalidated:
        return not is_worked
    # serialization_failure and deadlock_detected (PostgreSQL, appendix A)
    return getattr(error.orig, "sqlstate", None) in {"40001", "40P01"}


@contextmanager
def _deliberate() -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise
    except (DBAPIError, PoolTimeout) as error:
        raise DatabaseUnusable from error


def engine_options(url: str) -> dict[str, Any]:
    """Return the keyword arguments for ``create_engine`` that both databases run with."""
    options: dict[str, Any] = {
        "pool_size": POOL_SIZE,
        "max_overflow": 0,
        "pool_timeout": BUSY_TIMEOUT_S,
        "hide_parameters": True,  # Errors go to the log; sealed keys and hashes do not.
    }
    if make_url(url).get_backend_name() == "sqlite":
        options["connect_args"] = {"timeout": BUSY_TIMEOUT_S, "check_same_thread": False}
    else:
        options["pool_pre_ping"] = True
        # The limits are of each session: a lock or a lost client must never hold up everybody.
        limits = {
            "timezone": "UTC",
            "lock_timeout": "10s",
            "statement_timeout": "30s",
            "idle_in_transaction_session_timeout": "60s",
        }
        words = " ".join(f"-c {name}={value}" for name, value in limits.items())
        options["connect_args"] = {"connect_timeout": 5, "options": words}
    return options


def open_database(url: str) -> Database:
    """Make the engine for the URL and return its sessions. An SQLite file is made 0600 where there is none."""
    prepare_file(url)
    engine = create_engine(url, **engine_options(url))
    configure_engine(engine)
    return Database(engine)


def prepare_file(url: str) -> None:
    """Make SQLite's folder 0700 and its file 0600 before SQLite makes them wider; ``-wal`` and ``-shm`` follow it."""
    path = sqlite_path(url)
    if path is None:
        return
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise DatabaseUnusable from error


def sqlite_path(url: str) -> Path | None:
    """Return the file of an SQLite URL, or None for another database or one in memory."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database or ":memory:" in parsed.database:
        return None
    return Path(parsed.database)


def configure_engine(engine: Engine) -> None:
    """Give the engine's connections the pragmas, and its transactions the kind, that this program relies on."""
    if engine.dialect.name != "sqlite":
        return

    @event.listens_for(engine, "connect")
    def set_pragmas(dbapi_connection: Any, _record: Any) -> None:
        # The driver's own transaction handling is switched off; "begin" below decides instead.
        dbapi_connection.isolation_level = None
        cursor = dbapi_connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")  # A confirmed profile must survive a power loss.
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA temp_store = MEMORY")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A deferred transaction that reads and then writes fails at once with "locked", whatever the timeout.
        is_write = connection.get_execution_options().get("postern_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")


_RING = update(ChangeSeq).values(value=ChangeSeq.value + 1).execution_options(synchronize_session=False)


def ring(session: Session) -> None:
    """Bump ``change_seq`` in the session's own transaction: the agent wakes when, and only if, it commits."""
    session.execute(_RING)
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text(f"NOTIFY {CHANNEL}"))
