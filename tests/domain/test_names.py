"""Names: what is refused, when two are the same, and the file name that every system takes."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapp.domain.names import FILE_NAME, name_key, next_name, parse_name, safe_file_name
from webapp.errors import FieldProblem, InvalidFields

LONGEST_KEY = 192
"""``username_key`` and ``name_key`` in models.py: PostgreSQL refuses a longer one."""


def nothing_taken(_name: str) -> bool:
    return False


def first_random(_below: int) -> int:
    return 0xBEEF


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("phone", "phone"),
        ("  phone \t", "phone"),
        ("p", "p"),
        ("x" * 64, "x" * 64),
        ("cafe\u0301", "café"),
        ("Телефон мамы", "Телефон мамы"),
        ("手机", "手机"),
        ("👨‍👩‍👧 phone", "👨‍👩‍👧 phone"),
        ("phone 2", "phone 2"),
        ("2nd", "2nd"),
        ("a.b", "a.b"),
        ("²", "²"),
        ('<script>"&', '<script>"&'),
        ("a\\b", "a\\b"),
    ],
)
def test_a_name_is_kept_as_it_was_meant(text: str, name: str) -> None:
    assert parse_name(text) == name


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "Please type a name."),
        (" \t ", "Please type a name."),
        ("x" * 65, "This name is too long: 64 characters at most."),
        *(
            (f"a{character}b", "This name holds a character that cannot be shown.")
            for character in (
                *("\0", "\n", "\r", "\t", "\x1b", "\x7f", "\x80", "\x85", "\x9f", "\u2028", "\u2029"),
                *("\u061c", "\u200e", "\u200f", "\u202a", "\u202e", "\u2066", "\u2069", "\ud800"),
            )
        ),
        ("a/b", "A name cannot hold a slash."),
        ("/", "A name cannot hold a slash."),
        (".", "A name cannot begin with a dot."),
        ("..", "A name cannot begin with a dot."),
        (".hidden", "A name cannot begin with a dot."),
        ("0", "A name needs more than digits."),
        ("007", "A name needs more than digits."),
        ("٣٤", "A name needs more than digits."),
    ],
)
def test_what_is_no_name_is_refused_at_its_field(text: str, sentence: str) -> None:
    with pytest.raises(InvalidFields) as caught:
        parse_name(text, "username")
    assert caught.value.problems == (FieldProblem("username", sentence),)


@given(st.text(max_size=70))
def test_a_name_that_was_taken_is_safe_and_stable(text: str) -> None:
    try:
        name = parse_name(text)
    except InvalidFields:
        return
    assert 1 <= len(name) <= 64
    assert parse_name(name) == name == unicodedata.normalize("NFC", name)
    assert not any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in name)
    assert "/" not in name


@pytest.mark.parametrize("text", ["ﷺ" * 10, "㎯" * 32, "ﬃ" * 64, "ß" * 64, "ΐ" * 64])
def test_the_key_of_the_longest_names_fits_its_column(text: str) -> None:
    assert len(name_key(parse_name(text))) <= LONGEST_KEY


@pytest.mark.parametrize("text", ["ﷺ" * 11, "ﷺ" * 64])
def test_a_name_whose_key_does_not_fit_its_column_is_too_long(text: str) -> None:
    with pytest.raises(InvalidFields, match=r"^name: This name is too long: 64 characters at most\.$"):
        parse_name(text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Phone", "pHONE"),
        ("STRASSE", "straße"),
        ("café", "cafe\u0301"),
        ("ＰＨＯＮＥ", "phone"),
        ("Ω", "Ω"),
        ("ﬁ", "FI"),
    ],
)
def test_names_that_look_the_same_have_one_key(one: str, other: str) -> None:
    assert name_key(one) == name_key(other)


@pytest.mark.parametrize(("one", "other"), [("phone", "phone 2"), ("cafe", "café"), ("a b", "a  b")])
def test_other_names_have_another_key(one: str, other: str) -> None:
    assert name_key(one) != name_key(other)


@given(st.text(max_size=64))
def test_the_key_of_a_key_is_itself(name: str) -> None:
    assert name_key(name_key(name)) == name_key(name)


@pytest.mark.parametrize(
    ("name", "taken", "offer"),
    [
        ("phone", {"phone"}, "phone 2"),
        ("phone", {"phone", "phone 2"}, "phone 3"),
        ("phone 2", {"phone 2"}, "phone 3"),
        ("phone 7", {"phone 7", "phone 2"}, "phone 3"),
        ("x" * 64, {"x" * 64}, "x" * 61 + " 2"),
        ("phone", {"phone", *(f"phone {n}" for n in range(2, 100))}, "phone"),
    ],
)
def test_a_free_name_is_offered_for_a_taken_one(name: str, taken: set[str], offer: str) -> None:
    if name == "phone 2":
        taken = {*taken, "phone 2"}
    assert next_name(name, taken.__contains__) == offer


@pytest.mark.parametrize(
    ("name", "file_name"),
    [
        ("phone", "phone"),
        ("Mum's phone", "Mum-s-phone"),
        ("café", "cafe"),
        ("Телефон", "device"),
        ("手机 2", "2"),
        ("a" * 64, "a" * 15),
        ("a" * 14 + " b", "a" * 14),
        ("...", "device"),
        ("-rf", "rf"),
        ("a\\..\\b", "a-..-b"),
        ("x_=+.-y", "x_=+.-y"),
        ("$(reboot)", "reboot"),
    ],
)
def test_a_file_name_is_made_of_safe_characters(name: str, file_name: str) -> None:
    assert safe_file_name(name, nothing_taken, first_random) == file_name


@given(st.text(min_size=1, max_size=64), st.integers(0, 12))
def test_every_file_name_is_one_that_wg_quick_takes(name: str, tries: int) -> None:
    asked: list[str] = []

    def is_taken(candidate: str) -> bool:
        asked.append(candidate)
        return len(asked) <= tries

    made = safe_file_name(name, is_taken, first_random)
    assert FILE_NAME.fullmatch(made)
    assert not made.startswith((".", "-"))
    assert made not in {".", ".."}


def test_taken_file_names_are_numbered_and_then_random() -> None:
    taken: list[str] = []
    for _ in range(11):
        taken.append(safe_file_name("Grandmother's telephone", taken.__contains__, lambda below: below - len(taken)))
    assert taken == [
        "Grandmother-s-t",
        *(f"Grandmother-s-{n}" for n in range(2, 10)),
        "Grandmothe-fff7",
        "Grandmothe-fff6",
    ]
