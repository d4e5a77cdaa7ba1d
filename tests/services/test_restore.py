"""Restoring: what was confirmed comes back, what was revoked stays out, and no address gets two owners."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select, text, update

from tests.fakes import Clock, FakeWireGuard
from webapp import cli
from webapp.errors import LinkDead, NotFound
from webapp.models import (
    AuditEvent,
    Base,
    ChangeSeq,
    DeletedProfile,
    PeerStatus,
    ReleasedAddress,
    RevokedKey,
    Server,
    SignInSession,
    User,
    VpnProfile,
)
from webapp.services import migrator, restore
from webapp.services.audit import CONSOLE
from webapp.services.backup import BackupRefused, BackupService
from webapp.services.database import open_database
from webapp.services.profiles import ProfileView
from webapp.services.reconcile import Reconciler
from webapp.services.restore import Change, Facts, Preview, Release, RestoreService, make_plan
from webapp.services.tombstones import Tombstones
from webapp.services.transfer import TABLES, sum_tables
from webapp.services.wg import Tools
from webapp.settings import ROOT, Settings
from webapp.wiring import Services, build_services

NOW = datetime(2026, 3, 4, tzinfo=UTC)
EARLIER = NOW - timedelta(hours=2)
DAY = timedelta(days=1)
NOBODY: frozenset[str] = frozenset()


class TestPlan:
    """The rule as a pure function; keys are single letters."""

    def plan(self, current: Facts, backup: Facts, *tombstones: str, has_interface: bool = True) -> restore.Plan:
        return make_plan(current, backup, frozenset(tombstones), NOW, has_interface=has_interface)

    def test_into_a_fresh_installation_everything_comes(self) -> None:
        plan = self.plan(Facts({}), Facts({2: "A", 3: "B"}, {}, NOBODY, 4))
        assert plan == restore.Plan(frozenset("AB"), NOBODY, NOBODY, NOBODY, {}, 4)

    def test_a_key_made_since_goes_and_its_address_rests_until_it_is_seen_gone(self) -> None:
        plan = self.plan(Facts({2: "A", 3: "N"}, {}, NOBODY, 4), Facts({2: "A"}, {}, NOBODY, 3))
        released = {3: Release("N", NOW, None, None)}
        assert plan == restore.Plan(frozenset("A"), NOBODY, frozenset("N"), frozenset("N"), released, 4)

    def test_a_key_revoked_since_stays_out_and_its_address_rests_as_it_does(self) -> None:
        rests = Release("B", EARLIER, EARLIER, EARLIER + DAY)
        plan = self.plan(Facts({2: "A"}, {3: rests}, frozenset("B"), 4), Facts({2: "A", 3: "B"}, {}, NOBODY, 4))
        assert plan == restore.Plan(frozenset("A"), frozenset("B"), NOBODY, NOBODY, {3: rests}, 4)

    def test_a_tombstone_alone_keeps_a_key_out(self) -> None:
        plan = self.plan(Facts({}), Facts({2: "A", 3: "B"}, {}, NOBODY, 4), "B")
        released = {3: Release("B", NOW, None, None)}
        assert plan == restore.Plan(frozenset("A"), frozenset("B"), NOBODY, frozenset("B"), released, 4)

    def test_an_address_that_has_another_owner_since_goes_to_nobody(self) -> None:
        current = Facts({2: "N"}, {}, frozenset("A"), 3)
        plan = self.plan(current, Facts({2: "A"}, {}, NOBODY, 3))
        released = {2: Release("N", NOW, None, None)}
        assert plan == restore.Plan(NOBODY, frozenset("A"), frozenset("N"), frozenset("N"), released, 3)

    def test_a_profile_brought_back_since_is_deleted_again_and_can_be_brought_back(self) -> None:
        deleted = Release("A", EARLIER, EARLIER, EARLIER + DAY)
        plan = self.plan(Facts({2: "A"}, {}, NOBODY, 3), Facts({}, {2: deleted}, frozenset("A"), 3))
        released = {2: Release("A", NOW, None, EARLIER + DAY)}
        assert plan == restore.Plan(NOBODY, NOBODY, frozenset("A"), frozenset("A"), released, 3)

    def test_what_only_the_file_saw_gone_is_looked_for_again(self) -> None:
        deleted = Release("A", EARLIER, EARLIER, None)
        plan = self.plan(Facts({}), Facts({}, {2: deleted}, frozenset("A"), 3))
        assert plan.released == {2: replace(deleted, confirmed_absent_at=None)}
        assert plan.newly_revoked == frozenset("A")

    def test_without_an_interface_nothing_is_looked_for(self) -> None:
        plan = self.plan(Facts({3: "N"}), Facts({}, {2: Release("A", EARLIER, None, None)}), has_interface=False)
        assert [release.confirmed_absent_at for release in plan.released.values()] == [NOW, NOW]

    def test_two_installations_that_gave_the_same_address(self) -> None:
        plan = self.plan(Facts({2: "N"}, {}, NOBODY, 3), Facts({2: "A"}, {}, NOBODY, 3))
        assert plan == restore.Plan(frozenset("A"), NOBODY, frozenset("N"), frozenset("N"), {}, 3)

    LIVES = st.lists(
        st.tuples(st.sampled_from(["create", "delete", "back", "reuse", "backup"]), st.integers(0, 30)), max_size=60
    )

    @given(LIVES)
    def test_no_address_is_lost_or_double_whatever_happened_since(self, life: list[tuple[str, int]]) -> None:
        """One installation lives on after its backup; then that is restored."""
        profiles: dict[int, str] = {}
        released: dict[int, Release] = {}
        revoked: set[str] = set()
        following, made = 2, 0
        backup = Facts({})
        for verb, number in life:
            if verb == "create":
                profiles[following] = f"K{made}"
                following, made = following + 1, made + 1
            elif verb == "reuse" and released:
                index = sorted(released)[number % len(released)]
                del released[index]
                profiles[index] = f"K{made}"
                made += 1
            elif verb == "delete" and profiles:
                index = sorted(profiles)[number % len(profiles)]
                key = profiles.pop(index)
                released[index] = Release(key, NOW, NOW, None)
                revoked.add(key)
            elif verb == "back" and released:
                index = sorted(released)[number % len(released)]
                key = released.pop(index).public_key
                profiles[index] = key
                revoked.discard(key)
            elif verb == "backup":
                backup = Facts(dict(profiles), dict(released), frozenset(revoked), following)
        current = Facts(profiles, released, frozenset(revoked), following)
        plan = self.plan(current, backup)
        given_out = {index for index, key in backup.profiles.items() if key in plan.restored}
        assert given_out | set(plan.released) == set(range(2, plan.next_index))
        assert given_out & set(plan.released) == set()
        assert plan.restored == frozenset(backup.profiles.values()) - revoked
        assert frozenset(profiles.values()) - plan.restored == plan.going <= plan.newly_revoked
        live = frozenset(profiles.values())
        assert all(
            release.confirmed_absent_at is None for release in plan.released.values() if release.public_key in live
        )


def test_a_restore_has_a_rule_for_every_table() -> None:
    ruled = [*restore.REPLACED, *restore.MERGED, *restore.DROPPED, *restore.LEFT_ALONE]
    assert sorted(ruled) == sorted(Base.metadata.tables)


class House:
    """One installation with a person, and a backup that is made and put back."""

    def __init__(self, services: Services, folder: Path) -> None:
        self.services = services
        self.db = services.db
        self.file = folder / "house.db"
        self.tombstones = Tombstones(services.settings.data_dir)
        self.alice = services.accounts.create_user("alice", None, is_admin=True).id
        self.restorer = restorer_of(services)

    def create(self, name: str) -> ProfileView:
        return self.services.profiles.create_profile(self.alice, name, CONSOLE)

    def delete(self, profile: ProfileView) -> None:
        self.services.profiles.delete_profile(self.alice, profile.id, CONSOLE)

    def set_mode(self, mode: str) -> None:
        with self.db.write() as session:
            session.execute(update(Server).values(interface_mode=mode))

    def back_up(self) -> None:
        BackupService(self.db, self.services.vault, self.services.settings.data_dir, self.services.clock).make(
            self.file, force=True
        )

    def restore(self) -> Preview:
        with self.restorer.open(self.file, None, migrator.upgrade) as backup:
            return self.restorer.restore(backup, self.file.name)

    def preview(self) -> Preview:
        with self.restorer.open(self.file, None, migrator.upgrade) as backup:
            return self.restorer.preview(backup)

    def rows(self, *columns: Any) -> list[Any]:
        with self.db.read() as session:
            found = session.execute(select(*columns).order_by(*columns)).all()
        return [row[0] if len(columns) == 1 else tuple(row) for row in found]

    @property
    def names(self) -> list[str]:
        return self.rows(VpnProfile.name)

    def sums(self) -> dict[str, Any]:
        with self.db.read() as session:
            return sum_tables(session.connection())


def restorer_of(services: Services) -> RestoreService:
    data_dir = services.settings.data_dir
    return RestoreService(services.db, services.vault, Tombstones(data_dir), data_dir, services.clock)


@pytest.fixture
def house(each_services: Services, tmp_path: Path) -> House:
    return House(each_services, tmp_path)


@pytest.fixture
def small(services: Services, tmp_path: Path) -> House:
    """A house on SQLite only, for what does not depend on the database."""
    return House(services, tmp_path)


class TestRestore:
    def test_people_tokens_and_profiles_are_as_they_were(self, house: House, clock: Clock) -> None:
        house.create("phone")
        token = house.services.tokens.create_token(house.alice, "script", "all", CONSOLE)
        with house.db.read() as session:
            file = house.services.profiles.profile_file(session, house.alice, "phone")
        house.back_up()
        unchanged = ("users", "vpn_profiles", "api_tokens", "address_sequences", "servers", "installation")
        before = house.sums()
        clock.advance(hours=3)
        house.services.profiles.change_profile(house.alice, 1, CONSOLE, name="other", enabled=False, notes="x")
        house.services.accounts.create_user("mallory", None, is_admin=True)
        with house.db.write() as session:
            session.execute(text("DELETE FROM api_tokens"))
        seen = house.restore()
        after = house.sums()
        assert {name: after[name] for name in unchanged} == {name: before[name] for name in unchanged}
        assert seen == Preview(
            people=Change(2, 1, 0, 1),
            profiles=Change(1, 1, 0, 0),
            tokens=Change(0, 1, 1, 0),
            refused=0,
            newest=clock.now - timedelta(hours=3),
        )
        with house.db.read() as session:
            assert house.services.profiles.profile_file(session, house.alice, "phone") == file
            assert house.services.tokens.find(session, token) is not None

    def test_a_preview_says_the_same_and_changes_nothing(self, house: House) -> None:
        house.create("kept")
        gone = house.create("revoked")
        house.back_up()
        house.delete(gone)
        house.create("made since")
        before = house.sums()
        seen = house.preview()
        assert house.sums() == before
        assert seen.profiles == Change(2, 2, 0, 1)
        assert seen.refused == 1
        assert house.restore() == seen
        assert house.names == ["kept"]

    def test_a_key_revoked_since_stays_revoked(self, house: House) -> None:
        profile = house.create("lost phone")
        house.back_up()
        house.delete(profile)
        house.restore()
        assert house.names == []
        assert house.rows(RevokedKey.public_key) == [profile.public_key]
        assert house.tombstones.read() == {profile.public_key}

    def test_a_key_that_only_the_tombstones_remember_stays_revoked(self, house: House) -> None:
        profile = house.create("lost phone")
        house.back_up()
        house.tombstones.revoke(profile.public_key)
        house.restore()
        assert house.names == []
        assert house.rows(ReleasedAddress.address_index, ReleasedAddress.public_key) == [(2, profile.public_key)]

    @pytest.mark.parametrize("mode", ["manage", "adopt"])
    def test_a_profile_made_since_leaves_the_interface_and_the_others_stay(
        self, house: House, clock: Clock, mode: str
    ) -> None:
        house.set_mode(mode)
        wg = FakeWireGuard()
        (server_id,) = house.rows(Server.id)
        agent = Reconciler(house.db, house.services.vault, server_id)
        kept = house.create("kept")
        agent.reconcile(wg, clock(), removes_strangers=False)
        house.back_up()
        made_since = house.create("made since")
        agent.reconcile(wg, clock(), removes_strangers=False)
        state = wg.show()
        assert state is not None
        assert state.peers.keys() == {kept.public_key, made_since.public_key}
        house.restore()
        assert house.rows(RevokedKey.public_key, RevokedKey.confirmed_absent_at) == [(made_since.public_key, None)]
        assert house.rows(PeerStatus.confirmed_at) == [None]
        wg.calls.clear()
        agent.reconcile(wg, clock(), removes_strangers=False)
        assert ("remove", (made_since.public_key,)) in wg.calls
        assert not any(verb == "add" for verb, _ in wg.calls), "who stays keeps handshake and counters"
        assert house.rows(RevokedKey.confirmed_absent_at) == [clock()]
        assert house.tombstones.read() == {made_since.public_key}

    def test_addresses_and_ids_are_never_given_twice(self, house: House, clock: Clock) -> None:
        first = [house.create(f"before {number}") for number in range(3)]
        house.delete(first[1])
        house.back_up()
        later = [house.create(f"later {number}") for number in range(3)]
        house.delete(later[0])
        house.delete(first[0])
        house.restore()
        fresh = [house.create(f"fresh {number}") for number in range(3)]
        old = first + later
        assert not {profile.id for profile in fresh} & {profile.id for profile in old}
        assert not {profile.ipv4_address for profile in fresh} & {profile.ipv4_address for profile in old}
        clock.advance(days=2)
        reused = [house.create(f"reused {number}") for number in range(5)]
        assert {profile.ipv4_address for profile in reused} == {
            profile.ipv4_address for profile in old if profile.id != first[2].id
        }

    def test_a_deleted_profile_can_still_be_brought_back_for_its_day(self, house: House) -> None:
        before, since = house.create("deleted before"), house.create("deleted since")
        house.delete(before)
        house.back_up()
        house.delete(since)
        house.restore()
        assert house.rows(DeletedProfile.name) == ["deleted before", "deleted since"]
        for profile in (before, since):
            back = house.services.profiles.restore_profile(house.alice, profile.id, CONSOLE)
            assert (back.public_key, back.ipv4_address) == (profile.public_key, profile.ipv4_address)
        assert house.rows(ReleasedAddress.id) == []

    def test_a_deleted_profile_whose_address_went_to_somebody_else_cannot(self, house: House) -> None:
        profile = house.create("deleted before")
        house.delete(profile)
        house.back_up()
        with house.db.write() as session:
            session.execute(text("DELETE FROM released_addresses"))
            session.execute(text("DELETE FROM deleted_profiles"))
            session.execute(text("UPDATE address_sequences SET next_index = 2"))
        made_since = house.create("has its address")
        assert made_since.ipv4_address == profile.ipv4_address
        house.restore()
        assert house.rows(ReleasedAddress.public_key) == [made_since.public_key]
        assert house.rows(DeletedProfile.id) == []
        with pytest.raises(NotFound):
            house.services.profiles.restore_profile(house.alice, profile.id, CONSOLE)

    def test_a_strangers_deleted_profile_is_not_given_to_who_has_their_number_then(self, house: House) -> None:
        """In another installation the same id is another person."""
        house.create("phone")
        house.back_up()
        deleted = house.create("kept for its person")
        house.delete(deleted)
        with house.db.write() as session:
            session.execute(update(User).values(created_at=NOW - DAY))
        house.restore()
        assert house.rows(DeletedProfile.id) == []
        assert house.rows(ReleasedAddress.public_key) == [deleted.public_key], "the address rests all the same"

    def test_the_change_is_audited_seen_by_the_agent_and_the_log_between_is_kept(
        self, house: House, clock: Clock
    ) -> None:
        house.create("phone")
        house.back_up()
        clock.advance(minutes=1)
        house.create("later")
        (before,) = house.rows(ChangeSeq.value)
        clock.advance(minutes=1)
        house.restore()
        events = house.rows(AuditEvent.id, AuditEvent.action, AuditEvent.subject)
        assert [event[1:] for event in events] == [
            ("user.create", "alice"),
            ("profile.create", "phone"),
            ("profile.create", "later"),
            ("database.restore", "house.db"),
        ]
        assert house.rows(ChangeSeq.value) > [before]

    def test_people_sign_in_again_and_no_one_time_link_comes_back(self, house: House) -> None:
        with house.db.write() as session:
            session.execute(text("DELETE FROM users"))
        token = house.services.accounts.make_setup_link()
        assert token is not None
        bob = house.services.accounts.create_user("bob", None, is_admin=True).id
        with house.db.write() as session:
            row = {"id_hash": "x", "user_id": bob, "epoch": 0, "address": "", "user_agent": ""}
            moment = dict.fromkeys(("created_at", "last_seen_at", "expires_at"), NOW)
            session.add(SignInSession(**row, **moment))
        house.back_up()
        house.restore()
        assert house.rows(SignInSession.id) == []
        with pytest.raises(LinkDead):
            house.services.accounts.use_setup_link(token, "eve", "a long password here", CONSOLE)

    def test_a_file_that_was_downloaded_since_is_out_of_date_after_an_older_server_came_back(
        self, house: House
    ) -> None:
        house.create("phone")
        house.back_up()
        with house.db.write() as session:
            session.execute(update(Server).values(endpoint="203.0.113.9:51820", revision=5))
        house.restore()
        assert house.rows(Server.endpoint, Server.revision) == [("198.51.100.1:51820", 6)]

    def test_a_second_restore_of_the_same_file_changes_nothing_more(self, house: House) -> None:
        house.create("phone")
        house.back_up()
        house.create("later")
        house.restore()
        before = house.sums()
        assert house.restore().profiles == Change(1, 1, 0, 0)
        after = house.sums()
        assert {name for name in before if before[name] != after[name]} == {"audit_events", "change_seq"}


class TestFreshInstallation:
    """The machine is lost; a new one has the encryption key, the file, and nothing else."""

    @pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
    def test_a_new_machine_goes_on_where_the_old_one_was(
        self, small: House, kind: str, tmp_path: Path, environ: dict[str, str], clock: Clock,
        request: pytest.FixtureRequest,
    ) -> None:  # fmt: skip
        phone = small.create("phone")
        gone = small.create("laptop")
        small.delete(gone)
        with small.db.write() as session:
            session.execute(update(Server).values(network="10.77.0.0/16", endpoint="vpn.example.org:443"))
        small.back_up()
        variables = {**environ, "DATA_DIR": str(tmp_path / "new")}
        if kind == "postgres":
            variables["DATABASE_URL"] = request.getfixturevalue("postgres_url")
        settings = Settings.from_env(variables)
        db = open_database(settings.database_url)
        migrator.upgrade(db, settings.data_dir)
        fresh = build_services(settings, db, Tools(), clock=clock)
        fresh.servers.prepare("adopt", fresh.tools, interface_exists=True, can_manage=True)
        restorer = restorer_of(fresh)
        with restorer.open(small.file, None, migrator.upgrade) as backup:
            assert restorer.restore(backup, "house.db").profiles == Change(0, 1, 1, 0)
        with db.read() as session, small.db.read() as old:
            assert session.scalar(select(ChangeSeq.value)) > old.scalar(select(ChangeSeq.value))
            server, was = (each.execute(select(TABLES["servers"])).mappings().one() for each in (session, old))
            assert {name for name in was if was[name] != server[name]} == {"interface_mode"}
            assert server["interface_mode"] == "adopt"
            assert fresh.profiles.profile_file(session, small.alice, "phone") == small.services.profiles.profile_file(
                old, small.alice, "phone"
            )
        tablet = fresh.profiles.create_profile(small.alice, "tablet", CONSOLE)
        assert tablet.id > gone.id
        assert tablet.ipv4_address not in {phone.ipv4_address, gone.ipv4_address}
        db.close()


class TestRefused:
    @pytest.fixture
    def ready(self, small: House) -> House:
        small.create("phone")
        small.back_up()
        small.create("later")
        return small

    def refused(self, house: House, passphrase: str | None = None) -> str:
        before = house.sums()
        with pytest.raises(BackupRefused) as caught, house.restorer.open(house.file, passphrase, migrator.upgrade):
            pass
        assert house.sums() == before
        assert list(house.services.settings.data_dir.glob("backup-*")) == [], "no copy is left behind"
        return str(caught.value)

    def test_a_foreign_file(self, ready: House) -> None:
        ready.file.write_bytes(b"PK\x03\x04 this is something else" * 100)
        assert self.refused(ready) == "This file is no backup of Postern. Nothing was changed."

    def test_a_truncated_one(self, ready: House) -> None:
        ready.file.write_bytes(ready.file.read_bytes()[:-4096])
        assert self.refused(ready) == "This file was cut short. Nothing was changed."

    def test_a_newer_one(self, ready: House) -> None:
        with closing(sqlite3.connect(ready.file)) as file:
            file.execute("UPDATE alembic_version SET version_num = '9999'")
            file.commit()
        assert self.refused(ready) == ("This backup was made by a newer Postern (version 9999). Update Postern first.")

    def test_one_of_a_version_that_never_was(self, ready: House) -> None:
        with closing(sqlite3.connect(ready.file)) as file:
            file.execute("UPDATE alembic_version SET version_num = '0000'")
            file.commit()
        assert self.refused(ready) == "This backup has a version that is not known here. Nothing was changed."

    def test_one_of_another_encryption_key(self, ready: House) -> None:
        with closing(sqlite3.connect(ready.file)) as file:
            file.execute("UPDATE installation SET encryption_key_id = 'ffffffff'")
            file.commit()
        assert self.refused(ready).startswith("This backup was made with the ENCRYPTION_KEY ffffffff, and ")

    def test_an_encrypted_one_without_and_with_a_wrong_passphrase(self, ready: House) -> None:
        backups = BackupService(ready.db, ready.services.vault, ready.services.settings.data_dir, ready.services.clock)
        backups.make(ready.file, passphrase="correct horse", force=True)
        assert self.refused(ready) == "This backup is encrypted: give its passphrase with --passphrase-stdin."
        wrong = self.refused(ready, "wrong horse")
        assert wrong == "The passphrase is wrong, or the file is damaged. Nothing was changed."
        with ready.restorer.open(ready.file, "correct horse", migrator.upgrade) as backup:
            assert ready.restorer.restore(backup, "x").profiles == Change(2, 2, 0, 0)

    @pytest.mark.parametrize(
        "damage",
        [
            "UPDATE vpn_profiles SET created_at = 'yesterday'",
            "UPDATE users SET role = 'owner'",
        ],
    )
    def test_a_row_that_cannot_be_stored_changes_nothing(self, ready: House, damage: str) -> None:
        with closing(sqlite3.connect(ready.file)) as file:
            file.execute("PRAGMA ignore_check_constraints = ON")
            file.execute(damage)
            file.commit()
        before = ready.sums()
        with pytest.raises(BackupRefused) as caught:
            ready.restore()
        assert str(caught.value) == "This file is damaged. Nothing was changed."
        assert ready.sums() == before
        assert ready.tombstones.read() == frozenset()


def test_an_older_backup_is_migrated_in_a_copy(small: House, tmp_path: Path) -> None:
    small.create("phone")
    small.back_up()
    with closing(sqlite3.connect(small.file)) as file:
        for statement in UNDO_TO_0001:
            file.execute(statement)
        file.commit()
    content = small.file.read_bytes()
    small.create("later")
    small.restore()
    assert small.names == ["phone"]
    assert small.file.read_bytes() == content
    assert list(small.services.settings.data_dir.glob("backup-*")) == []


UNDO_TO_0001 = (
    "DROP TABLE deleted_profiles",
    "DROP TABLE revoked_keys",
    "DROP INDEX ix_vpn_profiles_user_id_id",
    "ALTER TABLE released_addresses DROP COLUMN kept_until",
    "UPDATE alembic_version SET version_num = '0001'",
)


PROGRAM = """if True:
    import sys
    from pathlib import Path
    from sqlalchemy import event
    from tests.fakes import Clock
    from tests.services.test_restore import restorer_of
    from webapp.services import migrator
    from webapp.services.database import open_database
    from webapp.services.wg import Tools
    from webapp.settings import Settings
    from webapp.wiring import build_services
    settings = Settings.from_env({environ!r})
    db = open_database(settings.database_url)
    restorer = restorer_of(build_services(settings, db, Tools(), clock=Clock()))

    @event.listens_for(db.engine, "before_cursor_execute")
    def stand_still(connection, cursor, statement, *rest):
        if statement.startswith({statement!r}):
            print("in the middle", flush=True)
            sys.stdin.read()

    with restorer.open(Path({file!r}), None, migrator.upgrade) as backup:
        restorer.restore(backup, "x")
