"""People: making accounts, the one-time set-up link, and the check of a password."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy import Select, exists, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from webapp.domain.names import name_key, parse_name
from webapp.errors import N_, FieldProblem, InvalidFields, LinkDead, NameTaken, NotFound, SignInFailed
from webapp.models import SetupLink, User
from webapp.services import audit, throttle
from webapp.services.audit import Actor
from webapp.services.database import Database
from webapp.services.secret_tokens import hash_token, make_token

PASSWORD_CHARACTERS = (8, 256)
SETUP_LINK_LIFE = timedelta(days=1)
# The hash of no password at all: an unknown name costs the same work as a known one.
_NOBODY = "$argon2id$v=19$m=19456,t=2,p=1$7k3kndW/vAV7q1AcvF2wag$drUU9wYx3cJIEHYtNL0PXzrhpVHPKVQQKYTDoCWPhAc"


class PasswordHasher(Protocol):
    """What hashes passwords; tests count its calls."""

    def hash(self, password: str) -> str:
        """Return a salted hash in the PHC string format."""

    def verify(self, password_hash: str, password: str) -> bool:
        """Whether the password belongs to the hash."""


class Argon2Hasher:
    """Argon2id with 19 MiB, t=2, p=1 (OWASP's first choice); imported at the first password, not at start."""

    def __init__(self) -> None:
        self._hasher: object | None = None

    def hash(self, password: str) -> str:
        return str(self._argon2().hash(password))  # type: ignore[attr-defined]

    def verify(self, password_hash: str, password: str) -> bool:
        from argon2.exceptions import Argon2Error, InvalidHashError

        try:
            return bool(self._argon2().verify(password_hash, password))  # type: ignore[attr-defined]
        except (Argon2Error, InvalidHashError, UnicodeEncodeError):
            return False

    def _argon2(self) -> object:
        if self._hasher is None:
            import argon2

            self._hasher = argon2.PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
        return self._hasher


@dataclass(frozen=True)
class Person:
    """A person as the pages and services know them: no hash, no row."""

    id: int
    username: str
    is_admin: bool


class AccountService:
    """The verbs on people. Each is one transaction."""

    def __init__(self, db: Database, hasher: PasswordHasher, clock: Callable[[], datetime]) -> None:
        self.db = db
        self.hasher = hasher
        self.clock = clock

    def create_user(
        self, username: str, password: str | None, *, is_admin: bool = False, actor: Actor = audit.CONSOLE
    ) -> Person:
        """Make an account; without a password nobody can sign in to it, and its profiles work all the same.

        Raises InvalidFields or NameTaken; nothing was stored then.
        """
        row = self._new_row(username, password, is_admin)
        try:
            with self.db.write() as session:
                session.add(row)
                session.flush()
                audit.record(session, actor, "user.create", row.username, row.created_at)
        except IntegrityError as error:
            raise _name_taken(row.username) from error
        return person_of(row)

    def ensure_admin(self, username: str | None, password: str | None) -> bool:
        """Make the first admin from the settings where there is no user yet; say whether one was made."""
        if username is None or password is None or self.has_users():
            return False
        self.create_user(username, password, is_admin=True)
        return True

    def has_users(self) -> bool:
        """Whether anybody has an account; the set-up is over then."""
        with self.db.read() as session:
            return session.scalar(select(exists(select(User.id)))) or False

    def make_setup_link(self) -> str | None:
        """Return the token of a fresh one-time link to the set-up, or None when there is a user already.

        Links made before stop working: only the newest console has the say.
        """
        now = self.clock()
        with self.db.write() as session:
            if session.scalar(select(exists(select(User.id)))):
                return None
            session.execute(update(SetupLink).where(SetupLink.used_at.is_(None)).values(used_at=now))
            token = make_token()
            session.add(SetupLink(token_hash=hash_token(token), created_at=now, expires_at=now + SETUP_LINK_LIFE))
            return token

    def check_setup_link(self, token: str) -> None:
        """Raise LinkDead unless the token opens the set-up. Looking does not use it up."""
        with self.db.read() as session:
            if not session.scalar(select(exists(self._live_link(token, self.clock())))):
                raise LinkDead

    def use_setup_link(self, token: str, username: str, password: str, actor: Actor) -> Person:
        """Make the first admin and use the link up, in one transaction.

        Raises InvalidFields (the link stays good) or LinkDead: used, expired, forged, or there is a user already.
        """
        # Asked first: a stranger with a forged link must not make this machine compute hashes.
        self.check_setup_link(token)
        row = self._new_row(username, password, is_admin=True)
        with self.db.write() as session:
            now = self.clock()
            used = session.execute(
                update(SetupLink)
                .where(SetupLink.id.in_(self._live_link(token, now)), SetupLink.used_at.is_(None))
                .values(used_at=now)
                .returning(SetupLink.id)
                .execution_options(synchronize_session=False)
            ).all()
            if not used or session.scalar(select(exists(select(User.id)))):
                raise LinkDead
            session.add(row)
            session.flush()
            who = Actor(row.username, row.id, actor.address)
            audit.record(session, who, "user.create", row.username, now)
        return person_of(row)

    def authenticate(self, username: str, password: str, address: str) -> Person:
        """Return the person whose name and password these are.

        Unknown name, wrong password and disabled account end alike: one hash is computed, SignInFailed is
        raised, and the try is counted. Raises Throttled past the limits, without computing a hash.
        """
        now = self.clock()
        username = _storable(username)
        key = name_key(username)[:192]
        limits = throttle.sign_in_limits(key, address)
        with self.db.write() as session:
            throttled = throttle.count_try(session, limits, now)
            row = session.scalar(select(User).where(User.username_key == key))
            if throttled is not None:
                audit.record(session, Actor(username[:64], None, address), "session.create", "", now, "throttled")
        if throttled is not None:
            raise throttled
        stored = row.password_hash if row is not None and row.password_hash else _NOBODY
        is_right = self.hasher.verify(stored, password[: PASSWORD_CHARACTERS[1] + 1])
        if not is_right or row is None or not row.password_hash or row.disabled:
            with self.db.write() as session:
                audit.record(session, Actor(username[:64], None, address), "session.create", "", now, "refused")
            raise SignInFailed
        with self.db.write() as session:
            throttle.forget_tries(session, limits)
            throttle.forget_old(session, now)
        return person_of(row)

    def forget_old_tries(self) -> None:
        """Remove counters of wrong passwords whose window has passed; a chore of the agent."""
        with self.db.write() as session:
            throttle.forget_old(session, self.clock())

    def find(self, username: str) -> Person:
        """Return the person of that name. Raises NotFound."""
        username = _storable(username)
        with self.db.read() as session:
            row = session.scalar(select(User).where(User.username_key == name_key(username)))
        if row is None:
            raise NotFound(N_("There is nobody named %(name)s."), name=username)
        return person_of(row)

    def profile_limit(self, session: Session, user_id: int) -> int | None:
        """Return how many profiles the person may have; None is no limit."""
        return session.scalar(select(User.profile_limit).where(User.id == user_id))

    def usernames(self, session: Session) -> dict[int, str]:
        """Return everybody's name by id."""
        return {row.id: row.username for row in session.execute(select(User.id, User.username))}

    def _live_link(self, token: str, now: datetime) -> Select[int]:
        return select(SetupLink.id).where(
            SetupLink.token_hash == hash_token(token),
            SetupLink.used_at.is_(None),
            SetupLink.expires_at > now,
        )

    def _new_row(self, username: str, password: str | None, is_admin: bool) -> User:
        problems: list[FieldProblem] = []
        name = username
        try:
            name = parse_name(username, "username")
        except InvalidFields as error:
            problems.extend(error.problems)
        problems.extend(password_problems(password))
        if problems:
            raise InvalidFields(problems)
        return User(
            username=name,
            username_key=name_key(name),
            password_hash=None if password is None else self.hasher.hash(password),
            role="admin" if is_admin else "user",
            created_at=self.clock(),
        )


def password_problems(password: str | None) -> list[FieldProblem]:
    """Return what is wrong with a new password: empty for None (no password) and for 8 to 256 characters."""
    shortest, longest = PASSWORD_CHARACTERS
    if password is None or shortest <= len(password) <= longest:
        return []
    if len(password) < shortest:
        sentence = N_("Use 8 characters or more. Four random words work well.")
    else:
        sentence = N_("Use 256 characters or fewer.")
    return [FieldProblem("password", sentence)]


def _storable(username: str) -> str:
    """Return the name with marks in place of what no database stores: nobody is called so."""
    return username.encode("utf-8", "replace").decode().replace("\0", "?")


def person_of(row: User) -> Person:
    """Return the person of a user's row."""
    return Person(row.id, row.username, row.is_admin)


def _name_taken(username: str) -> NameTaken:
    return NameTaken("username", N_("There is already somebody named %(name)s."), name=username)
