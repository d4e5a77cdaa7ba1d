"""What AmneziaWG parameters may not be together: one rule is one function. Single values are checked before.

A rule reads a mapping with all names of the table, in canonical text, with the default where nothing is set.
A daemon checks little of this and answers ``Invalid argument`` without a reason; some of it kills the daemon.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations

from webapp.domain.obfuscation_values import packet_size, span
from webapp.errors import N_, FieldProblem

Values = Mapping[str, str]

JUNK = ("Jc", "Jmin", "Jmax")
HEADERS = ("H1", "H2", "H3", "H4")
DECOYS = ("I1", "I2", "I3", "I4", "I5")

MESSAGE_BYTES = {"S1": 148, "S2": 92, "S3": 64, "S4": 32}
"""WireGuard's initiation, response, cookie reply and empty transport message, each by its padding.

Whitepaper, section 5.4.
"""

LARGEST_DATAGRAM = 1500 - 48
"""What one Ethernet frame carries after an IPv6 header (40) and a UDP header (8)."""

LARGEST_MTU = LARGEST_DATAGRAM - MESSAGE_BYTES["S4"]
"""1420: the largest inner packet that is not split on its way, whatever the IP version outside."""

SMALLEST_MTU = 1280
"""The least that IPv6 needs (RFC 8200, section 5)."""

SHORTEST_PROTECTED_PADDING = 12
"""Header protection takes its nonce from the padding (amneziawg-go, README, "HeaderProtectionKey")."""


def problems(values: Values) -> tuple[FieldProblem, ...]:
    """Return everything that does not fit together, in the order of the rules; empty when all is well."""
    return tuple(problem for rule in RULES for problem in rule(values))


def mtu_problems(values: Values, mtu: int) -> Iterator[FieldProblem]:
    """The MTU of the tunnel must leave room for the padding of every packet."""
    highest = LARGEST_MTU - int(values["S4"])
    if not SMALLEST_MTU <= mtu <= highest:
        yield FieldProblem(
            "mtu",
            N_("The MTU is %(mtu)s: with S4 = %(s4)s it must be from %(lowest)s to %(highest)s."),
            {"mtu": mtu, "s4": int(values["S4"]), "lowest": SMALLEST_MTU, "highest": highest},
        )


def _junk_is_whole(values: Values) -> Iterator[FieldProblem]:
    """A daemon reads an absent one as 0, and 0.2.16 to 0.2.19 refuse a 0."""
    absent = [name for name in JUNK if values[name] == "0"]
    if len(absent) < len(JUNK):
        for name in absent:
            yield FieldProblem(
                name,
                N_("%(name)s is missing: set Jc, Jmin and Jmax together, or none of them."),
                {"name": name},
            )


def _junk_ascends(values: Values) -> Iterator[FieldProblem]:
    """With Jmin > Jmax the daemon's subtraction wraps round: it asks for 4 GiB and dies."""
    low, high = int(values["Jmin"]), int(values["Jmax"])
    if high and low > high:  # Jmax = 0 is a missing one, and another rule's.
        yield FieldProblem(
            "Jmin",
            N_("Jmin is %(low)s and Jmax is %(high)s: Jmin must not be larger."),
            {"low": low, "high": high},
        )


def _junk_fits_one_datagram(values: Values) -> Iterator[FieldProblem]:
    if int(values["Jmax"]) > LARGEST_DATAGRAM:
        yield FieldProblem(
            "Jmax",
            N_("Jmax is %(size)s: a packet of more than %(largest)s bytes is split on its way."),
            {"size": int(values["Jmax"]), "largest": LARGEST_DATAGRAM},
        )


def _padding_fits_one_datagram(values: Values) -> Iterator[FieldProblem]:
    for name, message in MESSAGE_BYTES.items():
        # S4 stands before every packet, so room for the smallest MTU is taken away first.
        highest = LARGEST_MTU - SMALLEST_MTU if name == "S4" else LARGEST_DATAGRAM - message
        if int(values[name]) > highest:
            yield FieldProblem(
                name,
                N_("%(name)s is %(size)s: more than %(highest)s makes packets that are split on their way."),
                {"name": name, "size": int(values[name]), "highest": highest},
            )


