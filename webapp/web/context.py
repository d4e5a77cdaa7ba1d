"""What every view reaches for: the services, and a session that sees what was just written."""

from __future__ import annotations

from typing import cast

from flask import current_app
from sqlalchemy.orm import Session

from webapp.extensions import db
from webapp.wiring import Services


def services() -> Services:
    """Return the services of the application that answers."""
    return cast(Services, current_app.extensions["postern"])


def reading() -> Session:
    """Return the request's reading session; it sees one snapshot, taken at its first query."""
    return db.session()


def reading_afresh() -> Session:
    """Return the same session with a new snapshot: after a write, the page shows it."""
    db.session.rollback()
    return db.session()
