"""Profiles: made whole or not at all, seen by their person only, and a file that a device can use."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from tests.fakes import Clock
from webapp.domain.keys import KeyPair, PresharedKey, PrivateKey
from webapp.domain.states import State
from webapp.errors import (
    AppError,
    DecryptionFailed,
    InvalidFields,
    LimitReached,
    NameTaken,
    NotFound,
    NotReady,
    PoolExhausted,
)
from webapp.models import (
    AddressSequence,
    AuditEvent,
    ChangeSeq,
    DeletedProfile,
    PeerStatus,
    ReleasedAddress,
    Server,
    User,
    VpnProfile,
)
from webapp.services.audit import Actor
from webapp.services.profiles import PRESHARED_KEY, PRIVATE_KEY, ProfileService, ProfileView
from webapp.services.vault import Vault
from webapp.services.wg import KeyMaker, Tools, generate_key_pair_in_process, public_key_of
from webapp.wiring import Services

ALICE = Actor("alice", 1, "192.0.2.1")


@pytest.fixture
def profiles(services: Services) -> ProfileService:
    return services.profiles


@pytest.fixture
def alice(new_person: Callable[..., int]) -> int:
    return new_person("alice")


@pytest.fixture
def bob(new_person: Callable[..., int]) -> int:
    return new_person("bob")


def show(profiles: ProfileService, user_id: int, profile_id: int) -> ProfileView:
    with profiles.db.read() as session:
        return profiles.show_profile(session, user_id, profile_id)


def names(profiles: ProfileService, user_id: int | None, **how: Any) -> list[str]:
    with profiles.db.read() as session:
        return [item.name for item in profiles.list_profiles(session, user_id, **how).items]


def everything(profiles: ProfileService) -> tuple[object, ...]:
    """What a change that was refused must leave as it was."""
    with profiles.db.read() as session:
        counts = [
            session.scalar(select(func.count()).select_from(table))
            for table in (VpnProfile, ReleasedAddress, AuditEvent)
        ]
        rows = session.execute(
            select(VpnProfile.id, VpnProfile.name, VpnProfile.file_name, VpnProfile.enabled, VpnProfile.notes)
        ).all()
        return (
            *counts,
            session.scalar(select(ChangeSeq.value)),
            session.scalar(select(AddressSequence.next_index)),
            tuple(map(tuple, rows)),
        )


def change_server(profiles: ProfileService, **values: object) -> None:
    with profiles.db.write() as session:
        session.execute(update(Server).values(**values))


class TestCreate:
    def test_a_new_profile_is_stored_with_an_address_and_keys_of_its_own(
        self, profiles: ProfileService, alice: int, clock: Clock
    ) -> None:
        made = profiles.create_profile(alice, " Phone ", ALICE)
        with profiles.db.read() as session:
            row = session.scalars(select(VpnProfile)).one()
            assert row.private_key is not None
            private = PrivateKey(profiles.vault.open(PRIVATE_KEY, row.public_key, row.private_key))
            preshared = PresharedKey(profiles.vault.open(PRESHARED_KEY, row.public_key, row.preshared_key))
            event = session.scalars(select(AuditEvent).order_by(AuditEvent.id.desc()).limit(1)).one()
        assert str(public_key_of(private)) == row.public_key
        assert private.raw not in (preshared.raw, row.private_key)
        assert made == ProfileView(
            id=row.id,
            user_id=alice,
            name="Phone",
            file_name="Phone",
            state=State.READY,
            enabled=True,
            outdated=False,
            ipv4_address="10.8.0.2",
            ipv6_address=None,
            public_key=row.public_key,
            created_at=clock(),
            expires_at=None,
            latest_handshake=None,
            rx_bytes=0,
            tx_bytes=0,
            notes="",
        )
        assert made == show(profiles, alice, made.id)
        assert (event.actor, event.address, event.action, event.subject, event.outcome) == (
            *("alice", "192.0.2.1", "profile.create", "Phone", "done"),
        )

    def test_it_wakes_the_agent_in_the_same_transaction(self, profiles: ProfileService, alice: int) -> None:
        before = everything(profiles)[3]
        profiles.create_profile(alice, "phone", ALICE)
        assert everything(profiles)[3] == before + 1  # type: ignore[operator]

    def test_every_profile_has_other_keys_and_another_address(self, profiles: ProfileService, alice: int) -> None:
        made = [profiles.create_profile(alice, f"phone {n}", ALICE) for n in range(30)]
        assert len({one.public_key for one in made}) == 30
        assert [one.ipv4_address for one in made] == [f"10.8.0.{n}" for n in range(2, 32)]

    def test_no_secret_is_stored_in_clear(self, profiles: ProfileService, alice: int, services: Services) -> None:
        made = profiles.create_profile(alice, "phone", ALICE)
        with profiles.db.read() as session:
            text = profiles.profile_file(session, alice, str(made.id)).text
        secrets = [line.split(" = ")[1] for line in text.splitlines() if line.startswith(("PrivateKey", "Preshared"))]
        assert len(secrets) == 2
        services.db.close()
        stored = b"".join(path.read_bytes() for path in services.settings.data_dir.glob("postern.db*"))
        for secret in secrets:
            assert secret.encode() not in stored
            assert PrivateKey.from_base64(secret).raw not in stored

    @pytest.mark.parametrize("name", ["", "a/b", "7", "x" * 65])
    def test_a_bad_name_takes_nothing(self, profiles: ProfileService, alice: int, name: str) -> None:
        before = everything(profiles)
        with pytest.raises(InvalidFields):
            profiles.create_profile(alice, name, ALICE)
        assert everything(profiles) == before

    @pytest.mark.parametrize("name", ["Phone", "phone", "ＰＨＯＮＥ"])
    def test_a_taken_name_takes_nothing_and_offers_another(
        self, profiles: ProfileService, alice: int, name: str
    ) -> None:
        profiles.create_profile(alice, "Phone", ALICE)
        before = everything(profiles)
        with pytest.raises(NameTaken) as caught:
            profiles.create_profile(alice, name, ALICE)
        (problem,) = caught.value.problems
        assert (problem.field, str(problem)) == ("name", f"You already have a “{name}”. Try “{name} 2”.")
        assert everything(profiles) == before

    def test_two_people_may_use_one_name(self, profiles: ProfileService, alice: int, bob: int) -> None:
        assert profiles.create_profile(alice, "phone", ALICE).file_name == "phone"
        assert profiles.create_profile(bob, "phone", ALICE).file_name == "phone"

    def test_file_names_of_one_person_differ(self, profiles: ProfileService, alice: int) -> None:
        made = [
            profiles.create_profile(alice, name, ALICE).file_name for name in ("Телефон", "电话", "device", "Téléphone")
        ]
        assert made == ["device", "device-2", "device-3", "Telephone"]

    def test_a_full_pool_takes_nothing(self, profiles: ProfileService, alice: int) -> None:
        change_server(profiles, network="10.8.0.0/30")
        profiles.create_profile(alice, "first", ALICE)
        before = everything(profiles)
        with pytest.raises(PoolExhausted):
            profiles.create_profile(alice, "second", ALICE)
        assert everything(profiles) == before

    def test_the_limit_of_a_person_holds(self, profiles: ProfileService, alice: int) -> None:
        with profiles.db.write() as session:
            session.execute(update(User).where(User.id == alice).values(profile_limit=1))
        made = profiles.create_profile(alice, "first", ALICE)
        before = everything(profiles)
        with pytest.raises(LimitReached, match=r"^You have 1 of 1 devices\. Delete one first\.$"):
            profiles.create_profile(alice, "second", ALICE)
        assert everything(profiles) == before
        profiles.delete_profile(alice, made.id, ALICE)
        profiles.create_profile(alice, "second", ALICE)

    def test_nobody_has_no_profiles(self, profiles: ProfileService) -> None:
        with pytest.raises(NotFound):
            profiles.create_profile(999, "phone", ALICE)

    def test_a_wg_that_makes_the_same_key_twice_is_a_deliberate_error(
        self, profiles: ProfileService, alice: int
    ) -> None:
        class Repeating(KeyMaker):
            pair = generate_key_pair_in_process()

            def generate_key_pair(self) -> KeyPair:
                return self.pair

        profiles.keys = Repeating(Tools())
        profiles.create_profile(alice, "first", ALICE)
        with pytest.raises(AppError) as caught:
            profiles.create_profile(alice, "second", ALICE)
        assert not isinstance(caught.value, NameTaken)


class TestRead:
    def test_somebody_elses_and_a_missing_one_are_alike(self, profiles: ProfileService, alice: int, bob: int) -> None:
        made = profiles.create_profile(alice, "phone", ALICE)
        errors = set()
        for profile_id in (made.id, made.id + 1, 0, -1, 2**63, 10**30):
            with pytest.raises(NotFound) as caught:
                show(profiles, bob, profile_id)
            errors.add(str(caught.value))
        assert len(errors) == 1

    @pytest.mark.parametrize("ref", ["", "nothing", "0", "999", "9" * 19, "9" * 100, "²", "\0", "a/b", "%", "_"])
    def test_a_reference_to_nothing_is_not_found(self, profiles: ProfileService, alice: int, ref: str) -> None:
        profiles.create_profile(alice, "phone", ALICE)
        with pytest.raises(NotFound), profiles.db.read() as session:
            profiles.find_profile(session, alice, ref)

    def test_a_profile_is_found_by_its_id_and_by_its_name(self, profiles: ProfileService, alice: int, bob: int) -> None:
        made = profiles.create_profile(alice, "Café", ALICE)
        profiles.create_profile(bob, "Café", ALICE)
        with profiles.db.read() as session:
            found = [profiles.find_profile(session, alice, ref).id for ref in (str(made.id), "Café", "CAFE\u0301")]
        assert found == [made.id] * 3

    def test_a_list_holds_ones_own_only_in_either_order(self, profiles: ProfileService, alice: int, bob: int) -> None:
        for n in range(3):
            profiles.create_profile(alice, f"a{n}", ALICE)
            profiles.create_profile(bob, f"b{n}", ALICE)
        assert names(profiles, alice) == ["a0", "a1", "a2"]
        assert names(profiles, alice, before=0) == ["a2", "a1", "a0"]
        assert names(profiles, None) == ["a0", "b0", "a1", "b1", "a2", "b2"]

    @pytest.mark.parametrize("newest_first", [False, True])
    def test_pages_give_each_profile_once(self, profiles: ProfileService, alice: int, newest_first: bool) -> None:
        for n in range(7):
            profiles.create_profile(alice, f"a{n}", ALICE)
        seen: list[str] = []
        place: int | None = 0
        with profiles.db.read() as session:
            while place is not None:
                how = {"before": place} if newest_first else {"after": place}
                page = profiles.list_profiles(session, alice, limit=3, **how)
                seen += [item.name for item in page.items]
                place = page.next_id
        assert seen == sorted((f"a{n}" for n in range(7)), reverse=newest_first)

    def test_a_page_above_the_largest_loses_nothing(self, profiles: ProfileService, alice: int) -> None:
        change_server(profiles, network="10.8.0.0/16")
        with profiles.db.write() as session:
            server_id = session.scalars(select(Server.id)).one()
            for n in range(2, 604):
                session.add(
                    VpnProfile(
                        user_id=alice,
                        server_id=server_id,
                        name=f"n{n}",
                        name_key=f"n{n}",
                        file_name=f"n{n}",
                        private_key=None,
                        public_key=f"key {n}",
                        preshared_key=b"",
                        address_index=n,
                        ipv4_address=f"a{n}",
                        enabled=True,
                        created_at=profiles.clock(),
                    )
                )
        with profiles.db.read() as session:
            page = profiles.list_profiles(session, alice, limit=1000)
        assert len(page.items) == 602 or page.next_id is not None

    def test_the_agents_word_is_shown(self, profiles: ProfileService, alice: int, clock: Clock) -> None:
        change_server(profiles, interface_mode="manage")
        made = profiles.create_profile(alice, "phone", ALICE)
        assert made.state == State.PENDING
        assert show(profiles, alice, made.id).pending_reason == (
            "The part of the server that lets devices in is not running."
        )
        with profiles.db.write() as session:
            session.add(
                PeerStatus(
                    profile_id=made.id,
                    public_key=made.public_key,
                    confirmed_at=clock(),
                    latest_handshake=clock(),
                    endpoint="203.0.113.5:4000",
                    rx_bytes=5,
                    tx_bytes=7,
                    updated_at=clock(),
                )
            )
        seen = show(profiles, alice, made.id)
        assert (seen.state, seen.latest_handshake, seen.rx_bytes, seen.tx_bytes) == (State.CONNECTED, clock(), 5, 7)
        clock.advance(minutes=3)
        assert show(profiles, alice, made.id).state == State.AWAY

    def test_a_status_of_another_key_confirms_nothing(self, profiles: ProfileService, alice: int, clock: Clock) -> None:
        change_server(profiles, interface_mode="manage")
        made = profiles.create_profile(alice, "phone", ALICE)
        with profiles.db.write() as session:
            session.add(PeerStatus(profile_id=made.id, public_key="another", confirmed_at=clock(), updated_at=clock()))
        assert show(profiles, alice, made.id).state == State.PENDING

    def test_a_disabled_persons_profiles_are_off(self, profiles: ProfileService, alice: int) -> None:
        made = profiles.create_profile(alice, "phone", ALICE)
        with profiles.db.write() as session:
            session.execute(update(User).values(disabled=True))
        seen = show(profiles, alice, made.id)
        assert (seen.state, seen.enabled) == (State.OFF, True)


class TestFile:
    def test_the_file_is_complete(self, profiles: ProfileService, alice: int) -> None:
        made = profiles.create_profile(alice, "Mum's phone", ALICE)
        with profiles.db.read() as session:
            file = profiles.profile_file(session, alice, "mum's PHONE")
            server = session.scalars(select(Server)).one()
            row = session.scalars(select(VpnProfile)).one()
        assert row.private_key is not None
        private = PrivateKey(profiles.vault.open(PRIVATE_KEY, row.public_key, row.private_key))
        preshared = PresharedKey(profiles.vault.open(PRESHARED_KEY, row.public_key, row.preshared_key))
        assert (file.profile_id, file.file_name, file.revision, file.is_delivered) == (
            made.id,
            "Mum-s-phone.conf",
            1,
            False,
        )
        assert file.text == (
            "[Interface]\n"
            f"PrivateKey = {private.to_base64()}\n"
            "Address = 10.8.0.2/32\n"
            "DNS = 1.1.1.1, 1.0.0.1\n"
            "MTU = 1420\n"
            "\n"
            "[Peer]\n"
            f"PublicKey = {server.public_key}\n"
            f"PresharedKey = {preshared.to_base64()}\n"
            "Endpoint = 198.51.100.1:51820\n"
            "AllowedIPs = 0.0.0.0/0, ::/0\n"
            "PersistentKeepalive = 25\n"
        )

    def test_somebody_elses_file_is_not_found(self, profiles: ProfileService, alice: int, bob: int) -> None:
        made = profiles.create_profile(alice, "phone", ALICE)
        for ref in (str(made.id), "phone"):
            with pytest.raises(NotFound), profiles.db.read() as session:
                profiles.profile_file(session, bob, ref)

    @pytest.mark.parametrize(
        ("values", "sentence"),
        [
            ({"endpoint": None}, "The server's address is not set yet. The person who runs it can set it."),
            ({"public_key": None}, "The server's key is not known yet. It is read when its interface is up."),
        ],
    )
    def test_what_is_missing_is_said(
        self, profiles: ProfileService, alice: int, values: dict[str, None], sentence: str
    ) -> None:
        made = profiles.create_profile(alice, "phone", ALICE)
        change_server(profiles, **values)
        with pytest.raises(NotReady) as caught, profiles.db.read() as session:
            profiles.profile_file(session, alice, str(made.id))
        assert str(caught.value) == sentence

    def test_a_key_that_is_kept_on_its_device_has_no_file(self, profiles: ProfileService, alice: int) -> None:
        made = profiles.create_profile(alice, "phone", ALICE)
        with profiles.db.write() as session:
            session.execute(update(VpnProfile).values(private_key=None))
        with pytest.raises(NotReady), profiles.db.read() as session:
            profiles.profile_file(session, alice, str(made.id))

    @pytest.mark.parametrize("column", ["private_key", "preshared_key"])
    def test_a_secret_of_another_row_is_an_error_and_no_file(
        self, profiles: ProfileService, alice: int, column: str
    ) -> None:
        first, second = (profiles.create_profile(alice, name, ALICE) for name in ("first", "second"))
        with profiles.db.write() as session:
            moved = session.scalar(select(getattr(VpnProfile, column)).where(VpnProfile.id == first.id))
            session.execute(update(VpnProfile).where(VpnProfile.id == second.id).values({column: moved}))
        with pytest.raises(DecryptionFailed), profiles.db.read() as session:
            profiles.profile_file(session, alice, str(second.id))

    def test_another_encryption_key_is_an_error_and_no_file(self, profiles: ProfileService, alice: int) -> None:
        made = profiles.create_profile(alice, "phone", ALICE)
        profiles.vault = Vault("another master key of some length")
        with pytest.raises(DecryptionFailed), profiles.db.read() as session:
            profiles.profile_file(session, alice, str(made.id))

    def test_it_is_out_of_date_when_the_server_changed_since(self, profiles: ProfileService, alice: int) -> None:
        made = profiles.create_profile(alice, "phone", ALICE)
        profiles.mark_delivered(alice, made.id, 1)
        assert not show(profiles, alice, made.id).outdated
        change_server(profiles, revision=2)
        assert show(profiles, alice, made.id).outdated
        profiles.mark_delivered(alice, made.id, 2)
        profiles.mark_delivered(alice, made.id, 1)
        assert not show(profiles, alice, made.id).outdated

    def test_nobody_marks_somebody_elses(self, profiles: ProfileService, alice: int, bob: int) -> None:
        made = profiles.create_profile(alice, "phone", ALICE)
        profiles.mark_delivered(bob, made.id, 1)
        change_server(profiles, revision=2)
        assert not show(profiles, alice, made.id).outdated


class TestChange:
    def test_only_what_is_given_changes(self, profiles: ProfileService, alice: int, clock: Clock) -> None:
        made = profiles.create_profile(alice, "phone", ALICE)
        until = clock() + timedelta(days=1)
        assert profiles.change_profile(alice, made.id, ALICE, notes="for the train").notes == "for the train"
        assert profiles.change_profile(alice, made.id, ALICE, expires_at=until).expires_at == until
        assert profiles.change_profile(alice, made.id, ALICE, enabled=False).state == State.OFF
        renamed = profiles.change_profile(alice, made.id, ALICE, name="Old phone")
        assert (renamed.name, renamed.file_name, renamed.notes, renamed.expires_at, renamed.enabled) == (
            *("Old phone", "Old-phone", "for the train", until, False),
        )
        assert (renamed.ipv4_address, renamed.public_key) == (made.ipv4_address, made.public_key)
        assert profiles.change_profile(alice, made.id, ALICE, expires_at=None).expires_at is None
        assert renamed == ProfileView(**{**vars(show(profiles, alice, made.id)), "expires_at": until})

    def test_each_change_wakes_the_agent_and_is_audited(self, profiles: ProfileService, alice: int) -> None:
        made = profiles.create_profile(alice, "phone", ALICE)
        before = everything(profiles)
        profiles.change_profile(alice, made.id, ALICE, enabled=False)
        after = everything(profiles)
        assert (after[2], after[3]) == (before[2] + 1, before[3] + 1)  # type: ignore[operator]

    def test_its_own_name_in_another_case_is_free(self, profiles: ProfileService, alice: int) -> None:
        made = profiles.create_profile(alice, "phone", ALICE)
        changed = profiles.change_profile(alice, made.id, ALICE, name="PHONE")
        assert (changed.name, changed.file_name) == ("PHONE", "PHONE")

    @pytest.mark.parametrize("name", ["Tablet", "", "a/b"])
    def test_a_bad_or_taken_name_changes_nothing(self, profiles: ProfileService, alice: int, name: str) -> None:
        made = profiles.create_profile(alice, "phone", ALICE)
        profiles.create_profile(alice, "tablet", ALICE)
        before = everything(profiles)
        with pytest.raises(InvalidFields):
            profiles.change_profile(alice, made.id, ALICE, name=name, enabled=False, notes="x")
        assert everything(profiles) == before

    def test_somebody_elses_is_not_found_and_stays(self, profiles: ProfileService, alice: int, bob: int) -> None:
        made = profiles.create_profile(alice, "phone", ALICE)
        before = everything(profiles)
        for profile_id in (made.id, 999, 2**63):
            with pytest.raises(NotFound):
                profiles.change_profile(bob, profile_id, ALICE, enabled=False)
        assert everything(profiles) == before

    def test_it_expires_by_itself(self, profiles: ProfileService, alice: int, clock: Clock) -> None:
        made = profiles.create_profile(alice, "phone", ALICE)
        profiles.change_profile(alice, made.id, ALICE, expires_at=clock() + timedelta(hours=1))
        clock.advance(hours=1)
        assert show(profiles, alice, made.id).state == State.EXPIRED

    @pytest.mark.parametrize("notes", ["a\0b", "a\x1bb", "a\u202eb", "x" * 1001])
    def test_bad_notes_are_refused(self, profiles: ProfileService, alice: int, notes: str) -> None:
        made = profiles.create_profile(alice, "phone", ALICE)
        with pytest.raises(InvalidFields):
            profiles.change_profile(alice, made.id, ALICE, notes=notes)


class TestDelete:
    def released(self, profiles: ProfileService) -> list[tuple[int, str, datetime | None]]:
        with profiles.db.read() as session:
            rows = session.scalars(select(ReleasedAddress))
            return [(row.address_index, row.public_key, row.confirmed_absent_at) for row in rows]

    def test_it_orders_the_key_off_the_interface(self, profiles: ProfileService, alice: int) -> None:
        change_server(profiles, interface_mode="manage")
        made = profiles.create_profile(alice, "phone", ALICE)
        assert profiles.delete_profile(alice, made.id, ALICE) == "phone"
        assert self.released(profiles) == [(2, made.public_key, None)]
        assert names(profiles, alice) == []

    def test_without_an_interface_the_key_counts_as_gone(
        self, profiles: ProfileService, alice: int, clock: Clock
    ) -> None:
        made = profiles.create_profile(alice, "phone", ALICE)
        profiles.delete_profile(alice, made.id, ALICE)
        assert self.released(profiles) == [(2, made.public_key, clock())]

    def test_its_address_rests_before_it_is_given_again(
        self, profiles: ProfileService, alice: int, clock: Clock
    ) -> None:
        change_server(profiles, network="10.8.0.0/30")
        first = profiles.create_profile(alice, "phone", ALICE)
        profiles.delete_profile(alice, first.id, ALICE)
        clock.advance(minutes=59)
        with pytest.raises(PoolExhausted):
            profiles.create_profile(alice, "phone", ALICE)
        clock.advance(minutes=1)
        second = profiles.create_profile(alice, "phone", ALICE)
        assert second.ipv4_address == first.ipv4_address
        assert second.public_key != first.public_key
        assert second.id != first.id

    def test_its_name_is_free_at_once(self, profiles: ProfileService, alice: int) -> None:
        made = profiles.create_profile(alice, "phone", ALICE)
        profiles.delete_profile(alice, made.id, ALICE)
        assert profiles.create_profile(alice, "Phone", ALICE).file_name == "Phone"

    def test_it_takes_what_the_agent_saw_with_it(self, profiles: ProfileService, alice: int, clock: Clock) -> None:
        made = profiles.create_profile(alice, "phone", ALICE)
        with profiles.db.write() as session:
            session.add(PeerStatus(profile_id=made.id, public_key=made.public_key, updated_at=clock()))
        profiles.delete_profile(alice, made.id, ALICE)
        with profiles.db.read() as session:
            assert session.scalars(select(PeerStatus)).all() == []

    def test_somebody_elses_is_not_found_and_stays(self, profiles: ProfileService, alice: int, bob: int) -> None:
        made = profiles.create_profile(alice, "phone", ALICE)
        before = everything(profiles)
        for profile_id in (made.id, 999, 0, 2**63):
            with pytest.raises(NotFound):
                profiles.delete_profile(bob, profile_id, ALICE)
        assert everything(profiles) == before
        profiles.delete_profile(alice, made.id, ALICE)
        with pytest.raises(NotFound):
            profiles.delete_profile(alice, made.id, ALICE)


class TestBringBack:
    def test_a_deleted_profile_comes_back_with_id_address_and_key(
        self, profiles: ProfileService, alice: int, clock: Clock
    ) -> None:
        made = profiles.create_profile(alice, "phone", ALICE)
        profiles.delete_profile(alice, made.id, ALICE)
        clock.advance(hours=23, minutes=59)
        back = profiles.restore_profile(alice, made.id, ALICE)
        assert (back.id, back.name, back.ipv4_address, back.public_key) == (
            *(made.id, made.name, made.ipv4_address, made.public_key),
        )
        with profiles.db.read() as session:
            assert session.scalars(select(ReleasedAddress)).all() == []
            assert profiles.profile_file(session, alice, "phone").profile_id == made.id

    def test_after_a_day_it_is_gone(self, profiles: ProfileService, alice: int, clock: Clock) -> None:
        made = profiles.create_profile(alice, "phone", ALICE)
        profiles.delete_profile(alice, made.id, ALICE)
        clock.advance(days=1)
        with pytest.raises(NotFound):
            profiles.restore_profile(alice, made.id, ALICE)
        profiles.forget_deleted()
        with profiles.db.read() as session:
            assert session.scalars(select(DeletedProfile)).all() == []

    def test_it_is_its_owners_only(self, profiles: ProfileService, alice: int, bob: int) -> None:
        made = profiles.create_profile(alice, "phone", ALICE)
        profiles.delete_profile(alice, made.id, ALICE)
        with pytest.raises(NotFound):
            profiles.restore_profile(bob, made.id, ALICE)
        with profiles.db.read() as session:
            assert [one.id for one in profiles.restorable_profiles(session, alice)] == [made.id]
            assert profiles.restorable_profiles(session, bob) == []

    def test_its_id_and_address_are_nobody_elses_meanwhile(self, profiles: ProfileService, alice: int) -> None:
        made = profiles.create_profile(alice, "phone", ALICE)
        profiles.delete_profile(alice, made.id, ALICE)
        other = profiles.create_profile(alice, "phone", ALICE)
        back = profiles.restore_profile(alice, made.id, ALICE)
        assert (other.id > made.id, other.ipv4_address, back.name) == (True, "10.8.0.3", "phone 2")

    def test_whose_address_was_needed_does_not_come_back(
        self, profiles: ProfileService, alice: int, clock: Clock
    ) -> None:
        change_server(profiles, network="10.8.0.0/30")
        made = profiles.create_profile(alice, "phone", ALICE)
        profiles.delete_profile(alice, made.id, ALICE)
        clock.advance(hours=1)
        profiles.create_profile(alice, "tablet", ALICE)
        before = everything(profiles)
        with pytest.raises(NotFound):
            profiles.restore_profile(alice, made.id, ALICE)
        assert everything(profiles) == before


def test_the_view_has_no_place_for_a_private_key() -> None:
    assert not [name for name in ProfileView.__dataclass_fields__ if "private" in name or "preshared" in name]
