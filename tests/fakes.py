"""Stand-ins for what tests cannot have or must not wait for. Each keeps the contract of the real one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from webapp.domain.keys import PublicKey
from webapp.domain.wgconf import ServerPeer
from webapp.errors import ToolError, ToolRefused
from webapp.services.wg import InterfaceState, PeerState


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 4, 5, 6, 7, 890000, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **delta: float) -> datetime:
        """Move the clock (the words are ``timedelta``'s) and return the new time."""
        self.now += timedelta(**delta)
        return self.now


class CountingHasher:
    """A password hasher that is quick and counts its work; what it makes is no secret."""

    def __init__(self) -> None:
        self.hashed = 0
        self.verified: list[str] = []

    def hash(self, password: str) -> str:
        self.hashed += 1
        return f"plain:{password}"

    def verify(self, password_hash: str, password: str) -> bool:
        self.verified.append(password_hash)
        return password_hash == f"plain:{password}"


class FakeWireGuard:
    """An interface in memory that does what ``wg`` does; ``test_wg_contract`` holds the two together.

    ``fails`` maps a verb (``show``, ``add``, ``remove``) to the error that it raises. ``fails_late`` does the
    same after the work is done, as a command that is killed too late. Keys in ``hides`` are accepted and never
    shown; keys in ``keeps`` are never removed. ``calls`` remembers each verb with its keys. With ``is_there``
    false there is no interface.
    """

    def __init__(self, public_key: PublicKey | None = None, listen_port: int = 51820) -> None:
        self.public_key = public_key
        self.listen_port = listen_port
        self.is_there = True
        self.fails: dict[str, ToolError] = {}
        self.fails_late: dict[str, ToolError] = {}
        self.hides: set[str] = set()
        self.keeps: set[str] = set()
        self.calls: list[tuple[str, tuple[str, ...]]] = []
        self._peers: dict[str, PeerState] = {}

    def show(self) -> InterfaceState | None:
        self._begin("show")
        state = None
        if self.is_there:
            peers = {key: peer for key, peer in self._peers.items() if key not in self.hides}
            state = InterfaceState(self.public_key, self.listen_port, peers)
        self._end("show")
        return state

    def add_peers(self, peers: Iterable[ServerPeer]) -> None:
        peers = list(peers)
        self._begin("add", *(str(peer.public_key) for peer in peers))
        if peers:
            self._check_there()
        for peer in peers:
            key = str(peer.public_key)
            if peer.public_key == self.public_key:
                continue  # An interface is never its own peer; wg says nothing.
            networks = [str(network) for network in peer.allowed_ips]
            for network in networks:
                self._take_away(network)
            old = self._peers.get(key, PeerState("", "", "", 0, 0, 0))
            preshared = old.preshared_key if peer.preshared_key is None else peer.preshared_key.to_base64()
            self._put(key, old, preshared_key=preshared, allowed_ips=",".join(networks))
        self._end("add")

    def remove_peers(self, public_keys: Sequence[str]) -> None:
        self._begin("remove", *public_keys)
        if public_keys:
            self._check_there()
        for key in public_keys:
            if key not in self.keeps:
                self._peers.pop(key, None)
        self._end("remove")

    def hear(self, public_key: str, *, rx: int, tx: int, at: datetime | None = None, endpoint: str = "") -> None:
        """Let traffic of a peer arrive: add to its counters, and shake hands at that moment."""
        old = self._peers[public_key]
        self._put(
            public_key,
            old,
            endpoint=endpoint or old.endpoint,
            latest_handshake=old.latest_handshake if at is None else int(at.timestamp()),
            rx_bytes=old.rx_bytes + rx,
            tx_bytes=old.tx_bytes + tx,
        )

    def restart(self) -> None:
        """Lose all peers and counters, as a daemon that was killed and started again."""
        self._peers.clear()

    def _put(self, key: str, old: PeerState, **values: object) -> None:
        fields = {name: getattr(old, name) for name in PeerState.__dataclass_fields__}
        self._peers[key] = PeerState(**{**fields, **values})  # type: ignore[arg-type]

    def _take_away(self, network: str) -> None:
        """Measured with wg: an address that another peer has is moved, without a word."""
        for key, peer in self._peers.items():
            left = [item for item in peer.allowed_ips.split(",") if item and item != network]
            if ",".join(left) != peer.allowed_ips:
                self._put(key, peer, allowed_ips=",".join(left))

    def _check_there(self) -> None:
        if not self.is_there:
            raise ToolRefused(command="wg", reason="Unable to modify interface: No such device")

    def _begin(self, verb: str, *keys: str) -> None:
        self.calls.append((verb, keys))
        if verb in self.fails:
            raise self.fails[verb]

    def _end(self, verb: str) -> None:
        if verb in self.fails_late:
            raise self.fails_late[verb]
