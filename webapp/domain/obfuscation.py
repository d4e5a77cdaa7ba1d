"""The one table of AmneziaWG parameters, and the set of them that a server uses.

Plain WireGuard is the empty set. A new parameter is a new row: forms, files, storage and the environment
read the table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

from webapp.domain import obfuscation_rules as rules
from webapp.domain.obfuscation_values import SPELLINGS, Kind, span
from webapp.errors import N_, FieldProblem, InvalidFields

GENERATIONS = ("plain", "1.0", "1.5", "2.0", "3.0", "3.1")
"""Oldest first. Nothing on the wire tells them apart: a generation is only which parameters are set."""

ENVIRONMENT_PREFIX = "AWG_"


@dataclass(frozen=True)
class Parameter:
    """One row of the table: what a parameter is called, what it may be, and who must agree on it."""

    name: str
    """As it stands in a file; AmneziaVPN reads it case-sensitively."""

    generation: str
    """The first that knows it."""

    kind: Kind
    default: str
    """What a daemon does when it is absent, in canonical text; empty where that is nothing."""

    must_match: bool
    """True: both ends must have the same value, or the tunnel fails silently. False: each end chooses."""

    help: str
    """A sentence for the person who sets it; a message id."""

    lowest: int = 0
    highest: int = 65535
    """Both for numbers, headers and ranges only. amneziawg-tools (config.c) takes 16 bits."""

    @property
    def uapi(self) -> str:
        """The key in the daemon's protocol: ``HeaderProtectionKey`` is ``header_protection_key``."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", self.name).lower()

    @property
    def environment(self) -> str:
        """The variable: ``HeaderProtectionKey`` is ``AWG_HEADER_PROTECTION_KEY``."""
        return ENVIRONMENT_PREFIX + self.uapi.upper()

    def canonical(self, text: str) -> str:
        """Return the one spelling of this value. Raises InvalidFields at this parameter's name."""
        spelling = SPELLINGS[self.kind]
        value = spelling.canonical(text, self.lowest, self.highest)
        if value is None:
            values: dict[str, object] = {"name": self.name, "lowest": self.lowest, "highest": self.highest}
            raise InvalidFields([FieldProblem(self.name, spelling.sentence, values)])
        return value

    def generation_of(self, value: str) -> str:
        """Return the first generation that knows this value: a range of headers came after the number."""
        return "2.0" if self.kind is Kind.HEADER and "-" in value else self.generation


LARGEST_HEADER = 2**31 - 1
"""The daemons take 32 bits; AmneziaWG for Windows marks more than 31 as wrong."""

