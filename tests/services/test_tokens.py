"""Personal tokens: shown once, stored hashed, found while they are good, and nobody else's to revoke."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from tests.fakes import Clock
from webapp.errors import FieldProblem, InvalidFields, NotFound
from webapp.models import ApiToken, AuditEvent, User
from webapp.services.accounts import Person
from webapp.services.audit import Actor
from webapp.services.tokens import TokenHolder, TokenService, TokenView
from webapp.wiring import Services

ALICE = Actor("alice", 1, "192.0.2.1")


@pytest.fixture
def tokens(services: Services) -> TokenService:
    return services.tokens


@pytest.fixture
def alice(services: Services) -> Person:
    return services.accounts.create_user("alice", None)


@pytest.fixture
def bob(services: Services) -> Person:
    return services.accounts.create_user("bob", None)


def find(tokens: TokenService, token: str) -> TokenHolder | None:
    with tokens.db.read() as session:
        return tokens.find(session, token)


def audit_of(tokens: TokenService) -> list[tuple[str, str]]:
    with tokens.db.read() as session:
        rows = session.scalars(select(AuditEvent).where(AuditEvent.action.like("token.%")).order_by(AuditEvent.id))
        return [(row.action, row.subject) for row in rows]


@pytest.mark.parametrize("scope", ["all", "manage", "read"])
def test_a_token_stands_for_its_person_and_scope(tokens: TokenService, alice: Person, scope: str) -> None:
    token = tokens.create_token(alice.id, "laptop", scope, ALICE)
    assert find(tokens, token) == TokenHolder(alice, scope)
    assert audit_of(tokens) == [("token.create", "laptop")]


def test_it_has_a_readable_beginning_and_192_random_bits(tokens: TokenService, alice: Person) -> None:
    made = {tokens.create_token(alice.id, f"t{n}", "all", ALICE) for n in range(20)}
    assert len(made) == 20
    assert {(token[:8], len(token)) for token in made} == {("postern_", 40)}


def test_only_its_hash_and_its_beginning_are_stored(tokens: TokenService, alice: Person, clock: Clock) -> None:
    token = tokens.create_token(alice.id, "laptop", "read", ALICE, timedelta(days=1))
    with tokens.db.read() as session:
        row = session.scalars(select(ApiToken)).one()
        columns = [str(getattr(row, column.name)) for column in ApiToken.__table__.columns]
    assert not any(token[12:] in column for column in columns)
    assert tokens.list_tokens(alice.id) == [
        TokenView(row.id, "laptop", token[:12], "read", clock(), clock() + timedelta(days=1), None)
    ]


@pytest.mark.parametrize("token", ["", "postern_", "postern_" + "x" * 32, "\0", "\ud800", "x" * 10_000])
def test_a_forged_token_finds_nobody(tokens: TokenService, alice: Person, token: str) -> None:
    tokens.create_token(alice.id, "laptop", "all", ALICE)
    assert find(tokens, token) is None


def test_its_hash_is_no_token(tokens: TokenService, alice: Person) -> None:
    tokens.create_token(alice.id, "laptop", "all", ALICE)
    with tokens.db.read() as session:
        stored = session.scalars(select(ApiToken.token_hash)).one()
    assert find(tokens, stored) is None


def test_it_ends_at_the_very_moment(tokens: TokenService, alice: Person, clock: Clock) -> None:
    token = tokens.create_token(alice.id, "laptop", "all", ALICE, timedelta(hours=1))
    clock.advance(hours=1, microseconds=-1)
    assert find(tokens, token) is not None
    clock.advance(microseconds=1)
    assert find(tokens, token) is None


def test_a_disabled_persons_token_is_worth_nothing(tokens: TokenService, alice: Person) -> None:
    token = tokens.create_token(alice.id, "laptop", "all", ALICE)
    with tokens.db.write() as session:
        session.execute(update(User).values(disabled=True))
    assert find(tokens, token) is None


def test_a_revoked_one_is_worth_nothing_at_once(tokens: TokenService, alice: Person) -> None:
    token = tokens.create_token(alice.id, "laptop", "all", ALICE)
    (view,) = tokens.list_tokens(alice.id)
    tokens.revoke_token(alice.id, view.id, ALICE)
    assert find(tokens, token) is None
    assert tokens.list_tokens(alice.id) == []
    assert audit_of(tokens) == [("token.create", "laptop"), ("token.delete", "laptop")]


@pytest.mark.parametrize(
    "token_id", [0, -1, 999, pytest.param(2**63, id="beyond"), pytest.param(10**30, id="far beyond")]
)
def test_a_missing_one_is_not_found(tokens: TokenService, alice: Person, token_id: int) -> None:
    with pytest.raises(NotFound):
        tokens.revoke_token(alice.id, token_id, ALICE)
    assert audit_of(tokens) == []


def test_somebody_elses_is_not_found_and_stays(tokens: TokenService, alice: Person, bob: Person) -> None:
    token = tokens.create_token(alice.id, "laptop", "all", ALICE)
    (view,) = tokens.list_tokens(alice.id)
    with pytest.raises(NotFound):
        tokens.revoke_token(bob.id, view.id, ALICE)
    assert find(tokens, token) is not None
    assert tokens.list_tokens(bob.id) == []


def test_all_that_is_wrong_is_told_at_once(tokens: TokenService, alice: Person) -> None:
    with pytest.raises(InvalidFields) as caught:
        tokens.create_token(alice.id, "", "root", ALICE)
    assert caught.value.problems == (
        FieldProblem("name", "Please type a name."),
        FieldProblem("scope", "This is not a scope: all, manage or read."),
    )
    assert audit_of(tokens) == []


def test_a_person_has_fifty_at_most(tokens: TokenService, alice: Person, bob: Person) -> None:
    for n in range(50):
        tokens.create_token(alice.id, f"t{n}", "read", ALICE)
    with pytest.raises(InvalidFields, match=r"^name: You have 50 tokens\. Delete one first\.$"):
        tokens.create_token(alice.id, "one more", "read", ALICE)
    tokens.create_token(bob.id, "first", "read", ALICE)
    assert [view.name for view in tokens.list_tokens(alice.id)][:2] == ["t49", "t48"]


def test_the_last_use_is_written_once_a_minute_at_most(tokens: TokenService, alice: Person, clock: Clock) -> None:
    token = tokens.create_token(alice.id, "laptop", "all", ALICE)
    start = clock()
    seen = []
    for seconds in (0, 59, 1):
        clock.advance(seconds=seconds)
        find(tokens, token)
        seen.append(tokens.list_tokens(alice.id)[0].last_used_at)
    assert seen == [start, start, start + timedelta(minutes=1)]
