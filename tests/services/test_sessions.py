"""Signed-in browsers: each way in which a session ends takes effect at the next look."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import func, select, text, update

from tests.fakes import Clock
from webapp.errors import DatabaseUnusable
from webapp.models import AuditEvent, SignInSession, User
from webapp.services.accounts import Person
from webapp.services.audit import Actor
from webapp.services.database import Database
from webapp.services.sessions import SessionService, SignedIn
from webapp.wiring import Services


@pytest.fixture
def sessions(services: Services) -> SessionService:
    return services.sessions


@pytest.fixture
def alice(services: Services) -> Person:
    return services.accounts.create_user("alice", None)


def find(sessions: SessionService, token: str) -> SignedIn | None:
    with sessions.db.read() as session:
        return sessions.find(session, token)


def change_user(db: Database, **values: object) -> None:
    with db.write() as session:
        session.execute(update(User).values(**values))


def row_of(db: Database) -> SignInSession:
    with db.read() as session:
        return session.scalars(select(SignInSession)).one()


def test_a_session_is_found_by_its_token_and_audited(sessions: SessionService, alice: Person) -> None:
    token = sessions.open_session(alice, "192.0.2.1", "a browser")
    found = find(sessions, token)
    row = row_of(sessions.db)
    assert found == SignedIn(alice, row.id)
    assert (row.address, row.user_agent) == ("192.0.2.1", "a browser")
    with sessions.db.read() as session:
        event = session.scalars(select(AuditEvent).order_by(AuditEvent.id.desc()).limit(1)).one()
    assert (event.actor, event.actor_user_id, event.address, event.action, event.subject, event.outcome) == (
        *("alice", alice.id, "192.0.2.1", "session.create", "alice", "done"),
    )


def test_each_sign_in_has_a_token_of_its_own_and_only_its_hash_is_stored(
    sessions: SessionService, alice: Person
) -> None:
    tokens = {sessions.open_session(alice, "", "") for _ in range(20)}
    assert len(tokens) == 20
    assert {len(token) for token in tokens} == {32}
    with sessions.db.read() as session:
        stored = set(session.scalars(select(SignInSession.id_hash)))
    assert tokens.isdisjoint(stored)
    assert {len(one) for one in stored} == {64}


@pytest.mark.parametrize("token", ["", "x" * 32, "\0", "\ud800", "é" * 1000, "' OR 1=1 --"])
def test_a_forged_token_finds_nobody(sessions: SessionService, alice: Person, token: str) -> None:
    sessions.open_session(alice, "", "")
    assert find(sessions, token) is None


def test_over_long_address_and_browser_are_cut(sessions: SessionService, alice: Person) -> None:
    sessions.open_session(alice, "a" * 1000, "b" * 10_000)
    row = row_of(sessions.db)
    assert (len(row.address), len(row.user_agent)) == (64, 200)


class TestEnd:
    def test_signing_out_ends_one_session_only(self, sessions: SessionService, alice: Person) -> None:
        here, there = (sessions.open_session(alice, "", "") for _ in range(2))
        signed_in = find(sessions, here)
        assert signed_in is not None
        sessions.close_session(signed_in.session_id, Actor("alice", alice.id))
        assert find(sessions, here) is None
        assert find(sessions, there) is not None

    def test_a_disabled_person_is_out_at_once(self, sessions: SessionService, alice: Person) -> None:
        token = sessions.open_session(alice, "", "")
        change_user(sessions.db, disabled=True)
        assert find(sessions, token) is None

    def test_a_new_epoch_ends_all_sessions_of_before(self, sessions: SessionService, alice: Person) -> None:
        old = sessions.open_session(alice, "", "")
        change_user(sessions.db, session_epoch=1)
        new = sessions.open_session(alice, "", "")
        assert find(sessions, old) is None
        assert find(sessions, new) is not None

    def test_a_demoted_person_is_no_admin_at_the_next_look(self, services: Services) -> None:
        nora = services.accounts.create_user("nora", None, is_admin=True)
        token = services.sessions.open_session(nora, "", "")
        change_user(services.db, role="user")
        found = find(services.sessions, token)
        assert found is not None
        assert not found.person.is_admin

    def test_seven_idle_days_end_it(self, sessions: SessionService, alice: Person, clock: Clock) -> None:
        token = sessions.open_session(alice, "", "")
        clock.advance(days=7, microseconds=-1)
        assert find(sessions, token) is not None
        clock.advance(days=7)
        assert find(sessions, token) is None

    def test_thirty_days_end_it_however_busy(self, sessions: SessionService, alice: Person, clock: Clock) -> None:
        token = sessions.open_session(alice, "", "")
        for _ in range(29):
            clock.advance(days=1)
            assert find(sessions, token) is not None
        clock.advance(days=1)
        assert find(sessions, token) is None

    def test_what_is_over_is_removed_at_the_next_sign_in(
        self, sessions: SessionService, alice: Person, clock: Clock
    ) -> None:
        for _ in range(3):
            sessions.open_session(alice, "", "")
        clock.advance(days=8)
        sessions.open_session(alice, "", "")
        with sessions.db.read() as session:
            assert session.scalar(select(func.count()).select_from(SignInSession)) == 1


class TestLastSeen:
    def test_it_is_written_every_five_minutes_at_most(
        self, sessions: SessionService, alice: Person, clock: Clock
    ) -> None:
        token = sessions.open_session(alice, "", "")
        start = clock()
        clock.advance(minutes=4, seconds=59)
        find(sessions, token)
        assert row_of(sessions.db).last_seen_at == start
        clock.advance(seconds=1)
        find(sessions, token)
        assert row_of(sessions.db).last_seen_at == start + timedelta(minutes=5)

    def test_where_it_cannot_be_written_the_person_is_signed_in_all_the_same(
        self, sessions: SessionService, alice: Person, clock: Clock
    ) -> None:
        token = sessions.open_session(alice, "", "")
        with sessions.db.write() as session:
            # As a full disk does: reading works, writing does not.
            trigger = "CREATE TRIGGER full BEFORE UPDATE ON sessions BEGIN INSERT INTO no_such_table VALUES (1); END"
            session.execute(text(trigger))
        clock.advance(minutes=5)
        try:
            found = find(sessions, token)
        except DatabaseUnusable:
            found = None
        assert found is not None