# Sources: README, device/uapi.go and, for the timers' defaults, device/constants.go of amneziawg-go 3.1;
# src/config.c of amneziawg-tools 3.1. Daemons 0.2.16 to 0.2.19 refuse a Jc, Jmin or Jmax of 0, 0.2.12 takes
# headers from 0 to 4 for "not set"; the README of the kernel module ends Jc at 128.
# fmt: off  (one row is one line)
PARAMETERS: tuple[Parameter, ...] = (
    Parameter("Jc", "1.0", Kind.NUMBER, "0", False, N_("How many junk packets go before each handshake."), 1, 128),
    Parameter("Jmin", "1.0", Kind.NUMBER, "0", False, N_("The smallest junk packet, in bytes."), 1),
    Parameter("Jmax", "1.0", Kind.NUMBER, "0", False, N_("The largest junk packet, in bytes."), 1),
    Parameter("S1", "1.0", Kind.NUMBER, "0", True, N_("Random bytes before the first handshake message.")),
    Parameter("S2", "1.0", Kind.NUMBER, "0", True, N_("Random bytes before the answer to a handshake.")),
    Parameter("S3", "2.0", Kind.NUMBER, "0", True, N_("Random bytes before the reply of a busy server.")),
    Parameter("S4", "2.0", Kind.NUMBER, "0", True, N_("Random bytes before every data packet; they cost MTU.")),
    Parameter("H1", "1.0", Kind.HEADER, "1", True, N_("The type of the first handshake message."), 1, LARGEST_HEADER),
    Parameter("H2", "1.0", Kind.HEADER, "2", True, N_("The type of the answer to a handshake."), 1, LARGEST_HEADER),
    Parameter("H3", "1.0", Kind.HEADER, "3", True, N_("The type of the reply of a busy server."), 1, LARGEST_HEADER),
    Parameter("H4", "1.0", Kind.HEADER, "4", True, N_("The type of a data packet."), 1, LARGEST_HEADER),
    Parameter("I1", "1.5", Kind.PACKET, "", False, N_("A decoy packet, sent before each handshake.")),
    Parameter("I2", "1.5", Kind.PACKET, "", False, N_("A second decoy packet, sent after I1.")),
    Parameter("I3", "1.5", Kind.PACKET, "", False, N_("A third decoy packet, sent after I2.")),
    Parameter("I4", "1.5", Kind.PACKET, "", False, N_("A fourth decoy packet, sent after I3.")),
    Parameter("I5", "1.5", Kind.PACKET, "", False, N_("A fifth decoy packet, sent after I4.")),
    Parameter("HeaderProtectionKey", "3.0", Kind.KEY, "", True, N_("A secret key that hides all headers.")),
    Parameter("ContentPaddingAddition", "3.0", Kind.RANGE, "0", False, N_("Extra bytes inside each packet.")),
    Parameter("RekeyAfterTime", "3.0", Kind.RANGE, "120", False, N_("Seconds until keys are renewed."), 1),
    Parameter("RekeyTimeout", "3.0", Kind.RANGE, "5", False, N_("Seconds between handshake attempts."), 1),
    Parameter("RejectAfterTime", "3.0", Kind.RANGE, "180", False, N_("Seconds until old keys are refused."), 1),
    Parameter("KeepaliveTimeout", "3.0", Kind.RANGE, "10", False, N_("Seconds of silence before a keepalive."), 1),
    Parameter("MaxHandshakeAttempts", "3.0", Kind.RANGE, "18", False, N_("Attempts before giving up."), 1),
    Parameter("RandomTrailers", "3.1", Kind.SWITCH, "off", True, N_("Handshakes end with random bytes.")),
    Parameter("DisableCookies", "3.1", Kind.SWITCH, "off", False, N_("A busy server sends no cookie replies.")),
)
# fmt: on

_BY_NAME = {parameter.name: parameter for parameter in PARAMETERS}
_BY_FOLDED_NAME = {parameter.name.lower(): parameter for parameter in PARAMETERS}
_BY_VARIABLE = {parameter.environment: parameter for parameter in PARAMETERS}


