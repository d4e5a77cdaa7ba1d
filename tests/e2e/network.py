"""A small internet made of network namespaces: a server, two people's devices, and a host far behind the server."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

SOCKETS = Path("/var/run/wireguard")
"""Where userspace daemons listen (wireguard-go, ipc/uapi_unix.go): one folder for all namespaces."""


IP = shutil.which("ip") or "ip"
"""By its path, because what runs in a namespace may have a PATH without it."""


def wait_until(is_so: Callable[[], object], timeout_s: float, what: str) -> float:
    """Ask until the answer is true and return the seconds it took. Raises AssertionError after the timeout."""
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() - began < timeout_s, f"after {timeout_s:g} s still not so: {what}"
        time.sleep(0.05)
    return time.monotonic() - began


class Space:
    """One network namespace with a name. Interfaces and processes in it end with it."""

    def __init__(self, name: str) -> None:
        self.name = name
        _ip("netns", "add", name)
        # Addresses must work at once: nobody else is there to have the same one.
        self.run("sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")
        self.run("ip", "link", "set", "lo", "up")

    def argv(self, *words: str | Path) -> list[str]:
        """Return the command that runs these words inside; it becomes them, with the same process id."""
        return [IP, "netns", "exec", self.name, *map(str, words)]

    def run(
        self,
        *words: str | Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
        timeout_s: float = 30,
    ) -> str:
        """Run a command inside and return what it printed. Raises AssertionError with its words when it fails."""
        done = subprocess.run(
            self.argv(*words),
            cwd=cwd,
            env=env,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, f"{words} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def succeeds(self, *words: str) -> bool:
        """Whether a command ends well inside."""
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
        return subprocess.run(self.argv(*words), check=False, timeout=30, **quiet).returncode == 0

    def pings(self, address: str) -> bool:
        """Whether the address answers one ping within a second."""
        return self.succeeds("ping", "-n", "-c", "1", "-W", "1", address)

    def interfaces(self) -> list[str]:
        """Return the interfaces but the loopback."""
        links = json.loads(self.run("ip", "-json", "link", "show"))
        return [link["ifname"] for link in links if link["ifname"] != "lo"]

    def processes(self) -> list[int]:
        """Return the ids of all processes inside."""
        return [int(word) for word in _ip("netns", "pids", self.name).split()]

    def close(self) -> None:
        """End everything inside, then the namespace. Raises AssertionError when a process stays."""
        try:
            for name in self.interfaces():
                # A pair of interfaces goes together, so that the second may be gone already.
                self.succeeds("ip", "link", "delete", "dev", name)
                wait_until(lambda name=name: daemon_of(name) is None, 5, f"the daemon of {name} ends")
                (SOCKETS / f"{name}.sock").unlink(missing_ok=True)
        finally:
            for pid in self.processes():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not self.processes(), 5, f"{self.name} is empty")
            _ip("netns", "delete", self.name)
        assert self.name not in _ip("netns", "list").split()


def _ip(*words: str) -> str:
    return subprocess.run([IP, *words], check=True, capture_output=True, text=True, timeout=20).stdout


def daemon_of(interface: str) -> int | None:
    """Return the process id of the userspace daemon that carries the interface, None where the kernel does."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if words[0].endswith(b"wireguard-go") and interface.encode() in words[1:]:
                return int(folder.name)
    return None


@dataclass(frozen=True)
class Network:
    """The namespaces and their addresses.

    ``client`` and ``guest`` reach the server directly; ``behind`` knows the way to the server's own address only:
    an answer from it to a device proves that the server put its address in place of the device's.
    """

    server: Space
    client: Space
    guest: Space
    behind: Space
    server_ipv4: str = "192.0.2.1"
    server_ipv6: str = "2001:db8:1::1"
    server_inner_ipv4: str = "198.51.100.1"
    server_inner_ipv6: str = "2001:db8:2::1"
    behind_ipv4: str = "198.51.100.2"
    behind_ipv6: str = "2001:db8:2::2"


@contextmanager
def open_network() -> Iterator[Network]:
    """Make the namespaces and their wires; take everything away at the end, whatever happened."""
    tag = secrets.token_hex(3)
    spaces: dict[str, Space] = {}
    try:
        for role in ("server", "client", "guest", "behind"):
            spaces[role] = Space(f"postern-{tag}-{role}")
        network = Network(**spaces)
        network.server.run("ip", "link", "add", "outside", "type", "bridge")
        _address(network.server, "outside", "192.0.2.1/24", "2001:db8:1::1/64")
        for number, role in enumerate(("client", "guest"), start=2):
            port = f"to-{role}"
            _wire(network.server, port, spaces[role])
            network.server.run("ip", "link", "set", port, "up", "master", "outside")
            _address(spaces[role], "wire", f"192.0.2.{number}/24", f"2001:db8:1::{number}/64")
            spaces[role].run("ip", "route", "add", "default", "via", "192.0.2.1")
            spaces[role].run("ip", "-6", "route", "add", "default", "via", "2001:db8:1::1")
        _wire(network.server, "to-behind", network.behind)
        _address(network.server, "to-behind", "198.51.100.1/24", "2001:db8:2::1/64")
        _address(network.behind, "wire", "198.51.100.2/24", "2001:db8:2::2/64")
        yield network
    finally:
        problems = []
        for space in spaces.values():
            try:
                space.close()
            except (AssertionError, subprocess.SubprocessError) as error:
                problems.append(f"{space.name}: {error}")
        assert not problems, problems


def _wire(server: Space, name: str, other: Space) -> None:
    """Join the server to another namespace; the other end is called ``wire``."""
    server.run("ip", "link", "add", name, "type", "veth", "peer", "name", "wire", "netns", other.name)


def _address(space: Space, interface: str, ipv4: str, ipv6: str) -> None:
    space.run("ip", "address", "add", ipv4, "dev", interface)
    space.run("ip", "address", "add", ipv6, "dev", interface, "nodad")
    space.run("ip", "link", "set", interface, "up")
