"""Which version the database's tables have, asked without Alembic; bringing them up is the command's."""

from __future__ import annotations

from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import DBAPIError

from webapp.errors import DatabaseUnusable

CURRENT = "0002"
"""The newest revision under ``migrations/versions``; a test holds the two together."""


def version(engine: Engine) -> str | None:
    """Return the revision of the tables, or None for a database without any. Raises DatabaseUnusable."""
    try:
        with engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    except DBAPIError as error:
        raise DatabaseUnusable from error


def is_current(engine: Engine) -> bool:
    """Whether this code and these tables belong together. Raises DatabaseUnusable."""
    return version(engine) == CURRENT


def mismatch(found: str | None) -> str:
    """Return the sentence that says what to do about tables of another version than this code's."""
    if found is None:
        return "DATABASE_URL: this database has no tables yet; type: postern db upgrade (make run does it)"
    return f"DATABASE_URL: its tables are version {found}, this code wants {CURRENT}; type: postern db upgrade"
