"""Tells that a transaction changed peers: by SQLite's ``data_version``, or by PostgreSQL's ``NOTIFY``."""

from __future__ import annotations

import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any, Protocol

from sqlalchemy.exc import DBAPIError

from webapp.services.database import CHANNEL, Database, sqlite_path

LISTEN_EVERY_S = 0.1
LISTEN_PG_S = 0.5


class Bell(Protocol):
    """Tells that a transaction changed peers."""

    def wait(self, timeout_s: float, stop: Event) -> None:
        """Return when something changed, when ``stop`` is set, or after the timeout."""


class SqliteBell:
    """Listens to an SQLite file: ``PRAGMA data_version`` on a connection that holds no transaction.

    The pragma costs microseconds and moves with every commit of another connection; only then ``change_seq`` is
    compared, so that the agent's own reports do not wake it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        self._data_version = -1
        self._change_seq = -1

    def wait(self, timeout_s: float, stop: Event) -> None:
        deadline = time.monotonic() + timeout_s
        while not stop.is_set() and time.monotonic() < deadline:
            try:
                if self._has_rung():
                    return
            except sqlite3.Error:
                self._close()
            stop.wait(min(LISTEN_EVERY_S, max(0.0, deadline - time.monotonic())))

    def _has_rung(self) -> bool:
        if self._connection is None:
            self._connection = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None
            )
        (data_version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if data_version == self._data_version:
            return False
        self._data_version = data_version
        (change_seq,) = self._connection.execute("SELECT max(value) FROM change_seq").fetchone()
        has_rung: bool = change_seq is not None and change_seq != self._change_seq
        self._change_seq = change_seq
        return has_rung

    def _close(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
        # After a reconnection everything is read again.
        self._connection, self._data_version, self._change_seq = None, -1, -1


class PostgresBell:
    """Listens to PostgreSQL's notifications on a connection of its own; after a reconnection it rings once."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self._connection: Any = None

    def wait(self, timeout_s: float, stop: Event) -> None:
        deadline = time.monotonic() + timeout_s
        while not stop.is_set() and (remaining := deadline - time.monotonic()) > 0:
            try:
                if self._connection is None:
                    self._connect()
                    return
                # Short, because a signal does not end the driver's waiting.
                if any(self._connection.notifies(timeout=min(LISTEN_PG_S, remaining), stop_after=1)):
                    return
            except (OSError, DBAPIError, self._driver_error()):
                self._close()
                stop.wait(min(1.0, max(0.0, deadline - time.monotonic())))

    def _connect(self) -> None:
        connection = self.db.engine.raw_connection()
        connection.detach()
        self._connection = connection.dbapi_connection
        self._connection.autocommit = True
        self._connection.execute(f"LISTEN {CHANNEL}")

    def _driver_error(self) -> type[Exception]:
        error: type[Exception] = self.db.engine.dialect.loaded_dbapi.Error
        return error

    def _close(self) -> None:
        if self._connection is not None:
            with suppress(self._driver_error()):
                self._connection.close()
        self._connection = None


def bell_of(db: Database) -> Bell:
    """Return the quickest bell that the database has."""
    path = sqlite_path(str(db.engine.url.render_as_string(hide_password=False)))
    return PostgresBell(db) if path is None else SqliteBell(path)
