"""Rename, last day, notes, off and on, bring back: each as a plain form, as htmx, with bad input, as a stranger."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.web.conftest import Browser, Site
from webapp.models import DeletedProfile, VpnProfile


def row(site: Site) -> VpnProfile:
    with site.services.db.read() as session:
        return session.query(VpnProfile).one()


def test_the_form_is_filled_with_what_is_stored(site: Site, alice: Browser) -> None:
    profile = site.profile()
    alice.post(f"/profiles/{profile.id}/change", {"name": "phone", "expires_on": "2027-01-31", "notes": "old\r\none"})
    page = alice.get(f"/profiles/{profile.id}/change").text
    assert 'name="name" type="text" value="phone"' in page
    assert 'name="expires_on" type="date" value="2027-01-31"' in page
    assert ">old\none</textarea>" in page


def test_a_change_is_stored_and_leads_back_to_the_device(site: Site, alice: Browser) -> None:
    profile = site.profile()
    fields = {"name": "Mum’s phone", "expires_on": "2027-01-31", "notes": "the red one"}
    answer = alice.post(f"/profiles/{profile.id}/change", fields)
    assert (answer.status_code, answer.location) == (303, f"/profiles/{profile.id}")
    stored = row(site)
    assert (stored.name, stored.file_name, stored.notes) == ("Mum’s phone", "Mums-phone", "the red one")
    # The last day is still a day of use.
    assert stored.expires_at == datetime(2027, 2, 1, tzinfo=UTC)
    page = alice.get(answer.location).text
    assert "Mum’s phone was changed." in page
    assert "the red one" in page


@pytest.mark.parametrize(
    ("fields", "field", "sentence"),
    [
        ({"name": ""}, "name", "Please type a name."),
        ({"name": "Tablet"}, "name", "You already have a “Tablet”. Try “Tablet 2”."),
        ({"expires_on": "31.1.2027"}, "expires_on", "Give a day such as 2027-01-31, or nothing."),
        ({"expires_on": "9999-12-31"}, "expires_on", "Give a day such as 2027-01-31, or nothing."),
        ({"notes": "x" * 1001}, "notes", "Use 1000 characters or fewer."),
        ({"notes": "a\x1bb"}, "notes", "This text holds a character that cannot be shown."),
    ],
)
def test_a_bad_field_is_422_with_the_sentence_at_it_and_nothing_changes(
    site: Site, alice: Browser, fields: dict[str, str], field: str, sentence: str
) -> None:
    profile = site.profile()
    site.profile("tablet")
    answer = alice.post(f"/profiles/{profile.id}/change", {"name": "phone", "expires_on": "", "notes": ""} | fields)
    assert answer.status_code == 422
    assert f'id="{field}-wrong">{sentence}</p>' in answer.text
    with site.services.db.read() as session:
        stored = session.get_one(VpnProfile, profile.id)
    assert (stored.name, stored.expires_at, stored.notes) == ("phone", None, "")


def test_off_and_on_again(site: Site, alice: Browser) -> None:
    profile = site.profile()
    answer = alice.post(f"/profiles/{profile.id}/switch", {"enabled": "no"})
    assert (answer.status_code, answer.location) == (303, f"/profiles/{profile.id}")
    assert "Turn it on below to use it." in alice.get(answer.location).text
    assert row(site).enabled is False
    alice.post(f"/profiles/{profile.id}/switch", {"enabled": "yes"})
    assert row(site).enabled is True


def test_an_expired_one_says_so_and_where_to_change_it(site: Site, alice: Browser) -> None:
    profile = site.profile()
    alice.post(f"/profiles/{profile.id}/change", {"name": "phone", "expires_on": "2020-01-01", "notes": ""})
    page = alice.get(f"/profiles/{profile.id}").text
    assert "Expired" in page
    assert "Change its last day below to use it again." in page


@pytest.mark.parametrize("htmx", [False, True])
def test_a_deleted_one_is_offered_and_comes_back(site: Site, alice: Browser, htmx: bool) -> None:
    profile = site.profile()
    alice.post(f"/profiles/{profile.id}/delete")
    assert f'action="/profiles/{profile.id}/restore"' in alice.get("/profiles/").text
    answer = alice.post(f"/profiles/{profile.id}/restore", htmx=htmx)
    assert answer.status_code == (200 if htmx else 303)
    assert row(site).public_key == profile.public_key
    assert site.count(DeletedProfile) == 0
    assert alice.post(f"/profiles/{profile.id}/restore").status_code == 404


@pytest.mark.parametrize(
    ("action", "fields"),
    [
        ("change", {"name": "mine", "expires_on": "", "notes": ""}),
        ("switch", {"enabled": "no"}),
        ("restore", {}),
    ],
)
def test_a_stranger_and_a_nobody_change_nothing(
    site: Site, mallory: Browser, nobody: Browser, action: str, fields: dict[str, str]
) -> None:
    profile = site.profile()
    if action == "restore":
        site.signed_in("alice").post(f"/profiles/{profile.id}/delete")
    assert mallory.post(f"/profiles/{profile.id}/{action}", fields).status_code == 404
    assert nobody.post(f"/profiles/{profile.id}/{action}", fields).status_code in {303, 401, 403}
    assert site.count(VpnProfile) == (0 if action == "restore" else 1)
    if action != "restore":
        assert (row(site).name, row(site).enabled) == ("phone", True)
