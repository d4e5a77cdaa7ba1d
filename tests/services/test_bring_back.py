"""A deleted profile comes back for a day with its address and key; its key stays revoked until then."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import func, select

from tests.fakes import Clock, FakeWireGuard
from webapp.errors import LimitReached, NotFound
from webapp.models import DeletedProfile, ReleasedAddress, RevokedKey, User
from webapp.services.allocator import KEPT_FOR, QUARANTINE
from webapp.services.audit import CONSOLE
from webapp.services.reconcile import Reconciler
from webapp.wiring import Services


@pytest.fixture
def alice(each_services: Services) -> int:
    return each_services.accounts.create_user("alice", None).id


def count(services: Services, table: type) -> int:
    with services.db.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_it_comes_back_with_the_same_id_address_and_key(each_services: Services, alice: int) -> None:
    profiles = each_services.profiles
    made = profiles.create_profile(alice, "phone", CONSOLE)
    with each_services.db.read() as session:
        text = profiles.profile_file(session, alice, "phone").text
    profiles.delete_profile(alice, made.id, CONSOLE)
    back = profiles.restore_profile(alice, made.id, CONSOLE)
    assert (back.id, back.name, back.ipv4_address, back.public_key) == (
        made.id,
        "phone",
        made.ipv4_address,
        made.public_key,
    )
    with each_services.db.read() as session:
        assert profiles.profile_file(session, alice, "phone").text == text
    assert [count(each_services, table) for table in (DeletedProfile, ReleasedAddress, RevokedKey)] == [0, 0, 0]


def test_a_deleted_key_is_revoked_in_the_database_and_beside_it(each_services: Services, alice: int) -> None:
    made = each_services.profiles.create_profile(alice, "phone", CONSOLE)
    each_services.profiles.delete_profile(alice, made.id, CONSOLE)
    with each_services.db.read() as session:
        assert list(session.scalars(select(RevokedKey.public_key))) == [made.public_key]
    assert each_services.profiles.tombstones.read() == {made.public_key}
    each_services.profiles.restore_profile(alice, made.id, CONSOLE)
    assert each_services.profiles.tombstones.read() == frozenset()


def test_after_a_day_it_is_gone_and_the_chore_wipes_its_keys(each_services: Services, alice: int, clock: Clock) -> None:
    profiles = each_services.profiles
    made = profiles.create_profile(alice, "phone", CONSOLE)
    profiles.delete_profile(alice, made.id, CONSOLE)
    clock.now += KEPT_FOR - timedelta(seconds=1)
    profiles.forget_deleted()
    with each_services.db.read() as session:
        assert [item.name for item in profiles.restorable_profiles(session, alice)] == ["phone"]
    clock.now += timedelta(seconds=1)
    with each_services.db.read() as session:
        assert profiles.restorable_profiles(session, alice) == []
    with pytest.raises(NotFound):
        profiles.restore_profile(alice, made.id, CONSOLE)
    profiles.forget_deleted()
    assert count(each_services, DeletedProfile) == 0


def test_a_stranger_can_neither_see_it_nor_bring_it_back(each_services: Services, alice: int) -> None:
    mallory = each_services.accounts.create_user("mallory", None).id
    made = each_services.profiles.create_profile(alice, "phone", CONSOLE)
    each_services.profiles.delete_profile(alice, made.id, CONSOLE)
    with each_services.db.read() as session:
        assert each_services.profiles.restorable_profiles(session, mallory) == []
    with pytest.raises(NotFound):
        each_services.profiles.restore_profile(mallory, made.id, CONSOLE)


def test_a_name_that_was_taken_since_gets_a_number(each_services: Services, alice: int) -> None:
    made = each_services.profiles.create_profile(alice, "phone", CONSOLE)
    each_services.profiles.delete_profile(alice, made.id, CONSOLE)
    each_services.profiles.create_profile(alice, "Phone", CONSOLE)
    back = each_services.profiles.restore_profile(alice, made.id, CONSOLE)
    assert (back.name, back.file_name) == ("phone 2", "phone-2")


def test_nobody_gets_its_address_while_another_one_is_free(each_services: Services, alice: int, clock: Clock) -> None:
    made = each_services.profiles.create_profile(alice, "phone", CONSOLE)
    each_services.profiles.delete_profile(alice, made.id, CONSOLE)
    clock.now += QUARANTINE
    assert each_services.profiles.create_profile(alice, "tablet", CONSOLE).ipv4_address != made.ipv4_address
    clock.now += KEPT_FOR
    assert each_services.profiles.create_profile(alice, "laptop", CONSOLE).ipv4_address == made.ipv4_address


def test_somebody_who_needs_the_last_address_comes_first_and_then_it_cannot_come_back(
    each_services: Services, alice: int, clock: Clock
) -> None:
    profiles = each_services.profiles
    made = [profiles.create_profile(alice, f"d{number}", CONSOLE) for number in range(253)]
    profiles.delete_profile(alice, made[7].id, CONSOLE)
    clock.now += QUARANTINE
    assert profiles.create_profile(alice, "tablet", CONSOLE).ipv4_address == made[7].ipv4_address
    with pytest.raises(NotFound):
        profiles.restore_profile(alice, made[7].id, CONSOLE)
    assert profiles.tombstones.read() == {made[7].public_key}


def test_totals_and_last_handshake_come_back_too(each_services: Services, alice: int, clock: Clock) -> None:
    services, wg = each_services, FakeWireGuard()
    made = services.profiles.create_profile(alice, "phone", CONSOLE)
    with services.db.read() as session:
        server_id = services.servers.current(session).id
    reconciler = Reconciler(services.db, services.vault, server_id)
    reconciler.reconcile(wg, clock(), removes_strangers=True)
    wg.hear(made.public_key, rx=1000, tx=2000, at=clock())
    reconciler.reconcile(wg, clock(), removes_strangers=True)
    services.profiles.delete_profile(alice, made.id, CONSOLE)
    assert reconciler.reconcile(wg, clock(), removes_strangers=True).removed == 1
    services.profiles.restore_profile(alice, made.id, CONSOLE)
    assert reconciler.reconcile(wg, clock(), removes_strangers=True).added == 1
    wg.hear(made.public_key, rx=10, tx=20)
    reconciler.reconcile(wg, clock(), removes_strangers=True)
    with services.db.read() as session:
        view = services.profiles.show_profile(session, alice, made.id)
    assert (view.rx_bytes, view.tx_bytes) == (1010, 2020)
    assert view.latest_handshake == clock().replace(microsecond=0)


def test_the_limit_counts_for_what_comes_back(each_services: Services, alice: int) -> None:
    made = each_services.profiles.create_profile(alice, "phone", CONSOLE)
    each_services.profiles.delete_profile(alice, made.id, CONSOLE)
    each_services.profiles.create_profile(alice, "tablet", CONSOLE)
    with each_services.db.write() as session:
        session.get_one(User, alice).profile_limit = 1
    with pytest.raises(LimitReached):
        each_services.profiles.restore_profile(alice, made.id, CONSOLE)
    assert count(each_services, DeletedProfile) == 1
