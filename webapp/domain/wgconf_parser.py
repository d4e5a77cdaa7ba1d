"""Reading configuration files of WireGuard and AmneziaWG: an allow-list of keys goes in, types come out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import TypeVar

from webapp.domain.endpoint import Endpoint, is_hostname
from webapp.domain.keys import PresharedKey, PrivateKey, PublicKey
from webapp.domain.obfuscation import PARAMETERS, Obfuscation
from webapp.errors import N_, AppError, InvalidFields

T = TypeVar("T")

LARGEST_FILE = 2**20
"""1 MiB: room for some 4,000 peers."""


class ConfigInvalid(AppError):
    """A file cannot be taken; nothing of it was. ``line`` counts from 1; 0 means the whole file.

    Neither the sentence nor its values quote a value of the file, as that may be a key.
    """

    def __init__(self, line: int, sentence: str, /, **values: object) -> None:
        self.line = line
        super().__init__(sentence, line=line, **values)


@dataclass(frozen=True)
class InterfaceSection:
    """What the one [Interface] section says; None or empty where it says nothing."""

    private_key: PrivateKey | None = None
    listen_port: int | None = None
    fwmark: int | None = None
    addresses: tuple[IPv4Interface | IPv6Interface, ...] = ()
    dns: tuple[IPv4Address | IPv6Address | str, ...] = ()
    """Servers, and search domains as text."""
    mtu: int | None = None
    obfuscation: Obfuscation = field(default_factory=Obfuscation)


@dataclass(frozen=True)
class PeerSection:
    """What one [Peer] section says."""

    public_key: PublicKey
    preshared_key: PresharedKey | None = None
    endpoint: Endpoint | None = None
    allowed_ips: tuple[IPv4Network | IPv6Network, ...] = ()
    persistent_keepalive: int = 0
    """Seconds, 0 for none; of a range, as AmneziaWG 3.0 has them, the lower end."""
    comments: tuple[str, ...] = ()
    """The texts of the comments inside, and of those directly above, without their ``#``."""
    line: int = field(default=0, compare=False)
    """Where the section begins in the file."""


@dataclass(frozen=True)
class WgConfig:
    """A whole file. ``dropped`` names the lines left out on purpose: number and key, never the value."""

    interface: InterfaceSection | None
    peers: tuple[PeerSection, ...]
    dropped: tuple[tuple[int, str], ...] = ()


def parse_config(text: str) -> WgConfig:
    """Return what a file says. Hooks and other orders to ``wg-quick`` are dropped and reported.

    Raises ConfigInvalid, with the number of the line, for anything that is not known to be harmless: control
    characters, unknown sections and keys, a second [Interface], a repeated peer, values of the wrong type,
    obfuscation parameters that contradict each other.
    """
    sections, dropped = _read_sections(text)
    interface = next((section for section in sections if not section.is_peer), None)
    peers = tuple(_build_peer(section) for section in sections if section.is_peer)
    seen: set[PublicKey] = set()
    for peer in peers:
        if peer.public_key in seen:
            raise ConfigInvalid(peer.line, N_("Line %(line)s: this peer stands in the file twice."))
        seen.add(peer.public_key)
    return WgConfig(_build_interface(interface) if interface else None, peers, tuple(dropped))


# Dropped are what wg-quick would execute or write, and AdvancedSecurity, a word of the kernel module.
_PARAMETERS = frozenset(parameter.name for parameter in PARAMETERS)
_LISTS = frozenset({"Address", "DNS", "AllowedIPs"})
_DROPPED = frozenset({"PreUp", "PostUp", "PreDown", "PostDown", "SaveConfig", "Table", "AdvancedSecurity"})


def _fold(*names: str) -> dict[str, str]:
    return {name.lower(): name for name in names}


_INTERFACE_KEYS = _fold(
    *("PrivateKey", "ListenPort", "FwMark", "Address", "DNS", "MTU"),
    *("PreUp", "PostUp", "PreDown", "PostDown", "SaveConfig", "Table"),
    *_PARAMETERS,
)
_PEER_KEYS = _fold("PublicKey", "PresharedKey", "Endpoint", "AllowedIPs", "PersistentKeepalive", "AdvancedSecurity")
_HEADINGS = {"[interface]": False, "[peer]": True}

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
"""C0 without tab and line feed, DEL, C1 with U+0085, and the separators that some programs end a line at."""


@dataclass
class _Section:
    """A section as it stands: for each key its lines and their numbers."""

    is_peer: bool
    line: int
    comments: list[str]
    entries: dict[str, list[tuple[int, str]]] = field(default_factory=dict)

    def add(self, line: int, key: str, value: str) -> None:
        if key in self.entries and key not in _LISTS:
            raise ConfigInvalid(line, N_("Line %(line)s: %(key)s is set twice."), key=key)
        if not value and key not in _PARAMETERS:  # AmneziaVPN exports empty ones, such as "I2 =".
            raise ConfigInvalid(line, N_("Line %(line)s: %(key)s has no value."), key=key)
        self.entries.setdefault(key, []).append((line, value))

    def read(self, key: str, convert: Callable[[str], T]) -> T | None:
        """Return the converted value of this key, or None without one."""
        values = self.read_lines(key, convert)
        return values[0] if values else None

    def read_list(self, key: str, convert: Callable[[str], T]) -> tuple[T, ...]:
        """Return all values of this key: divided by commas, and from all of its lines."""
        lines = self.read_lines(key, lambda text: [convert(part.strip()) for part in text.split(",")])
        return tuple(value for values in lines for value in values)

    def read_lines(self, key: str, convert: Callable[[str], T]) -> list[T]:
        converted = []
        for line, text in self.entries.get(key, ()):
            try:
                converted.append(convert(text))
            except ValueError:
                raise ConfigInvalid(line, N_("Line %(line)s: the value of %(key)s cannot be used."), key=key) from None
        return converted


