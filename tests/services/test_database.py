"""The engine: file modes, who takes the lock when, and every way in which a database can be unusable."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, select, text
from sqlalchemy.exc import IntegrityError

from webapp.errors import DatabaseUnusable
from webapp.models import ChangeSeq, Installation
from webapp.services import database as module
from webapp.services.database import Database, configure_engine, engine_options, open_database, ring, sqlite_path
from webapp.settings import ROOT, Settings
from webapp.wiring import Services


@pytest.fixture
def impatient(settings: Settings, database: Database) -> Iterator[Database]:
    """A second way into the same file that waits for a lock only a moment and has one connection."""
    engine = create_engine(
        settings.database_url, connect_args={"timeout": 0.1}, pool_size=1, max_overflow=0, pool_timeout=0.1
    )
    configure_engine(engine)
    yield Database(engine)
    engine.dispose()


def value_of(db: Database) -> int | None:
    with db.read() as session:
        return session.scalar(select(ChangeSeq.value))


class TestFiles:
    def test_all_files_are_0600_in_a_folder_0700_whatever_the_umask(self, tmp_path: Path) -> None:
        old = os.umask(0)
        try:
            db = open_database(f"sqlite:///{tmp_path / 'data' / 'postern.db'}")
            with db.write() as session:
                session.execute(text("CREATE TABLE t (x)"))
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data").iterdir()}
            db.close()
        finally:
            os.umask(old)
        assert modes == {"postern.db": 0o600, "postern.db-wal": 0o600, "postern.db-shm": 0o600}
        assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700

    def test_a_folder_in_the_place_of_the_file_is_unusable(self, tmp_path: Path) -> None:
        with pytest.raises(DatabaseUnusable):
            open_database(f"sqlite:///{tmp_path}")

    @pytest.mark.parametrize(
        ("url", "path"),
        [
            ("sqlite:////srv/postern.db", Path("/srv/postern.db")),
            ("sqlite://", None),
            ("sqlite:///:memory:", None),
            ("postgresql+psycopg://somebody@host/name", None),
        ],
    )
    def test_only_an_sqlite_file_has_a_path(self, url: str, path: Path | None) -> None:
        assert sqlite_path(url) == path


class TestTransactions:
    @pytest.mark.parametrize(
        ("pragma", "value"), [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 10000)]
    )
    def test_connections_are_durable_and_patient(self, database: Database, pragma: str, value: object) -> None:
        with database.read() as session:
            assert session.scalar(text(f"PRAGMA {pragma}")) == value

    def test_a_writer_takes_the_lock_before_it_reads(self, database: Database, impatient: Database) -> None:
        with database.write() as first:
            first.scalars(select(ChangeSeq.value)).all()
            with pytest.raises(DatabaseUnusable), impatient.write() as second:
                second.scalars(select(ChangeSeq.value)).all()

    def test_a_reader_takes_no_lock_and_waits_for_none(self, services: Services, impatient: Database) -> None:
        with services.db.write() as session:
            ring(session)
            session.flush()
            assert value_of(impatient) == 1
        assert value_of(impatient) == 2

    def test_a_reader_sees_one_snapshot(self, services: Services) -> None:
        with services.db.read() as reader:
            assert reader.scalar(select(ChangeSeq.value)) == 1
            with services.db.write() as session:
                ring(session)
            assert reader.scalar(select(ChangeSeq.value)) == 1
        assert value_of(services.db) == 2

    def test_what_a_reader_adds_is_never_stored(self, services: Services) -> None:
        with services.db.read() as session:
            ring(session)
        assert value_of(services.db) == 1

    def test_an_error_rolls_the_whole_transaction_back(self, services: Services) -> None:
        def fail() -> None:
            with services.db.write() as session:
                ring(session)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        assert value_of(services.db) == 1

    def test_a_broken_constraint_is_the_services_business(self, services: Services) -> None:
        with pytest.raises(IntegrityError), services.db.write() as session:
            session.add(ChangeSeq(id=2, value=1))
        assert value_of(services.db) == 1

    def test_eight_threads_that_count_lose_nothing(self, services: Services) -> None:
        def count() -> None:
            for _ in range(25):
                with services.db.write() as session:
                    ring(session)

        threads = [threading.Thread(target=count) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert value_of(services.db) == 201


class TestUnusable:
    """Whatever is wrong with the database is one error, with a cause for the log, and leaves no lock behind."""

    def test_locked_by_another_program(self, impatient: Database, database_file: Path) -> None:
        with closing(sqlite3.connect(database_file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(DatabaseUnusable) as caught, impatient.write() as session:
                ring(session)
            other.execute("ROLLBACK")
        assert "database is locked" in str(caught.value.__cause__)
        with impatient.write() as session:
            session.execute(text("CREATE TABLE t (x)"))

    def test_a_file_of_nonsense(self, tmp_path: Path) -> None:
        path = tmp_path / "postern.db"
        path.write_bytes(b"this is no database " * 1000)
        db = open_database(f"sqlite:///{path}")
        for way_in in (db.read, db.write):
            with pytest.raises(DatabaseUnusable), way_in() as session:
                session.scalar(select(ChangeSeq.value))
        db.close()
        assert path.read_bytes() == b"this is no database " * 1000

    def test_a_file_with_torn_pages(self, settings: Settings, database_file: Path) -> None:
        content = bytearray(database_file.read_bytes())
        content[4096:] = os.urandom(len(content) - 4096)
        database_file.write_bytes(content)
        db = open_database(settings.database_url)
        with pytest.raises(DatabaseUnusable), db.read() as session:
            session.scalars(select(Installation)).all()
        db.close()

    def test_a_file_without_tables(self, tmp_path: Path) -> None:
        db = open_database(f"sqlite:///{tmp_path / 'postern.db'}")
        with pytest.raises(DatabaseUnusable):
            value_of(db)
        db.close()

    def test_a_full_disk_stores_nothing(self, settings: Settings, services: Services, database_file: Path) -> None:
        program = f"""if True:
            import resource, sys
            from sqlalchemy import text
            from webapp.errors import DatabaseUnusable
            from webapp.services.database import open_database, ring
            db = open_database({settings.database_url!r})
            with db.write() as session:
                ring(session)
            resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
            try:
                with db.write() as session:
                    ring(session)
                    session.execute(text("CREATE TABLE big (x)"))
                    session.execute(text("INSERT INTO big VALUES (zeroblob(5000000))"))
            except DatabaseUnusable as error:
                print(type(error.__cause__).__name__)
            db.close()
        """
        done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
        assert (done.stdout, done.stderr) == ("OperationalError\n", "")
        assert value_of(services.db) == 2

    def test_the_cause_quotes_no_value(self, database: Database) -> None:
        with pytest.raises(DatabaseUnusable) as caught, database.write() as session:
            session.execute(text("INSERT INTO missing VALUES (:value)"), {"value": "hunter22"})
        assert "no such table: missing" in str(caught.value.__cause__)
        assert "hunter22" not in str(caught.value.__cause__)

    def test_no_connection_left_in_the_pool(self, impatient: Database) -> None:
        with impatient.read() as session:
            session.execute(text("SELECT 1"))
            with pytest.raises(DatabaseUnusable), impatient.read() as other:
                other.execute(text("SELECT 1"))

    @pytest.mark.postgres
    def test_a_server_that_is_gone(self, tmp_path: Path) -> None:
        db = open_database(f"postgresql+psycopg://nobody@/nothing?host={tmp_path}")
        with pytest.raises(DatabaseUnusable):
            value_of(db)
        db.close()


@pytest.mark.postgres
def test_a_reader_sees_one_snapshot_on_postgresql(postgres_url: str) -> None:
    db = open_database(postgres_url)
    try:
        with db.write() as session:
            session.execute(text("CREATE TABLE t (x int)"))
        with db.read() as reader:
            assert reader.scalar(text("SELECT count(*) FROM t")) == 0
            with db.write() as session:
                session.execute(text("INSERT INTO t VALUES (1)"))
            assert reader.scalar(text("SELECT count(*) FROM t")) == 0
    finally:
        db.close()


def test_the_pool_has_room_for_a_reader_and_a_writer_of_each_thread() -> None:
    options = engine_options("sqlite:////srv/postern.db")
    assert options == {
        "pool_size": 24,
        "max_overflow": 0,
        "hide_parameters": True,
        "pool_timeout": module.BUSY_TIMEOUT_S,
        "connect_args": {"timeout": module.BUSY_TIMEOUT_S, "check_same_thread": False},
    }
