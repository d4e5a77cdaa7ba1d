"""Migrations: they make what the models say, once, with a copy before, and keep off what is not ours."""

from __future__ import annotations

import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from webapp.errors import DatabaseUnusable, SettingsInvalid
from webapp.models import Base
from webapp.services import migrator, schema
from webapp.services.database import Database, open_database
from webapp.settings import ROOT


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database without tables."""
    url = f"sqlite:///{tmp_path / 'postern.db'}"
    db = open_database(url if request.param == "sqlite" else request.getfixturevalue("postgres_url"))
    yield db
    db.close()


@pytest.fixture
def empty_sqlite(tmp_path: Path) -> Iterator[Database]:
    db = open_database(f"sqlite:///{tmp_path / 'postern.db'}")
    yield db
    db.close()


def test_the_newest_revision_is_what_this_code_wants() -> None:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations"))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [schema.CURRENT]


def test_migrations_make_exactly_what_the_models_say(empty: Database, tmp_path: Path) -> None:
    migrator.upgrade(empty, tmp_path)
    with empty.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_the_check_constraints_of_the_models_are_in_the_database(empty_sqlite: Database, tmp_path: Path) -> None:
    """Alembic does not compare these."""
    migrator.upgrade(empty_sqlite, tmp_path)
    with empty_sqlite.engine.connect() as connection:
        made = " ".join(connection.scalars(text("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")))
    names = {str(c.name) for table in Base.metadata.tables.values() for c in table.constraints if c.name is not None}
    # SQLite writes a key that numbers itself without its name.
    assert {name for name in names if name not in made} <= {"pk_users", "pk_vpn_profiles"}


def test_a_second_upgrade_does_nothing(empty: Database, tmp_path: Path) -> None:
    assert schema.version(empty.engine) is None
    assert migrator.upgrade(empty, tmp_path) is True
    assert schema.version(empty.engine) == schema.CURRENT
    assert schema.is_current(empty.engine)
    assert migrator.upgrade(empty, tmp_path) is False


def test_of_several_that_start_together_one_migrates(empty: Database, tmp_path: Path) -> None:
    answers: list[bool] = []
    threads = [threading.Thread(target=lambda: answers.append(migrator.upgrade(empty, tmp_path))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [False, False, True]


def test_a_newer_database_is_refused_and_left_alone(empty: Database, tmp_path: Path) -> None:
    migrator.upgrade(empty, tmp_path)
    with empty.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SettingsInvalid) as caught:
        migrator.upgrade(empty, tmp_path)
    assert str(caught.value) == (
        "DATABASE_URL: made by a newer Postern (its version 9999 is not known here); update Postern"
    )
    assert schema.version(empty.engine) == "9999"
    assert not schema.is_current(empty.engine)


def test_another_programs_database_is_refused_and_left_alone(empty: Database, tmp_path: Path) -> None:
    with empty.write() as session:
        session.execute(text("CREATE TABLE shop_orders (x int)"))
    with pytest.raises(SettingsInvalid) as caught:
        migrator.upgrade(empty, tmp_path)
    assert str(caught.value) == "DATABASE_URL: this database belongs to another program (it has shop_orders)"
    assert schema.version(empty.engine) is None


def test_no_database_at_all_is_unusable(tmp_path: Path) -> None:
    (tmp_path / "postern.db").write_bytes(b"this is no database " * 1000)
    db = open_database(f"sqlite:///{tmp_path / 'postern.db'}")
    with pytest.raises(DatabaseUnusable):
        migrator.upgrade(db, tmp_path)
    with pytest.raises(DatabaseUnusable):
        schema.version(db.engine)
    db.close()


def test_a_file_is_copied_before_it_is_migrated_and_three_copies_are_kept(
    empty_sqlite: Database, tmp_path: Path
) -> None:
    migrator.upgrade(empty_sqlite, tmp_path)
    with empty_sqlite.write() as session:
        session.execute(text("CREATE TABLE still_in_the_wal (x int)"))
    for found in ("0000a", "0000b", "0000c", "0000d"):
        migrator._copy_aside(empty_sqlite, found)
    copies = sorted(path.name for path in tmp_path.glob("postern.db.before-*"))
    assert copies == [f"postern.db.before-{found}-to-{schema.CURRENT}" for found in ("0000b", "0000c", "0000d")]
    newest = tmp_path / copies[-1]
    assert stat.S_IMODE(newest.stat().st_mode) == 0o600
    with closing(sqlite3.connect(newest)) as copy:
        assert copy.execute("SELECT count(*) FROM still_in_the_wal").fetchone() == (0,)


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (None, "DATABASE_URL: this database has no tables yet; type: postern db upgrade (make run does it)"),
        (
            "0000",
            f"DATABASE_URL: its tables are version 0000, this code wants {schema.CURRENT}; type: postern db upgrade",
        ),
    ],
)
def test_a_mismatch_says_what_to_type(found: str | None, sentence: str) -> None:
    assert schema.mismatch(found) == sentence
