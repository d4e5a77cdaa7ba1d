"""The pool of addresses: an index is an address, in IPv4 and, where configured, in IPv6. No state, no database."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

SERVER_INDEX = 1
"""The server holds the first host address; index 0 is the network itself."""
FIRST_INDEX = 2


@dataclass(frozen=True)
class Pool:
    """Addresses of one server: index ``n`` is ``network + n``, and ``network6 + n`` where there is IPv6.

    The network address, the server's and IPv4's broadcast are never given out.
    Raises ValueError when a network is too small to hold the server and one profile.
    """

    network: IPv4Network
    network6: IPv6Network | None = None

    def __post_init__(self) -> None:
        if self.network.prefixlen > 30:
            raise ValueError(f"{self.network} is too small: /30 holds the server and one device")
        if self.network6 is not None and self.network6.prefixlen > 126:
            raise ValueError(f"{self.network6} is too small: /126 holds the server and two devices")

    @property
    def last_index(self) -> int:
        """The highest index that both families can hold."""
        last = self.network.num_addresses - 2
        if self.network6 is not None:
            last = min(last, self.network6.num_addresses - 1)
        return last

    @property
    def size(self) -> int:
        """How many profiles the pool holds."""
        return self.last_index - FIRST_INDEX + 1

    def ipv4(self, index: int) -> IPv4Address:
        """Return the address at the index. Raises ValueError outside ``FIRST_INDEX … last_index``."""
        self._check(index)
        return self.network[index]

    def ipv6(self, index: int) -> IPv6Address | None:
        """Return the IPv6 address at the index, or None where there is no IPv6. Raises ValueError as above."""
        self._check(index)
        return None if self.network6 is None else self.network6[index]

    def holds(self, index: int, ipv4: str) -> bool:
        """Whether the pool has the index, and means that IPv4 address by it."""
        return FIRST_INDEX <= index <= self.last_index and str(self.network[index]) == ipv4

    def index(self, address: IPv4Address) -> int:
        """Return the index of an IPv4 address; the reverse of ``ipv4``. Raises ValueError outside the pool."""
        index = int(address) - int(self.network.network_address)
        self._check(index)
        return index

    @property
    def server_ipv4(self) -> IPv4Interface:
        """The server's own address with the network's prefix length, for the interface."""
        return IPv4Interface((self.network[SERVER_INDEX], self.network.prefixlen))

    @property
    def server_ipv6(self) -> IPv6Interface | None:
        """The server's own IPv6 address with the prefix length, or None where there is no IPv6."""
        if self.network6 is None:
            return None
        return IPv6Interface((self.network6[SERVER_INDEX], self.network6.prefixlen))

    def _check(self, index: int) -> None:
        if not FIRST_INDEX <= index <= self.last_index:
            raise ValueError(f"index {index} is outside {FIRST_INDEX} … {self.last_index}")