def _read_sections(text: str) -> tuple[list[_Section], list[tuple[int, str]]]:
    """Divide a file into its sections; the second list is what was dropped."""
    sections: list[_Section] = []
    dropped: list[tuple[int, str]] = []
    # Comments not given to a section yet: those right above a heading belong to what the heading begins.
    waiting: list[str] = []
    for number, line in _numbered_lines(text):
        content, mark, comment = (part.strip() for part in line.partition("#"))
        heading = content.replace(" ", "").lower()
        if heading in _HEADINGS:
            is_peer = _HEADINGS[heading]
            if not is_peer and any(not section.is_peer for section in sections):
                raise ConfigInvalid(number, N_("Line %(line)s: there is a second [Interface] section."))
            sections.append(_Section(is_peer, number, waiting))
            waiting = []
        elif content or not mark:
            if sections:
                sections[-1].comments.extend(waiting)
            waiting = []
            if content:
                _read_line(number, content, sections, dropped)
        if comment.strip("# "):
            waiting.append(comment.strip("# "))
    if sections:
        sections[-1].comments.extend(waiting)
    return sections, dropped


def _numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    if len(text.encode(errors="replace")) > LARGEST_FILE:
        raise ConfigInvalid(0, N_("The file is larger than 1 MiB."))
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    if found := _CONTROL.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise ConfigInvalid(line, N_("Line %(line)s: there is a control character."))
    return enumerate(text.split("\n"), start=1)


def _read_line(number: int, content: str, sections: list[_Section], dropped: list[tuple[int, str]]) -> None:
    typed, mark, value = (part.strip() for part in content.partition("="))
    if not mark:
        raise ConfigInvalid(number, N_("Line %(line)s is neither a section nor a setting."))
    if not sections:
        raise ConfigInvalid(number, N_("Line %(line)s stands before the first section."))
    keys = _PEER_KEYS if sections[-1].is_peer else _INTERFACE_KEYS
    key = keys.get(typed.lower())
    if key is None:
        raise ConfigInvalid(number, N_("Line %(line)s: this setting is not known here."))
    if key in _DROPPED:
        dropped.append((number, key))
    else:
        sections[-1].add(number, key, value)


def _build_interface(section: _Section) -> InterfaceSection:
    return InterfaceSection(
        private_key=section.read("PrivateKey", PrivateKey.from_base64),
        listen_port=section.read("ListenPort", partial(_number, highest=65535)),
        fwmark=section.read("FwMark", _fwmark),
        addresses=section.read_list("Address", _address),
        dns=section.read_list("DNS", _name_server),
        mtu=section.read("MTU", partial(_number, lowest=576, highest=65535)),
        obfuscation=_build_obfuscation(section),
    )


def _build_obfuscation(section: _Section) -> Obfuscation:
    given = {key: lines[0] for key, lines in section.entries.items() if key in _PARAMETERS}
    try:
        return Obfuscation.parse({key: value for key, (_, value) in given.items()})
    except InvalidFields as error:
        problem = error.problems[0]
        # A parameter that is missing has no line: the heading's stands for it.
        line, _ = given.get(problem.field, (section.line, ""))
        raise ConfigInvalid(line, N_("Line %(line)s: %(problem)s"), problem=problem) from None


def _build_peer(section: _Section) -> PeerSection:
    public_key = section.read("PublicKey", PublicKey.from_base64)
    if public_key is None:
        raise ConfigInvalid(section.line, N_("Line %(line)s: this [Peer] has no PublicKey."))
    return PeerSection(
        public_key=public_key,
        preshared_key=section.read("PresharedKey", PresharedKey.from_base64),
        endpoint=section.read("Endpoint", Endpoint.parse),
        allowed_ips=section.read_list("AllowedIPs", _network),
        persistent_keepalive=section.read("PersistentKeepalive", _keepalive) or 0,
        comments=tuple(section.comments),
        line=section.line,
    )


def _number(text: str, *, lowest: int = 0, highest: int) -> int:
    if not re.fullmatch("[0-9]{1,10}", text) or not lowest <= int(text) <= highest:
        raise ValueError("not a number in its bounds")
    return int(text)


def _fwmark(text: str) -> int:
    if text.lower() == "off":
        return 0
    if re.fullmatch("0x[0-9a-fA-F]{1,8}", text):
        return int(text, 16)
    return _number(text, highest=2**32 - 1)


def _keepalive(text: str) -> int:
    if text.lower() == "off":
        return 0
    ends = [_number(end, highest=65535) for end in text.split("-", 1)]
    if ends != sorted(ends):
        raise ValueError("the smaller end comes first")
    return ends[0]


def _only_address(text: str) -> str:
    """Refuse what ``ipaddress`` takes and ``wg`` does not: dotted netmasks, and zones of any text."""
    if not re.fullmatch("[0-9a-fA-F:.]+(/[0-9]{1,3})?", text):
        raise ValueError("not an address")
    return text


def _address(text: str) -> IPv4Interface | IPv6Interface:
    return ip_interface(_only_address(text))


def _network(text: str) -> IPv4Network | IPv6Network:
    return ip_network(_only_address(text), strict=False)


def _name_server(text: str) -> IPv4Address | IPv6Address | str:
    return text if is_hostname(text.lower()) else ip_address(_only_address(text))
