"""Where a server is reached from outside: a host and a port, in the spelling of WireGuard's files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Self

from webapp.errors import N_

LONGEST_NAME = 253
"""RFC 1035, section 2.3.4, without the final dot."""

_ENDPOINT = re.compile(r"(?:\[(?P<ipv6>[0-9a-fA-F.]*:[0-9a-fA-F:.]*)\]|(?P<host>[^:\[\]]+)):(?P<port>[0-9]{1,5})")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def is_hostname(text: str) -> bool:
    """Return whether this is a host name of lower-case letters, digits and hyphens (RFC 1123, section 2.1).

    A name whose last label is a number is none: resolvers read it as an address.
    """
    labels = text.split(".")
    return len(text) <= LONGEST_NAME and not labels[-1].isdigit() and all(map(_LABEL.fullmatch, labels))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host and a UDP port. A host name is lower case and ASCII; ``parse`` brings others into that form."""

    host: str | IPv4Address | IPv6Address
    port: int

    def __post_init__(self) -> None:
        if isinstance(self.host, str):
            if not is_hostname(self.host):
                raise ValueError(N_("The host must be a name such as vpn.example.net, or an IP address."))
        elif self.host.is_unspecified or self.host.is_multicast or "%" in str(self.host):
            raise ValueError(N_("This address cannot be reached from outside."))
        if not 1 <= self.port <= 65535:
            raise ValueError(N_("The port must be a number from 1 to 65535."))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the endpoint that ``host:port``, ``192.0.2.1:port`` or ``[2001:db8::1]:port`` names.

        A name in another script is turned into its ASCII form (IDNA, RFC 3490).
        Raises ValueError with a sentence for the person.
        """
        found = _ENDPOINT.fullmatch(text)
        if found is None:
            raise ValueError(N_("An endpoint is host:port, or [address]:port for IPv6."))
        return cls(_parse_host(found["host"] or found["ipv6"]), int(found["port"]))

    def __str__(self) -> str:
        """Return the spelling of a file, which ``parse`` reads back."""
        return f"[{self.host}]:{self.port}" if isinstance(self.host, IPv6Address) else f"{self.host}:{self.port}"


def _parse_host(text: str) -> str | IPv4Address | IPv6Address:
    """Return an address, or else a name in ASCII, which may still be none that can exist."""
    try:
        return ip_address(text)
    except ValueError:
        pass
    if text.isascii():
        return text.lower()
    try:
        name = text.encode("idna").decode()
    except UnicodeError:
        return text
    # This codec writes a few letters as others (ß as ss): such a name would lead to somebody else's host.
    return name if name.encode().decode("idna") == text.lower() else text