"""


@pytest.mark.parametrize("statement", ["INSERT INTO users", "INSERT INTO revoked_keys", "UPDATE change_seq"])
def test_killed_in_the_middle_it_was_never_begun(house: House, environ: dict[str, str], statement: str) -> None:
    house.create("phone")
    house.back_up()
    house.create("later")
    before = house.sums()
    environ = {**environ, "DATABASE_URL": house.services.settings.database_url}
    program = PROGRAM.format(environ=environ, statement=statement, file=str(house.file))
    child = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "in the middle\n"
        os.kill(child.pid, signal.SIGKILL)
    assert house.sums() == before
    assert house.names == ["later", "phone"]
    house.restore()
    assert house.names == ["phone"]


class TestCommand:
    @pytest.fixture(autouse=True)
    def variables(self, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)

    def test_without_yes_it_shows_and_with_yes_it_does(
        self, small: House, capsys: pytest.CaptureFixture[str], clock: Clock
    ) -> None:
        small.create("phone")
        revoked = small.create("lost")
        small.back_up()
        small.delete(revoked)
        small.create("later")
        table = (
            "\tnow\tin file\tcome back\tgo\n"
            "people\t1\t1\t0\t0\n"
            "profiles\t2\t2\t0\t1\n"
            "tokens\t0\t0\t0\t0\n"
            "stay revoked\t1\n"
        )
        before = small.sums()
        assert cli.main(["restore", str(small.file)]) == 0
        assert small.sums() == before
        said = capsys.readouterr()
        assert said.out == table
        assert said.err == (
            "The newest entry of the backup: 2026-03-04 05:06 UTC.\n"
            "Profiles that go are revoked for good: no later restore lets their keys in again.\n"
            "Nothing was changed. To do it, type the same with --yes.\n"
        )
        assert cli.main(["restore", str(small.file), "--yes"]) == 0
        said = capsys.readouterr()
        assert said.out == table
        assert said.err.splitlines()[-1] == (
            "Restored. Everybody signs in again; the agent brings the interface up to date."
        )
        assert small.names == ["phone"]

    def test_into_a_database_without_tables_it_says_what_to_type(
        self, small: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        small.back_up()
        monkeypatch.setenv("DATA_DIR", str(tmp_path / "empty"))
        assert cli.main(["restore", str(small.file)]) == 2
        assert "type: postern db upgrade" in capsys.readouterr().err


def test_other_writers_wait_and_readers_go_on_seeing_everything(house: House) -> None:
    """What reads while a restore runs sees the old state whole; a partial view would empty the interface."""
    for number in range(20):
        house.create(f"phone {number}")
    house.back_up()
    house.create("later")
    with house.db.read() as reader:
        assert reader.scalar(select(func.count(VpnProfile.id))) == 21
        house.restore()
        assert reader.scalar(select(func.count(VpnProfile.id))) == 21
    assert len(house.names) == 20
