"""How the text of one AmneziaWG value is checked and spelled; what fits together is for the rules."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from webapp.domain.keys import Key
from webapp.errors import N_


class Kind(StrEnum):
    """The six ways in which a value is written."""

    NUMBER = "number"
    HEADER = "header"
    RANGE = "range"
    PACKET = "packet"
    KEY = "key"
    SWITCH = "switch"


LARGEST_RANDOM_PART = 1000
"""The N of ``<r N>``: amneziawg-go up to 0.2.15 refuses more, and every version dies of a negative one."""

_SPAN = re.compile(r"(?P<low>[0-9]{1,20})(?: ?- ?(?P<high>[0-9]{1,20}))?")
_TAG = re.compile(r"<b 0x(?P<bytes>(?:[0-9a-fA-F]{2})+)>|<(?P<random>r|rc|rd) (?P<count>[0-9]{1,20})>|<(?P<time>t)>")
_SWITCH = {"on": "on", "1": "on", "true": "on", "off": "off", "0": "off", "false": "off"}


def span(text: str) -> tuple[int, int]:
    """Return both ends of ``100-200`` or ``100``. Raises ValueError for any other text."""
    found = _SPAN.fullmatch(text)
    if found is None:
        raise ValueError("neither N nor LOW-HIGH")
    low = int(found["low"])
    return low, low if found["high"] is None else int(found["high"])


def packet_size(text: str) -> int:
    """Return how many bytes a tag string that was checked before makes; 0 for the empty one."""
    return sum(_tag_size(tag) for tag in _TAG.finditer(text))


def _tag_size(tag: re.Match[str]) -> int:
    if tag["bytes"]:
        return len(tag["bytes"]) // 2
    return int(tag["count"]) if tag["random"] else 4  # <t> is a 4-byte Unix time.


def _canonical_number(text: str, low: int, high: int) -> str | None:
    if not re.fullmatch("[0-9]{1,20}", text):
        return None
    return str(int(text)) if low <= int(text) <= high else None


def _canonical_span(text: str, low: int, high: int) -> str | None:
    try:
        first, last = span(text)
    except ValueError:
        return None
    if not low <= first <= last <= high:
        return None
    return str(first) if first == last else f"{first}-{last}"


def _canonical_packet(text: str, low: int, high: int) -> str | None:
    parts, end = [], 0
    for tag in _TAG.finditer(text):
        if tag.start() != end:
            return None
        end = tag.end()
        if tag["bytes"]:
            parts.append(f"<b 0x{tag['bytes'].lower()}>")
        elif tag["time"]:
            parts.append("<t>")
        elif 1 <= int(tag["count"]) <= LARGEST_RANDOM_PART:
            parts.append(f"<{tag['random']} {int(tag['count'])}>")
        else:
            return None
    return "".join(parts) if parts and end == len(text) else None


def _canonical_key(text: str, low: int, high: int) -> str | None:
    try:
        return Key.from_base64(text).to_base64()
    except ValueError:
        return None


def _canonical_switch(text: str, low: int, high: int) -> str | None:
    return _SWITCH.get(text.lower())


@dataclass(frozen=True)
class Spelling:
    """How values of one kind are checked, and the sentence for a person whose value is not one of them."""

    canonical: Callable[[str, int, int], str | None]
    """Text, lowest and highest number in; the one spelling of the value out, or None if it is none."""

    sentence: str


SPELLINGS = {
    Kind.NUMBER: Spelling(_canonical_number, N_("%(name)s must be a whole number from %(lowest)s to %(highest)s.")),
    Kind.HEADER: Spelling(
        _canonical_span,
        N_("%(name)s must be a number or a range such as 100-200, smaller end first, from %(lowest)s to %(highest)s."),
    ),
    Kind.RANGE: Spelling(
        _canonical_span,
        N_("%(name)s must be a number or a range such as 100-120, smaller end first, from %(lowest)s to %(highest)s."),
    ),
    Kind.PACKET: Spelling(
        _canonical_packet,
        N_(
            "%(name)s must be made of <b 0x…> (pairs of hexadecimal digits), <r N>, <rc N>, <rd N> "
            "(N from 1 to 1000) and <t>, with nothing between them."
        ),
    ),
    Kind.KEY: Spelling(_canonical_key, N_("%(name)s must be a key: 44 characters of base64.")),
    Kind.SWITCH: Spelling(_canonical_switch, N_("%(name)s must be on or off.")),
}
