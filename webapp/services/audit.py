"""Who did what, from where, to which thing: written in the same transaction as the change itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from webapp.models import AuditEvent


@dataclass(frozen=True)
class Actor:
    """Who acts: a person through a page or a token, or the machine itself (``user_id`` is None then)."""

    name: str
    user_id: int | None = None
    address: str = ""


CONSOLE = Actor("console")
AGENT = Actor("agent")


def record(session: Session, actor: Actor, action: str, subject: str, now: datetime, outcome: str = "done") -> None:
    """Add one event to the session's transaction. ``action`` is ``noun.verb``; nothing secret goes in."""
    session.add(
        AuditEvent(
            at=now,
            actor=actor.name[:80],
            actor_user_id=actor.user_id,
            address=actor.address[:64],
            action=action,
            subject=subject[:160],
            outcome=outcome,
        )
    )
