"""Brings the tables up to this code's version. Imports Alembic, so only the command imports this module."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from contextlib import closing
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import inspect
from sqlalchemy.exc import DBAPIError

from webapp.errors import DatabaseUnusable, SettingsInvalid
from webapp.services import schema
from webapp.services.database import Database, sqlite_path
from webapp.settings import ROOT

BACKUPS_KEPT = 3


def upgrade(db: Database, data_dir: Path) -> bool:
    """Run what is missing of the migrations and say whether there was anything to run.

    One process at a time; each revision is one transaction; an SQLite file is copied beside itself first.
    Raises SettingsInvalid for a newer version or another program's database, DatabaseUnusable when it cannot be
    written; the tables are as they were then.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(os.open(data_dir / "migrate.lock", os.O_RDWR | os.O_CREAT, 0o600), "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = schema.version(db.engine)
        if found == schema.CURRENT:
            return False
        config = Config()
        config.set_main_option("script_location", str(ROOT / "migrations"))
        config.set_main_option("path_separator", "os")
        _check_ours(db, found, ScriptDirectory.from_config(config))
        if found is not None:
            _copy_aside(db, found)
        try:
            with db.engine.connect() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
                connection.commit()
        except DBAPIError as error:
            raise DatabaseUnusable from error
        return True


def _check_ours(db: Database, found: str | None, scripts: ScriptDirectory) -> None:
    if found is None:
        tables = inspect(db.engine).get_table_names()
        if tables:
            raise SettingsInvalid([f"DATABASE_URL: this database belongs to another program (it has {tables[0]})"])
    elif found not in {revision.revision for revision in scripts.walk_revisions()}:
        raise SettingsInvalid(
            [f"DATABASE_URL: made by a newer Postern (its version {found} is not known here); update Postern"]
        )


def _copy_aside(db: Database, found: str) -> None:
    """Copy an SQLite file by its online backup, 0600, and keep the newest few copies."""
    path = sqlite_path(str(db.engine.url))
    if path is None:
        return
    target = path.with_name(f"{path.name}.before-{found}-to-{schema.CURRENT}")
    os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600))
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
    copies = sorted(path.parent.glob(f"{path.name}.before-*"), key=lambda file: file.stat().st_mtime)
    for old in copies[:-BACKUPS_KEPT]:
        old.unlink()
