"""Personal tokens for scripts: made once, shown once, stored hashed, revoked at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.orm import Session

from webapp.domain.names import parse_name
from webapp.errors import N_, DatabaseUnusable, FieldProblem, InvalidFields, NotFound
from webapp.models import ApiToken, User
from webapp.services import audit
from webapp.services.accounts import Person, person_of
from webapp.services.audit import Actor
from webapp.services.database import Database
from webapp.services.secret_tokens import hash_token, make_token

PREFIX = "postern_"
SHOWN_CHARACTERS = len(PREFIX) + 4
SCOPES = ("all", "manage", "read")
"""What a token may do: all that its person may; make and change their profiles; read them and their files."""
TOKENS_PER_PERSON = 50
USED_EVERY = timedelta(minutes=1)
LARGEST_ID = 2**63 - 1
_HELD = (
    select(ApiToken, User).join(User, User.id == ApiToken.user_id).where(ApiToken.token_hash == bindparam("token_hash"))
)


@dataclass(frozen=True)
class TokenView:
    """A token as its person sees it: ``prefix`` is its beginning, the rest is not known here."""

    id: int
    name: str
    prefix: str
    scope: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True)
class TokenHolder:
    """Who a token stands for, and what it may do."""

    person: Person
    scope: str


class TokenService:
    """The verbs on tokens."""

    def __init__(self, db: Database, clock: Callable[[], datetime]) -> None:
        self.db = db
        self.clock = clock

    def create_token(self, user_id: int, name: str, scope: str, actor: Actor, lifetime: timedelta | None = None) -> str:
        """Store a new token and return its text, which nobody can see again. None as lifetime: no end.

        Raises InvalidFields for a bad name or scope, or when the person has 50 already; nothing was stored then.
        """
        problems: list[FieldProblem] = []
        try:
            name = parse_name(name)
        except InvalidFields as error:
            problems.extend(error.problems)
        if scope not in SCOPES:
            problems.append(FieldProblem("scope", N_("This is not a scope: all, manage or read.")))
        if problems:
            raise InvalidFields(problems)
        now = self.clock()
        token = make_token(PREFIX)
        with self.db.write() as session:
            count = session.scalar(select(func.count()).where(ApiToken.user_id == user_id)) or 0
            if count >= TOKENS_PER_PERSON:
                raise InvalidFields([FieldProblem("name", N_("You have 50 tokens. Delete one first."))])
            session.add(
                ApiToken(
                    user_id=user_id,
                    name=name,
                    prefix=token[:SHOWN_CHARACTERS],
                    token_hash=hash_token(token),
                    scope=scope,
                    created_at=now,
                    expires_at=None if lifetime is None else now + lifetime,
                )
            )
            audit.record(session, actor, "token.create", name, now)
        return token

    def list_tokens(self, user_id: int) -> Sequence[TokenView]:
        """Return the person's tokens, the newest first."""
        with self.db.read() as session:
            rows = session.scalars(select(ApiToken).where(ApiToken.user_id == user_id).order_by(ApiToken.id.desc()))
            return [
                TokenView(row.id, row.name, row.prefix, row.scope, row.created_at, row.expires_at, row.last_used_at)
                for row in rows
            ]

    def revoke_token(self, user_id: int, token_id: int, actor: Actor) -> str:
        """Delete one of the person's tokens and return its name. Raises NotFound for a missing or a foreign one."""
        if not 0 < token_id <= LARGEST_ID:
            raise NotFound
        with self.db.write() as session:
            name: str | None = session.scalar(
                delete(ApiToken).where(ApiToken.id == token_id, ApiToken.user_id == user_id).returning(ApiToken.name)
            )
            if name is None:
                raise NotFound
            audit.record(session, actor, "token.delete", name, self.clock())
            return name

    def find(self, session: Session, token: str) -> TokenHolder | None:
        """Return who holds the token, or None: unknown, revoked, expired, or the person is disabled."""
        now = self.clock()
        found = session.execute(_HELD, {"token_hash": hash_token(token)}).one_or_none()
        if found is None:
            return None
        row, user = found
        if user.disabled or (row.expires_at is not None and row.expires_at <= now):
            return None
        if row.last_used_at is None or now - row.last_used_at >= USED_EVERY:
            # Only bookkeeping: a busy or full database must not shut scripts out of their files.
            with suppress(DatabaseUnusable), self.db.write() as write:
                write.execute(update(ApiToken).where(ApiToken.id == row.id).values(last_used_at=now))
        return TokenHolder(person_of(user), row.scope)
