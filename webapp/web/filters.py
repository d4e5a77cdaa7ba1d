"""How sizes and moments are put into words on a page. Pure; the words are translated where they are shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from webapp.errors import N_

NBSP = "\u00a0"

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")

_DAYS = (
    N_("%(day)s\u00a0Jan"),
    N_("%(day)s\u00a0Feb"),
    N_("%(day)s\u00a0Mar"),
    N_("%(day)s\u00a0Apr"),
    N_("%(day)s\u00a0May"),
    N_("%(day)s\u00a0Jun"),
    N_("%(day)s\u00a0Jul"),
    N_("%(day)s\u00a0Aug"),
    N_("%(day)s\u00a0Sep"),
    N_("%(day)s\u00a0Oct"),
    N_("%(day)s\u00a0Nov"),
    N_("%(day)s\u00a0Dec"),
)


@dataclass(frozen=True)
class Phrase:
    """A message id and what fills its places; a template says ``_(phrase.message, **phrase.values)``."""

    message: str
    values: dict[str, object] = field(default_factory=dict)


def file_size(size: int) -> str:
    """Return a number of bytes for people: decimal units, at most three digits, a no-break space inside.

    One digit after the point below ten (``1.3 GB``), none from there on (``412 MB``).
    """
    amount, unit = float(max(0, size)), 0
    while unit < len(_UNITS) - 1 and (amount >= 1000 or (unit and round(amount) >= 1000)):
        amount, unit = amount / 1000, unit + 1
    number = f"{amount:.1f}" if unit and round(amount, 1) < 10 else f"{amount:.0f}"
    return f"{number}{NBSP}{_UNITS[unit]}"


def ago(moment: datetime, now: datetime) -> Phrase:
    """Return how long ago an aware moment was. The future (a clock that is off) counts as now."""
    age_s = max(0, int((now - moment).total_seconds()))
    if age_s < 60:
        return Phrase(N_("%(number)s\u00a0s ago"), {"number": age_s})
    if age_s < 3600:
        return Phrase(N_("%(number)s\u00a0min ago"), {"number": age_s // 60})
    if age_s < 86_400:
        return Phrase(N_("%(number)s\u00a0h ago"), {"number": age_s // 3600})
    if age_s < 2 * 86_400:
        return Phrase(N_("yesterday"))
    return day(moment, now)


def day(moment: datetime, now: datetime) -> Phrase:
    """Return the UTC day of an aware moment: day and month, or the ISO date where the year is another one."""
    date = moment.astimezone(UTC).date()
    if date.year != now.astimezone(UTC).year:
        return Phrase("%(date)s", {"date": date.isoformat()})
    return Phrase(_DAYS[date.month - 1], {"day": date.day})


FILTERS: dict[str, Callable[..., Any]] = {"file_size": file_size, "ago": ago, "day": day}
"""What ``create_app`` adds to the Jinja environment."""
