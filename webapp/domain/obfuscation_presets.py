"""Fresh parameter sets for a server: random where both ends must agree, by preset where each decides alone.

The bounds of what must match are those of AmneziaVPN's own installer (awgInstaller, protocolConstants.h), and so
is the junk of "balanced": the apps have met such sets before. Only S3 and S4 are never 0 here, and the widths of
the header ranges are our own.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass

from webapp.domain.keys import KEY_BYTES
from webapp.domain.obfuscation import Obfuscation
from webapp.domain.obfuscation_rules import DECOYS, HEADERS, MESSAGE_BYTES

RandBelow = Callable[[int], int]
"""``secrets.randbelow`` or one like it: a whole number from 0 up to, but not including, its argument."""

Bounds = tuple[int, int]
"""The lowest and the highest, both included."""

PADDINGS: dict[str, dict[str, Bounds]] = {
    "plain": {},
    "1.0": {"S1": (15, 149), "S2": (15, 149)},
    "1.5": {"S1": (15, 149), "S2": (15, 149)},
    "2.0": {"S4": (4, 19), "S3": (8, 63), "S2": (15, 149), "S1": (15, 149)},
    "3.1": {"S4": (12, 12), "S3": (12, 63), "S2": (12, 149), "S1": (12, 149)},
}
"""By generation, in the order of choosing: each avoids the totals of those before it."""

GENERATED = tuple(PADDINGS)
"""The generations that sets are made for."""

HEADER_BOUNDS = (5, 2**31 - 1)
"""1 to 4 are plain WireGuard's."""

HEADER_WIDTH = (2**16, 2**24)
"""How many values a range of headers has: too many to list, too few for junk to be taken for a message."""

TIMERS = {
    "ContentPaddingAddition": "10-100",
    "RekeyAfterTime": "100-120",
    "RekeyTimeout": "3-7",
    "RejectAfterTime": "150-180",
    "KeepaliveTimeout": "5-15",
    "MaxHandshakeAttempts": "15-20",
}

COMMON_NAMES = ("icloud.com", "www.apple.com", "www.microsoft.com", "time.android.com", "www.samsung.com")
"""Names that phones and computers everywhere ask for by themselves."""


def dns_query(randbelow: RandBelow) -> str:
    """Return a decoy that is a DNS question (RFC 1035, section 4.1) for a common name; its id is random."""
    name = COMMON_NAMES[randbelow(len(COMMON_NAMES))]
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    flags_and_counts = bytes.fromhex("0100 0001 0000 0000 0000")  # Recursion desired; one question, nothing else.
    return f"<r 2><b 0x{(flags_and_counts + labels).hex()}0000010001>"  # Root label, type A, class IN.


def stun_binding(_randbelow: RandBelow) -> str:
    """Return a decoy that is a STUN binding request (RFC 8489, section 5), as each video call begins with."""
    return "<b 0x000100002112a442><r 12>"


@dataclass(frozen=True)
class Preset:
    """What an end sends before its handshakes. The other end need not know."""

    junk_packets: Bounds
    junk_shortest: Bounds
    junk_spread: Bounds
    """Jmax is Jmin and this much."""

    decoys: tuple[Callable[[RandBelow], str], ...]
    """The makers of I1, I2 …; used from generation 1.5 on."""


PRESETS = {
    "balanced": Preset((4, 6), (10, 10), (40, 40), (dns_query,)),
    # Fewer and smaller packets wake a phone's radio for less.
    "mobile": Preset((3, 3), (30, 50), (20, 50), (dns_query,)),
    # More, larger and more varied packets, for networks that count the first ones.
    "strict": Preset((8, 12), (40, 89), (50, 250), (dns_query, stun_binding)),
}


def generate(generation: str, *, preset: str = "balanced", randbelow: RandBelow) -> Obfuscation:
    """Return a fresh valid set of this generation; ``plain`` gives the empty one.

    Presets differ only in what each end chooses alone (Jc, Jmin, Jmax, I1 …): one server serves all of them.
    Raises ValueError for a generation or a preset that there is none of.
    """
    if generation not in GENERATED or preset not in PRESETS:
        raise ValueError(f"no set is made for generation {generation!r} with preset {preset!r}")
    if generation == "plain":
        return Obfuscation()
    # What must match is drawn first: the same dice give every preset the same.
    texts = _paddings(PADDINGS[generation], randbelow)
    if generation == "3.1":
        texts |= _third_generation(randbelow)
    elif generation == "2.0":
        texts |= _header_ranges(randbelow)
    else:
        texts |= _single_headers(randbelow)
    texts |= _junk(PRESETS[preset], randbelow)
    if generation != "1.0":
        texts |= _decoys(PRESETS[preset], randbelow)
    return Obfuscation.parse(texts)


def _between(bounds: Bounds, randbelow: RandBelow) -> int:
    low, high = bounds
    return low + randbelow(high - low + 1)


def _junk(preset: Preset, randbelow: RandBelow) -> dict[str, str]:
    shortest = _between(preset.junk_shortest, randbelow)
    longest = shortest + _between(preset.junk_spread, randbelow)
    return {"Jc": str(_between(preset.junk_packets, randbelow)), "Jmin": str(shortest), "Jmax": str(longest)}


def _decoys(preset: Preset, randbelow: RandBelow) -> dict[str, str]:
    return {name: make(randbelow) for name, make in zip(DECOYS, preset.decoys, strict=False)}


def _paddings(bounds: dict[str, Bounds], randbelow: RandBelow) -> dict[str, str]:
    """Choose each size among those that make its message unlike the ones before: no draw is repeated."""
    totals = {message for name, message in MESSAGE_BYTES.items() if name not in bounds}
    texts = {}
    for name, (low, high) in bounds.items():
        fitting = [size for size in range(low, high + 1) if MESSAGE_BYTES[name] + size not in totals]
        size = fitting[randbelow(len(fitting))]
        totals.add(MESSAGE_BYTES[name] + size)
        texts[name] = str(size)
    return texts


def _header_quarters() -> list[Bounds]:
    """Return four neighbouring parts of all header values: one value from each ascends, none is shared."""
    low, high = HEADER_BOUNDS
    quarter = (high - low + 1) // len(HEADERS)
    return [(low + index * quarter, low + (index + 1) * quarter - 1) for index in range(len(HEADERS))]


def _header_ranges(randbelow: RandBelow) -> dict[str, str]:
    texts = {}
    for name, (low, high) in zip(HEADERS, _header_quarters(), strict=True):
        width = _between(HEADER_WIDTH, randbelow)
        first = _between((low, high - width + 1), randbelow)
        texts[name] = f"{first}-{first + width - 1}"
    return texts


def _single_headers(randbelow: RandBelow) -> dict[str, str]:
    return {name: str(_between(quarter, randbelow)) for name, quarter in zip(HEADERS, _header_quarters(), strict=True)}


def _third_generation(randbelow: RandBelow) -> dict[str, str]:
    """Headers keep WireGuard's numbers: the key hides them, and ranges with random trailers lose packets."""
    key = bytes(randbelow(256) for _ in range(KEY_BYTES))
    headers = {name: str(number) for number, name in enumerate(HEADERS, start=1)}
    switches = {"RandomTrailers": "on", "DisableCookies": "on"}
    return headers | {"HeaderProtectionKey": base64.b64encode(key).decode()} | TIMERS | switches