def _padded_messages_differ(values: Values) -> Iterator[FieldProblem]:
    """Current daemons tell types by size and header; those up to 0.2.12 refuse S1 + 56 = S2."""
    for first, second in combinations(MESSAGE_BYTES, 2):
        total = MESSAGE_BYTES[first] + int(values[first])
        if total == MESSAGE_BYTES[second] + int(values[second]):
            yield FieldProblem(
                second,
                N_(
                    "%(first)s = %(first_size)s and %(second)s = %(second_size)s make two kinds of packet "
                    "equally long (%(total)s bytes): change one of them."
                ),
                {
                    "first": first,
                    "first_size": int(values[first]),
                    "second": second,
                    "second_size": int(values[second]),
                    "total": total,
                },
            )


def _headers_are_disjoint(values: Values) -> Iterator[FieldProblem]:
    for first, second in combinations(HEADERS, 2):
        (low, high), (other_low, other_high) = span(values[first]), span(values[second])
        if low <= other_high and other_low <= high:
            yield FieldProblem(
                second,
                N_("%(first)s (%(first_range)s) and %(second)s (%(second_range)s) must not overlap."),
                {
                    "first": first,
                    "first_range": values[first],
                    "second": second,
                    "second_range": values[second],
                },
            )


def _decoys_have_no_gap(values: Values) -> Iterator[FieldProblem]:
    """amneziawg-go up to 0.2.15: "junk packet index should be consecutive"."""
    last = max((index for index, name in enumerate(DECOYS) if values[name]), default=0)
    for name in DECOYS[:last]:
        if not values[name]:
            yield FieldProblem(
                name,
                N_("%(name)s is missing: %(last)s is set, and the packets must follow each other from I1."),
                {"name": name, "last": DECOYS[last]},
            )


def _decoys_fit_one_datagram(values: Values) -> Iterator[FieldProblem]:
    for name in DECOYS:
        if (size := packet_size(values[name])) > LARGEST_DATAGRAM:
            yield FieldProblem(
                name,
                N_("%(name)s makes %(size)s bytes: more than %(largest)s are split on their way."),
                {"name": name, "size": size, "largest": LARGEST_DATAGRAM},
            )


def _protected_headers_have_padding(values: Values) -> Iterator[FieldProblem]:
    for name in MESSAGE_BYTES:
        if values["HeaderProtectionKey"] and int(values[name]) < SHORTEST_PROTECTED_PADDING:
            yield FieldProblem(
                name,
                N_("%(name)s is %(size)s: with HeaderProtectionKey it must be at least %(shortest)s."),
                {"name": name, "size": int(values[name]), "shortest": SHORTEST_PROTECTED_PADDING},
            )


def _trailers_need_single_headers(values: Values) -> Iterator[FieldProblem]:
    """Measured: wide ranges lose 31 % of the data, as a data packet passes for a handshake message."""
    ranges = [f"{name} = {values[name]}" for name in HEADERS[:3] if "-" in values[name]]
    if values["RandomTrailers"] == "on" and ranges:
        yield FieldProblem(
            "RandomTrailers",
            N_("RandomTrailers loses packets with a range in H1, H2 or H3 (%(ranges)s): use single numbers."),
            {"ranges": ", ".join(ranges)},
        )


RULES: tuple[Callable[[Values], Iterator[FieldProblem]], ...] = (
    _junk_is_whole,
    _junk_ascends,
    _junk_fits_one_datagram,
    _padding_fits_one_datagram,
    _padded_messages_differ,
    _headers_are_disjoint,
    _decoys_have_no_gap,
    _decoys_fit_one_datagram,
    _protected_headers_have_padding,
    _trailers_need_single_headers,
)
