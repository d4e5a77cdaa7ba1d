"""Copying a database: everything arrives, both are compared, and whatever goes wrong leaves the target empty."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Boolean, DateTime, Integer, LargeBinary, delete, text, update
from sqlalchemy.types import JSON, BigInteger

from tests.fakes import Clock
from webapp import cli
from webapp.errors import DatabaseUnusable
from webapp.models import Base, ChangeSeq, UtcDateTime
from webapp.services import migrator
from webapp.services.audit import CONSOLE
from webapp.services.database import Database, open_database
from webapp.services.transfer import (
    TABLES,
    CopyRefused,
    check_empty,
    copy_database,
    count_rows,
    insert_rows,
    open_source,
    sum_tables,
)
from webapp.services.wg import Tools
from webapp.settings import Settings
from webapp.wiring import Services, build_services

WHEN = datetime(2026, 3, 4, 5, 6, 7, 123456, tzinfo=timezone(timedelta(hours=3)))
CHOSEN = {"role": "user", "scope": "read"}


def value_for(column: Any, number: int) -> object:
    """Return a value that is easy to lose: microseconds, bytes that are no text, letters beyond ASCII."""
    if column.foreign_keys:
        return 1
    if column.name in CHOSEN:
        return CHOSEN[column.name]
    kinds: tuple[tuple[Any, object], ...] = (
        (Boolean, number % 2 == 0),
        ((UtcDateTime, DateTime), WHEN + timedelta(microseconds=number)),
        (JSON, {"ключ": [number, None, "\u2028"], "a": {"b": 1.5}}),
        (LargeBinary, bytes([0, 255, number % 256])),
        (BigInteger, 2**40 + number),
        (Integer, number),
    )
    for kind, value in kinds:
        if isinstance(column.type, kind):
            return value
    length = column.type.length or 10
    return f"{number}-ж\U0001f511'\"\\"[:length]


def fill(services: Services, rows: int = 3) -> None:
    """Put rows into every table, with every nullable column once empty and once not."""
    with services.db.write() as session:
        connection = session.connection()
        for model in Base.metadata.sorted_tables:
            if model.name in {"installation", "change_seq", "servers"}:
                continue
            added = []
            for number in range(1, rows + 1):
                row = {c.name: None if c.nullable and number == 2 else value_for(c, number) for c in model.columns}
                for key in model.primary_key.columns:
                    if isinstance(key.type, Integer) or key.name == "id":
                        row[key.name] = number
                for c in model.columns:
                    if c.name in {"profile_id", "server_id"} and c.primary_key:
                        row[c.name] = number
                added.append(row)
            single = {"address_sequences", "agent_reports"}
            connection.execute(delete(TABLES[model.name]))
            insert_rows(connection, model.name, added[:1] if model.name in single else added)


@pytest.fixture
def make_empty(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[[str], Database]]:
    opened: list[Database] = []

    def make(kind: str) -> Database:
        is_sqlite = kind == "sqlite"
        url = f"sqlite:///{tmp_path / 'target.db'}" if is_sqlite else request.getfixturevalue("postgres_url")
        db = open_database(url)
        opened.append(db)
        migrator.upgrade(db, tmp_path)
        return db

    yield make
    for db in opened:
        db.close()


@pytest.fixture
def target(make_empty: Callable[[str], Database]) -> Database:
    return make_empty("sqlite")


EACH_TARGET = pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])


def sums(db: Database) -> dict[str, Any]:
    with db.read() as session:
        return sum_tables(session.connection())


@pytest.mark.postgres
def test_every_value_of_every_table_arrives_on_the_other_database(
    each_services: Services, make_empty: Callable[[str], Database]
) -> None:
    fill(each_services)
    target = make_empty("postgres" if each_services.settings.is_sqlite else "sqlite")
    copied = copy_database(each_services.db, target)
    assert all(total.rows > 0 for total in copied.values())
    assert sums(target) == sums(each_services.db) == copied
    with target.read() as session:
        unanswered = session.scalar(text("SELECT count(*) FROM agent_requests WHERE answer IS NULL"))
    assert unanswered == 1, "an empty cell is empty, not the word null"


@EACH_TARGET
def test_an_installation_goes_on_after_the_copy(
    services: Services,
    new_person: Callable[..., int],
    make_empty: Callable[[str], Database],
    kind: str,
    settings: Settings,
    clock: Clock,
) -> None:
    alice = new_person()
    first, second = (services.profiles.create_profile(alice, name, CONSOLE) for name in ("phone", "laptop"))
    services.profiles.delete_profile(alice, second.id, CONSOLE)
    target = make_empty(kind)
    copy_database(services.db, target)
    moved = build_services(settings, target, Tools(), clock=clock)
    third = moved.profiles.create_profile(alice, "tablet", CONSOLE)
    assert third.id == second.id + 1, "the id of a deleted profile is never given again"
    assert third.ipv4_address not in {first.ipv4_address, second.ipv4_address}
    bob = moved.accounts.create_user("bob", None, is_admin=False)
    assert bob.id == alice + 1
    with target.read() as session:
        old = services.profiles.profile_file(session, alice, "phone")
    with services.db.read() as session:
        assert services.profiles.profile_file(session, alice, "phone") == old


def test_the_sum_of_a_table_sees_every_column_and_no_order(services: Services) -> None:
    fill(services)
    before = sums(services.db)
    for model in Base.metadata.sorted_tables:
        for column in model.columns:
            if column.primary_key or column.foreign_keys or column.name in CHOSEN or isinstance(column.type, Boolean):
                continue
            with services.db.read() as session:
                key = next(iter(model.primary_key.columns))
                least = session.execute(text(f"SELECT min({key.name}) FROM {model.name}")).scalar()
                session.execute(update(model).where(key == least).values({column.name: value_for(column, 99)}))
                changed = sum_tables(session.connection())
            assert {name for name in before if before[name] != changed[name]} == {model.name}, column
    with services.db.read() as session:
        session.execute(text("CREATE TABLE turned AS SELECT * FROM users ORDER BY id DESC"))
        session.execute(text("PRAGMA defer_foreign_keys = ON"))
        session.execute(text("DELETE FROM users"))
        session.execute(text("INSERT INTO users SELECT * FROM turned ORDER BY rowid"))
        assert sum_tables(session.connection())["users"] == before["users"]


class TestRefused:
    def test_a_target_with_rows(self, services: Services, target: Database) -> None:
        with target.write() as session:
            session.add(ChangeSeq(id=1, value=7))
        before = sums(target)
        with pytest.raises(CopyRefused) as caught:
            check_empty(target)
        assert str(caught.value) == "TO: this database is not empty (change_seq has rows). Nothing was changed."
        with pytest.raises(CopyRefused):
            copy_database(services.db, target)
        assert sums(target) == before

    def test_another_programs_database(self, target: Database) -> None:
        with target.write() as session:
            session.execute(text("DROP TABLE alembic_version"))
        with pytest.raises(CopyRefused) as caught:
            check_empty(target)
        assert str(caught.value) == (
            "TO: this database belongs to another program (it has address_sequences). Nothing was changed."
        )

    def test_a_target_of_another_version(self, target: Database) -> None:
        with target.write() as session:
            session.execute(text("UPDATE alembic_version SET version_num = '0001'"))
        with pytest.raises(CopyRefused) as caught:
            check_empty(target)
        assert str(caught.value) == "TO: this database is not empty (version 0001)."

    def test_a_source_that_is_not_there_is_not_made(self, tmp_path: Path) -> None:
        with pytest.raises(CopyRefused) as caught, open_source(f"sqlite:///{tmp_path / 'nothing.db'}"):
            pass
        assert str(caught.value) == f"FROM: there is no file {tmp_path / 'nothing.db'}."
        assert list(tmp_path.iterdir()) == []

    def test_a_source_of_another_program(self, tmp_path: Path) -> None:
        with closing(sqlite3.connect(tmp_path / "shop.db")) as shop:
            shop.execute("CREATE TABLE orders (x)")
        with pytest.raises(CopyRefused) as caught, open_source(f"sqlite:///{tmp_path / 'shop.db'}"):
            pass
        assert str(caught.value) == "FROM: this is no database of Postern. Nothing was changed."

    def test_a_source_of_an_older_version(self, services: Services, settings: Settings) -> None:
        with services.db.write() as session:
            session.execute(text("UPDATE alembic_version SET version_num = '0001'"))
        with pytest.raises(CopyRefused) as caught, open_source(settings.database_url):
            pass
        assert str(caught.value).startswith("FROM: its tables are version 0001, this code copies ")

    def test_a_target_that_stores_something_else_is_left_empty(self, services: Services, target: Database) -> None:
        services.accounts.create_user("alice", None, is_admin=False)
        with target.write() as session:
            session.execute(text("CREATE TRIGGER t AFTER INSERT ON users BEGIN UPDATE users SET role = 'admin'; END"))
        with pytest.raises(CopyRefused) as caught:
            copy_database(services.db, target)
        assert str(caught.value) == "users is not the same in both. TO is empty."
        with target.read() as session:
            assert set(count_rows(session.connection()).values()) == {0}

    @pytest.mark.postgres
    @pytest.mark.parametrize(
        "damage",
        [
            "UPDATE vpn_profiles SET created_at = 'yesterday'",
            "UPDATE vpn_profiles SET file_name = 'longer than fifteen letters' WHERE id = 1",
            "UPDATE vpn_profiles SET name = 'a' || char(0)",
        ],
    )
    def test_a_value_that_the_target_cannot_hold_leaves_it_empty(
        self, services: Services, make_empty: Callable[[str], Database], damage: str
    ) -> None:
        fill(services)
        target = make_empty("postgres")
        with services.db.write() as session:
            session.execute(text(damage))
        with pytest.raises(CopyRefused) as caught:
            copy_database(services.db, target)
        assert str(caught.value) == "A row cannot be copied: the source is damaged. TO is empty."
        with target.read() as session:
            assert set(count_rows(session.connection()).values()) == {0}


class TestCommand:
    @pytest.fixture(autouse=True)
    def variables(self, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)

    @pytest.mark.postgres
    def test_db_copy_there_and_back_is_the_same(
        self,
        services: Services,
        new_person: Callable[..., int],
        postgres_url: str,
        tmp_path: Path,
        settings: Settings,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        services.profiles.create_profile(new_person(), "phone", CONSOLE)
        back = f"sqlite:///{tmp_path / 'back.db'}"
        assert cli.main(["db", "copy", settings.database_url, postgres_url]) == 0
        there = capsys.readouterr()
        assert cli.main(["db", "copy", postgres_url, back]) == 0
        assert capsys.readouterr() == there
        assert there.err.splitlines()[0] == "Copied and compared: 8 rows in 17 tables are the same."
        assert len(there.out.splitlines()) == len(TABLES)
        assert (tmp_path / "back.db").stat().st_mode & 0o777 == 0o600

    def test_the_source_is_only_read_while_somebody_writes_to_it(
        self, services: Services, new_person: Callable[..., int], settings: Settings, tmp_path: Path
    ) -> None:
        alice = new_person()
        with services.db.write() as session:
            session.execute(update(ChangeSeq).values(value=41))
            with open_source(settings.database_url) as source, source.read() as reading:
                assert reading.scalar(text("SELECT count(*) FROM users WHERE id = :id"), {"id": alice}) == 1
                assert reading.scalar(text("SELECT value FROM change_seq")) == 1
        with (
            open_source(settings.database_url) as source,
            pytest.raises(DatabaseUnusable),
            source.write() as session,
        ):
            session.execute(update(ChangeSeq).values(value=2))

    def test_a_wrong_url_is_named(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["db", "copy", "mysql://x", f"sqlite:///{tmp_path / 'to.db'}"]) == 2
        words = "  FROM: begins with neither sqlite:///FILE nor postgresql://"
        assert capsys.readouterr().err == f"The settings cannot be used:\n{words}\n"
        assert not (tmp_path / "to.db").exists()


def test_tables_come_after_those_that_they_refer_to() -> None:
    names = list(TABLES)
    for model in Base.metadata.sorted_tables:
        for key in model.foreign_keys:
            assert names.index(key.column.table.name) < names.index(model.name)
