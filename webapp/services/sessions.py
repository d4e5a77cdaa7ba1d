"""Signed-in browsers: rows that can be ended at once, found by the hash of a random id in the cookie."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from webapp.errors import DatabaseUnusable
from webapp.models import SignInSession, User
from webapp.services import audit
from webapp.services.accounts import Person, person_of
from webapp.services.audit import Actor
from webapp.services.database import Database
from webapp.services.secret_tokens import hash_token, make_token

IDLE_LIMIT = timedelta(days=7)
ABSOLUTE_LIMIT = timedelta(days=30)
SEEN_EVERY = timedelta(minutes=5)
"""How stale "last seen" may be: a write for each request would cost more than the request."""


@dataclass(frozen=True)
class SignedIn:
    """A person and the session row they came by."""

    person: Person
    session_id: int


class SessionService:
    """The verbs on sessions."""

    def __init__(self, db: Database, clock: Callable[[], datetime]) -> None:
        self.db = db
        self.clock = clock

    def open_session(self, person: Person, address: str, user_agent: str) -> str:
        """Store a new session and return the id for the cookie; old rows of the person that are over go."""
        now = self.clock()
        token = make_token()
        with self.db.write() as session:
            epoch = session.scalars(select(User.session_epoch).where(User.id == person.id)).one()
            session.execute(
                delete(SignInSession).where(
                    SignInSession.user_id == person.id,
                    (SignInSession.expires_at <= now) | (SignInSession.last_seen_at <= now - IDLE_LIMIT),
                )
            )
            session.add(
                SignInSession(
                    id_hash=hash_token(token),
                    user_id=person.id,
                    epoch=epoch,
                    created_at=now,
                    last_seen_at=now,
                    expires_at=now + ABSOLUTE_LIMIT,
                    address=address[:64],
                    user_agent=user_agent[:200],
                )
            )
            actor = Actor(person.username, person.id, address)
            audit.record(session, actor, "session.create", person.username, now)
        return token

    def find(self, session: Session, token: str) -> SignedIn | None:
        """Return who the cookie's id belongs to, or None: unknown, ended, too old, or the person is disabled."""
        now = self.clock()
        found = session.execute(
            select(SignInSession, User)
            .join(User, User.id == SignInSession.user_id)
            .where(SignInSession.id_hash == hash_token(token))
        ).one_or_none()
        if found is None:
            return None
        row, user = found
        is_over = row.expires_at <= now or row.last_seen_at <= now - IDLE_LIMIT
        if is_over or user.disabled or row.epoch != user.session_epoch:
            return None
        if now - row.last_seen_at >= SEEN_EVERY:
            self._mark_seen(row.id, now)
        return SignedIn(person_of(user), row.id)

    def _mark_seen(self, row_id: int, now: datetime) -> None:
        # Only bookkeeping: a busy or full database must not shut people out of their pages.
        with suppress(DatabaseUnusable), self.db.write() as session:
            session.execute(update(SignInSession).where(SignInSession.id == row_id).values(last_seen_at=now))

    def close_session(self, session_id: int, actor: Actor) -> None:
        """End one session; its cookie is worth nothing from the next request on."""
        with self.db.write() as session:
            session.execute(delete(SignInSession).where(SignInSession.id == session_id))
            audit.record(session, actor, "session.delete", actor.name, self.clock())
