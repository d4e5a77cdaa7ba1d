"""A network namespace that lives in one thread, and a userspace WireGuard interface in it."""

from __future__ import annotations

import ctypes
import secrets
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from webapp.domain.wgconf import ServerPeer
from webapp.services.wg import InterfaceState, WireGuardCommand

CLONE_NEWNET = 0x40000000
"""linux/sched.h"""
type_T = TypeVar("type_T")


class Namespace:
    """A namespace of its own for one thread; processes that it starts are in it too. It ends with the thread."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "namespace", initializer=_unshare)

    def call(self, function: Callable[..., type_T], *arguments: Any) -> type_T:
        """Call the function inside and return what it returns; its exceptions come out."""
        return self._thread.submit(function, *arguments).result(timeout=30)

    def run(self, *argv: str) -> str:
        """Run a command inside and return what it printed. Raises CalledProcessError."""
        done = self.call(lambda: subprocess.run(argv, check=True, capture_output=True, text=True, timeout=20))
        return done.stdout

    def close(self) -> None:
        self._thread.shutdown()


def _unshare() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


@contextmanager
def namespace() -> Iterator[Namespace]:
    """Open a namespace whose loopback is up."""
    space = Namespace()
    try:
        space.run("ip", "link", "set", "lo", "up")
        yield space
    finally:
        space.close()


def unique_interface() -> str:
    """Return a name that nobody else has: the sockets of the daemons are shared by all namespaces."""
    return f"pt{secrets.token_hex(5)}"


@contextmanager
def wireguard_interface(space: Namespace, name: str) -> Iterator[str]:
    """Make an interface with ``wireguard-go``; deleting it ends the daemon, which is waited for."""
    socket = Path(f"/var/run/wireguard/{name}.sock")
    space.run("wireguard-go", name)
    try:
        yield name
    finally:
        space.run("ip", "link", "delete", "dev", name)
        deadline = time.monotonic() + 1
        while socket.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        socket.unlink(missing_ok=True)  # Now and then the daemon ends without removing it.


class WireGuardInside:
    """``WireGuardCommand`` called from inside a namespace."""

    def __init__(self, space: Namespace, command: WireGuardCommand) -> None:
        self.space = space
        self.command = command

    def show(self) -> InterfaceState | None:
        return self.space.call(self.command.show)

    def add_peers(self, peers: Iterable[ServerPeer]) -> None:
        self.space.call(self.command.add_peers, peers)

    def remove_peers(self, public_keys: Sequence[str]) -> None:
        self.space.call(self.command.remove_peers, public_keys)
