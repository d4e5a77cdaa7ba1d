"""Sizes and moments in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapp.web.filters import Phrase, ago, day, file_size

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def said(phrase: Phrase) -> str:
    return phrase.message % phrase.values


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (-1, "0 B"),
        (0, "0 B"),
        (1, "1 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1049, "1.0 kB"),
        (1050, "1.1 kB"),
        (9_949, "9.9 kB"),
        (9_950, "9.9 kB"),
        (9_960, "10 kB"),
        (10_400, "10 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (412_000_000, "412 MB"),
        (1_300_000_000, "1.3 GB"),
        (999_999_999_999, "1.0 TB"),
        (2**63 - 1, "9223 PB"),
    ],
)
def test_a_size_has_three_digits_and_a_decimal_unit(size: int, words: str) -> None:
    assert file_size(size) == words.replace(" ", "\u00a0")


@given(st.integers(0, 10**18 - 1))
def test_no_size_below_an_exabyte_needs_more_than_three_digits(size: int) -> None:
    number, _ = file_size(size).split("\u00a0")
    assert len(number.replace(".", "")) <= 3 or size >= 999.5e15
    assert float(number) < 1000 or size >= 999.5e15


@given(st.integers(0, 2**62), st.integers(0, 2**62))
def test_more_never_looks_like_less(one: int, other: int) -> None:
    units = ["B", "kB", "MB", "GB", "TB", "PB"]

    def key(size: int) -> tuple[int, float]:
        number, unit = file_size(size).split("\u00a0")
        return units.index(unit), float(number)

    assert (key(one) <= key(other)) if one <= other else (key(one) >= key(other))


@pytest.mark.parametrize(
    ("age", "words"),
    [
        (timedelta(days=-1), "0 s ago"),
        (timedelta(0), "0 s ago"),
        (timedelta(seconds=59.9), "59 s ago"),
        (timedelta(seconds=60), "1 min ago"),
        (timedelta(minutes=59, seconds=59), "59 min ago"),
        (timedelta(hours=1), "1 h ago"),
        (timedelta(hours=23, minutes=59), "23 h ago"),
        (timedelta(hours=24), "yesterday"),
        (timedelta(hours=47, minutes=59), "yesterday"),
        (timedelta(hours=48), "2 Mar"),
        (timedelta(days=62), "2026-01-01"),
        (timedelta(days=63), "2025-12-31"),
    ],
)
def test_an_age_is_told_in_the_largest_unit_that_fits(age: timedelta, words: str) -> None:
    expected = words.replace(" s ", "\u00a0s ").replace(" min ", "\u00a0min ").replace(" h ", "\u00a0h ")
    expected = expected.replace("2 Mar", "2\u00a0Mar").replace("2026-01-01", "1\u00a0Jan")
    assert said(ago(NOW - age, NOW)) == expected


def test_the_day_is_the_one_in_utc() -> None:
    late = datetime(2026, 2, 28, 23, 30, tzinfo=timezone(timedelta(hours=-5)))
    assert said(day(late, NOW)) == "1\u00a0Mar"


def test_the_year_is_said_only_where_it_is_another_one() -> None:
    assert said(day(datetime(2025, 3, 4, tzinfo=UTC), NOW)) == "2025-03-04"
    assert said(day(datetime(2027, 3, 4, tzinfo=UTC), NOW)) == "2027-03-04"


@pytest.mark.parametrize("month", range(1, 13))
def test_every_month_has_a_name(month: int) -> None:
    name = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"][month - 1]
    assert said(day(datetime(2026, month, 9, tzinfo=UTC), NOW)) == f"9\u00a0{name}"