def find_parameter(name: str) -> Parameter | None:
    """Return the row of this name, whatever its case, or None if there is no such parameter."""
    return _BY_FOLDED_NAME.get(name.lower())


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Obfuscation(Mapping[str, str]):
    """The parameters that are set: names as in a file, canonical texts, in the order of the table.

    ``Obfuscation()`` is the empty set, plain WireGuard. Every other one comes from ``parse`` or its kin and
    is valid: nothing in it contradicts the table or the rules across fields. It never changes.
    HeaderProtectionKey is a secret, so ``repr`` shows only names.
    """

    _texts: dict[str, str] = field(default_factory=dict, init=False)

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> Self:
        """Return the set that these texts describe.

        Names count whatever their case. An empty text means "not set", and so does a switch that is off.
        Raises InvalidFields with every problem at once, each at the parameter's name in a file, an unknown
        one at the name as given. Rules across fields are looked at once each value is good by itself.
        """
        texts: dict[str, str] = {}
        found: list[FieldProblem] = []
        for name, text in given.items():
            parameter, stripped = find_parameter(name), text.strip(" ")
            if parameter is None:
                found.append(FieldProblem(name, N_("This is not a parameter of AmneziaWG.")))
            elif stripped and parameter.name in texts:
                found.append(FieldProblem(parameter.name, N_("%(name)s is set twice."), {"name": parameter.name}))
            elif stripped:
                try:
                    texts[parameter.name] = parameter.canonical(stripped)
                except InvalidFields as error:
                    found.extend(error.problems)
        made = cls()
        made._texts.update((name, texts[name]) for name in _BY_NAME if texts.get(name, "off") != "off")
        if problems := tuple(found) or made.problems():
            raise InvalidFields(problems)
        return made

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self | None:
        """Return the set that the ``AWG_`` variables describe, or None if none of them has a value.

        ``AWG_RANDOM_TRAILERS=off`` alone is a value: it asks for plain WireGuard.
        Raises InvalidFields with every problem at once, each at the name of its variable.
        """
        given = {name: text for name, text in environ.items() if name.startswith(ENVIRONMENT_PREFIX)}
        found = [
            FieldProblem(name, N_("This is not a parameter of AmneziaWG."))
            for name in given
            if name not in _BY_VARIABLE
        ]
        known = {_BY_VARIABLE[name].name: text for name, text in given.items() if name in _BY_VARIABLE}
        made = None
        try:
            made = cls.parse(known) if any(text.strip(" ") for text in known.values()) else None
        except InvalidFields as error:
            found += [
                FieldProblem(_BY_NAME[problem.field].environment, problem.sentence, problem.values)
                for problem in error.problems
            ]
        if found:
            raise InvalidFields(found)
        return made

    @classmethod
    def from_dict(cls, stored: Mapping[str, str]) -> Self:
        """Return the set that ``to_dict`` gave. Raises InvalidFields as ``parse`` does."""
        return cls.parse(stored)

    def to_dict(self) -> dict[str, str]:
        """Return a new dictionary of what is set, for storage as JSON."""
        return dict(self._texts)

    def lines(self) -> list[str]:
        """Return the lines of a file's [Interface] section, such as ``Jc = 4``; only what is set."""
        return [f"{name} = {text}" for name, text in self._texts.items()]

    def value(self, name: str) -> str:
        """Return the text that is set, or what a daemon takes for this parameter when it is not."""
        return self._texts.get(name, _BY_NAME[name].default)

    def number(self, name: str) -> int:
        """Return the value of a number such as S1 or Jc, set or not."""
        return int(self.value(name))

    def span(self, name: str) -> tuple[int, int]:
        """Return both ends, inclusive, of a header or a range such as H1, set or not."""
        return span(self.value(name))

    @property
    def generation(self) -> str:
        """The oldest generation that knows everything in this set; ``plain`` for the empty one."""
        needed = (_BY_NAME[name].generation_of(text) for name, text in self._texts.items())
        return max(needed, key=GENERATIONS.index, default="plain")

    def same_on_the_wire(self, other: Obfuscation) -> bool:
        """Return whether two ends with these sets understand each other; unset counts as its default."""
        return all(
            self.value(parameter.name) == other.value(parameter.name)
            for parameter in PARAMETERS
            if parameter.must_match
        )

    def problems(self, *, mtu: int | None = None) -> tuple[FieldProblem, ...]:
        """Return everything that does not fit together; with ``mtu`` also an MTU without room for S4.

        A set that exists has no problem of its own; that of the MTU is at the field ``mtu``.
        """
        values = {parameter.name: self.value(parameter.name) for parameter in PARAMETERS}
        found = rules.problems(values)
        return found if mtu is None else (*found, *rules.mtu_problems(values, mtu))

    def __getitem__(self, name: str) -> str:
        return self._texts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)

    def __hash__(self) -> int:
        return hash(tuple(self._texts.items()))

    def __repr__(self) -> str:
        return f"<Obfuscation {self.generation}: {', '.join(self._texts) or 'nothing set'}>"


def default_mtu(obfuscation: Obfuscation) -> int:
    """Return the largest MTU with which no packet of this set is split on a path of 1500 bytes.

    An inner packet grows by 32 (WireGuard), S4, 8 (UDP) and 40 (IPv6; IPv4 takes 20 less, but a client may
    come over either): 1420 - S4, and 1420 is wg-quick's too. Never under 1280, which IPv6 inside needs.
    """
    return max(rules.SMALLEST_MTU, rules.LARGEST_MTU - obfuscation.number("S4"))
