"""People: accounts, the one-time link, and a sign-in that ends alike whatever was wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable

import argon2
import pytest
from sqlalchemy import select, update

from tests.fakes import Clock, CountingHasher
from webapp.errors import FieldProblem, InvalidFields, LinkDead, NameTaken, NotFound, SignInFailed, Throttled
from webapp.models import AuditEvent, SetupLink, User
from webapp.services import accounts as module
from webapp.services.accounts import AccountService, Argon2Hasher, Person, password_problems
from webapp.services.audit import Actor
from webapp.services.database import Database
from webapp.wiring import Services

PASSWORD = "four random words"
STRANGER = Actor("nobody", None, "203.0.113.66")


@pytest.fixture
def hasher() -> CountingHasher:
    return CountingHasher()


@pytest.fixture
def accounts(each_services: Services, hasher: CountingHasher, clock: Clock) -> AccountService:
    return AccountService(each_services.db, hasher, clock)


def audit_of(db: Database) -> list[tuple[str, str, str, str, str]]:
    with db.read() as session:
        rows = session.scalars(select(AuditEvent).order_by(AuditEvent.id))
        return [(row.actor, row.address, row.action, row.subject, row.outcome) for row in rows]


class TestCreate:
    def test_a_person_is_stored_with_a_hash_and_an_audit_row(self, accounts: AccountService, clock: Clock) -> None:
        person = accounts.create_user(" Alice ", PASSWORD, is_admin=True)
        assert person == Person(person.id, "Alice", True)
        assert accounts.find("aLICE") == person
        with accounts.db.read() as session:
            row = session.scalars(select(User)).one()
        assert (row.password_hash, row.role, row.created_at) == (f"plain:{PASSWORD}", "admin", clock())
        assert audit_of(accounts.db) == [("console", "", "user.create", "Alice", "done")]

    def test_without_a_password_nobody_signs_in(self, accounts: AccountService) -> None:
        accounts.create_user("alice", None)
        for password in ("", "None", "alice"):
            with pytest.raises(SignInFailed):
                accounts.authenticate("alice", password, "")

    def test_all_that_is_wrong_is_told_at_once_and_nothing_is_stored(self, accounts: AccountService) -> None:
        with pytest.raises(InvalidFields) as caught:
            accounts.create_user("a/b", "short")
        assert caught.value.problems == (
            FieldProblem("username", "A name cannot hold a slash."),
            FieldProblem("password", "Use 8 characters or more. Four random words work well."),
        )
        assert not accounts.has_users()
        assert audit_of(accounts.db) == []

    @pytest.mark.parametrize("other", ["alice", "ALICE", "Ａｌｉｃｅ"])
    def test_a_taken_name_stores_nothing(self, accounts: AccountService, other: str) -> None:
        accounts.create_user("alice", PASSWORD)
        with pytest.raises(NameTaken) as caught:
            accounts.create_user(other, PASSWORD, is_admin=True)
        assert str(caught.value).endswith(
            "There is already somebody named " + caught.value.problems[0].values["name"] + "."
        )
        assert len(audit_of(accounts.db)) == 1

    @pytest.mark.parametrize(
        ("password", "sentence"),
        [
            (None, None),
            ("x" * 7, "Use 8 characters or more. Four random words work well."),
            ("x" * 8, None),
            ("x" * 256, None),
            ("x" * 257, "Use 256 characters or fewer."),
        ],
    )
    def test_a_password_has_8_to_256_characters(self, password: str | None, sentence: str | None) -> None:
        expected = [] if sentence is None else [FieldProblem("password", sentence)]
        assert password_problems(password) == expected

    def test_an_unknown_name_is_not_found(self, accounts: AccountService) -> None:
        with pytest.raises(NotFound, match=r"^There is nobody named nora\.$"):
            accounts.find("nora")


class TestFirstAdmin:
    def test_it_is_made_once(self, accounts: AccountService) -> None:
        assert accounts.ensure_admin("nora", PASSWORD) is True
        assert accounts.ensure_admin("nora", PASSWORD) is False
        assert accounts.ensure_admin("eve", PASSWORD) is False
        assert accounts.find("nora").is_admin

    @pytest.mark.parametrize(("username", "password"), [(None, None), ("nora", None), (None, PASSWORD)])
    def test_half_of_it_makes_nobody(
        self, accounts: AccountService, username: str | None, password: str | None
    ) -> None:
        assert accounts.ensure_admin(username, password) is False
        assert not accounts.has_users()


class TestSetupLink:
    def test_it_makes_the_first_admin_once(self, accounts: AccountService) -> None:
        token = accounts.make_setup_link()
        assert token is not None
        accounts.check_setup_link(token)
        person = accounts.use_setup_link(token, "nora", PASSWORD, STRANGER)
        assert person.is_admin
        assert audit_of(accounts.db) == [("nora", "203.0.113.66", "user.create", "nora", "done")]
        for again in (
            lambda: accounts.check_setup_link(token),
            lambda: accounts.use_setup_link(token, "eve", PASSWORD, STRANGER),
        ):
            with pytest.raises(LinkDead):
                again()
        assert accounts.make_setup_link() is None

    def test_looking_does_not_use_it_up(self, accounts: AccountService) -> None:
        token = str(accounts.make_setup_link())
        for _ in range(3):
            accounts.check_setup_link(token)

    def test_bad_fields_do_not_use_it_up(self, accounts: AccountService) -> None:
        token = str(accounts.make_setup_link())
        with pytest.raises(InvalidFields):
            accounts.use_setup_link(token, "", "short", STRANGER)
        accounts.use_setup_link(token, "nora", PASSWORD, STRANGER)

    def test_it_lives_for_a_day(self, accounts: AccountService, clock: Clock) -> None:
        token = str(accounts.make_setup_link())
        clock.advance(hours=23, minutes=59, seconds=59)
        accounts.check_setup_link(token)
        clock.advance(seconds=1)
        with pytest.raises(LinkDead):
            accounts.check_setup_link(token)
        with pytest.raises(LinkDead):
            accounts.use_setup_link(token, "nora", PASSWORD, STRANGER)
        assert not accounts.has_users()

    def test_the_newest_one_counts(self, accounts: AccountService) -> None:
        old, new = str(accounts.make_setup_link()), str(accounts.make_setup_link())
        with pytest.raises(LinkDead):
            accounts.check_setup_link(old)
        accounts.check_setup_link(new)

    def test_it_is_dead_as_soon_as_there_is_a_user(self, accounts: AccountService) -> None:
        token = str(accounts.make_setup_link())
        accounts.create_user("nora", PASSWORD)
        with pytest.raises(LinkDead):
            accounts.use_setup_link(token, "eve", PASSWORD, STRANGER)

    @pytest.mark.parametrize("token", ["", "x", "\0", "é" * 32, "\ud800", "'; DROP TABLE users; --"])
    def test_a_forged_one_is_dead(self, accounts: AccountService, token: str) -> None:
        accounts.make_setup_link()
        with pytest.raises(LinkDead):
            accounts.check_setup_link(token)

    def test_only_its_hash_is_stored(self, accounts: AccountService) -> None:
        token = str(accounts.make_setup_link())
        with accounts.db.read() as session:
            stored = session.scalars(select(SetupLink)).one()
        assert len(token) == 32
        assert len(stored.token_hash) == 64
        assert token not in stored.token_hash

    def test_of_a_crowd_one_becomes_admin(self, accounts: AccountService) -> None:
        token = str(accounts.make_setup_link())
        ends: list[str] = []

        def use(name: str) -> None:
            try:
                ends.append(accounts.use_setup_link(token, name, PASSWORD, STRANGER).username)
            except LinkDead:
                ends.append("dead")

        threads = [threading.Thread(target=use, args=(f"person{n}",)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ends.count("dead") == 7
        assert len(accounts_names(accounts)) == 1


def accounts_names(accounts: AccountService) -> list[str]:
    with accounts.db.read() as session:
        return list(accounts.usernames(session).values())


class TestSignIn:
    @pytest.fixture
    def alice(self, accounts: AccountService, hasher: CountingHasher) -> Person:
        person = accounts.create_user("Alice", PASSWORD)
        hasher.verified.clear()
        return person

    def disable(self, accounts: AccountService) -> None:
        with accounts.db.write() as session:
            session.execute(update(User).values(disabled=True))

    def test_the_right_password_signs_in_whatever_the_case_of_the_name(
        self, accounts: AccountService, alice: Person
    ) -> None:
        assert accounts.authenticate("aLiCe", PASSWORD, "192.0.2.1") == alice

    @pytest.mark.parametrize(
        ("username", "password"),
        [
            ("alice", "wrong password"),
            ("alice", ""),
            ("alice", PASSWORD + " "),
            ("alice", PASSWORD.upper()),
            ("bob", PASSWORD),
            ("", ""),
            ("alice' OR 1=1 --", PASSWORD),
            ("x" * 10_000, PASSWORD),
            ("alice", "x" * 10_000),
        ],
    )
    def test_whatever_is_wrong_ends_alike_with_the_same_work(
        self, accounts: AccountService, alice: Person, hasher: CountingHasher, username: str, password: str
    ) -> None:
        with pytest.raises(SignInFailed, match=r"^Name or password is wrong\.$"):
            accounts.authenticate(username, password, "192.0.2.1")
        assert hasher.verified in ([f"plain:{PASSWORD}"], [module._NOBODY])
        assert audit_of(accounts.db)[1:] == [(username[:64], "192.0.2.1", "session.create", "", "refused")]

    @pytest.mark.parametrize("username", ["al\0ice", "alice\ud800"])
    def test_a_name_that_cannot_be_stored_ends_alike(
        self, accounts: AccountService, alice: Person, username: str
    ) -> None:
        with pytest.raises(SignInFailed):
            accounts.authenticate(username, PASSWORD, "192.0.2.1")

    def test_a_password_that_is_no_unicode_ends_alike(self, each_services: Services) -> None:
        with pytest.raises(SignInFailed):
            each_services.accounts.authenticate("alice", "\ud800" * 8, "192.0.2.1")

    def test_a_disabled_person_ends_alike_with_the_same_work(
        self, accounts: AccountService, alice: Person, hasher: CountingHasher
    ) -> None:
        self.disable(accounts)
        with pytest.raises(SignInFailed):
            accounts.authenticate("alice", PASSWORD, "192.0.2.1")
        assert hasher.verified == [f"plain:{PASSWORD}"]

    def test_past_the_limit_no_hash_is_computed_even_for_the_right_password(
        self, accounts: AccountService, alice: Person, hasher: CountingHasher, clock: Clock
    ) -> None:
        for _ in range(10):
            with pytest.raises(SignInFailed):
                accounts.authenticate("alice", "wrong password", "192.0.2.1")
        for _ in range(3):
            with pytest.raises(Throttled) as caught:
                accounts.authenticate("alice", PASSWORD, "192.0.2.1")
            assert caught.value.retry_after_s == 901
        assert len(hasher.verified) == 10
        assert audit_of(accounts.db)[-1] == ("alice", "192.0.2.1", "session.create", "", "throttled")
        assert accounts.authenticate("alice", PASSWORD, "192.0.2.2") == alice
        clock.advance(minutes=15)
        assert accounts.authenticate("alice", PASSWORD, "192.0.2.1") == alice

    def test_unknown_names_are_throttled_like_known_ones(self, accounts: AccountService) -> None:
        for _ in range(10):
            with pytest.raises(SignInFailed):
                accounts.authenticate("nobody", PASSWORD, "192.0.2.1")
        with pytest.raises(Throttled):
            accounts.authenticate("NOBODY", PASSWORD, "192.0.2.1")

    def test_a_right_password_starts_the_count_anew(self, accounts: AccountService, alice: Person) -> None:
        for _ in range(3):
            for _ in range(9):
                with pytest.raises(SignInFailed):
                    accounts.authenticate("alice", "wrong password", "192.0.2.1")
            accounts.authenticate("alice", PASSWORD, "192.0.2.1")

    def test_the_password_stands_in_no_audit_row(self, accounts: AccountService, alice: Person) -> None:
        with pytest.raises(SignInFailed):
            accounts.authenticate("alice", "hunter22 hunter22", "192.0.2.1")
        assert not any("hunter22" in column for row in audit_of(accounts.db) for column in row)


class TestArgon2:
    def test_it_is_argon2id_with_19_mib_two_passes_and_one_lane(self) -> None:
        made = argon2.extract_parameters(Argon2Hasher().hash(PASSWORD))
        assert (made.type, made.memory_cost, made.time_cost, made.parallelism) == (argon2.Type.ID, 19456, 2, 1)

    def test_right_wrong_and_broken(self) -> None:
        hasher = Argon2Hasher()
        made = hasher.hash(PASSWORD)
        assert made != hasher.hash(PASSWORD)
        answers = [
            hasher.verify(made, PASSWORD),
            hasher.verify(made, PASSWORD + "x"),
            hasher.verify("nonsense", PASSWORD),
        ]
        assert answers == [True, False, False]

    def test_all_256_characters_count(self) -> None:
        hasher = Argon2Hasher()
        made = hasher.hash("é" * 255 + "a")
        assert not hasher.verify(made, "é" * 255 + "b")

    def test_nobodys_hash_costs_as_much_as_a_persons(self) -> None:
        nobody, person = (argon2.extract_parameters(text) for text in (module._NOBODY, Argon2Hasher().hash(PASSWORD)))
        assert nobody == person
        with pytest.raises(argon2.exceptions.VerifyMismatchError):
            argon2.PasswordHasher().verify(module._NOBODY, PASSWORD)


def test_the_protocol_of_the_fake_hasher_is_the_real_ones() -> None:
    for make in (Argon2Hasher, CountingHasher):
        hasher: Callable[..., object] = make()
        made = hasher.hash(PASSWORD)  # type: ignore[attr-defined]
        assert hasher.verify(made, PASSWORD) is True  # type: ignore[attr-defined]
        assert hasher.verify(made, "other password") is False  # type: ignore[attr-defined]
