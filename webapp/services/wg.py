"""The only module that starts processes: a bounded runner, and the verbs of the ``wg`` and ``awg`` commands."""

from __future__ import annotations

import logging
import os
import re
import select
import shutil
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from webapp.domain.keys import KeyPair, PresharedKey, PrivateKey, PublicKey
from webapp.domain.wgconf import ServerPeer, render_peers
from webapp.errors import ToolError, ToolForbidden, ToolMissing, ToolRefused, ToolTimedOut

log = logging.getLogger(__name__)

TIMEOUT_S = 5.0
KEY_TIMEOUT_S = 1.0
"""Making a key takes 1 ms; a person waits for it, so a hanging command is given up sooner."""
OUTPUT_BYTES = 16 * 1024 * 1024
"""``wg show IF dump`` prints about 160 bytes a peer: room for 100,000 peers, and an end for a mad command."""
BATCH = 400
"""Peers removed in one command: 400 keys stay far under the 128 KiB that one argument list may take."""
LATEST_HANDSHAKE = 253_402_300_799
"""The last second of the year 9999, where ``datetime`` ends."""
MOST_BYTES = 2**60
"""A counter above this is no counter, and a total of a few would not fit its column."""
_KEY_LIKE = re.compile(rb"[A-Za-z0-9+/]{42,43}=|[0-9a-fA-F]{64}")


@dataclass(frozen=True)
class Tools:
    """The system commands, each the absolute path found once on PATH at start, or None where it is missing."""

    wg: str | None = None
    awg: str | None = None
    wireguard_go: str | None = None
    amneziawg_go: str | None = None
    ip: str | None = None
    nft: str | None = None

    @classmethod
    def find(cls, path: str | None = None) -> Tools:
        """Look on ``path`` (default: the environment's PATH and the folders of system commands)."""
        if path is None:
            path = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"

        # An empty or relative entry would mean the current folder, which is anybody's.
        folders = ":".join(folder for folder in path.split(":") if folder.startswith("/"))

        def which(name: str) -> str | None:
            return shutil.which(name, path=folders)

        return cls(which("wg"), which("awg"), which("wireguard-go"), which("amneziawg-go"), which("ip"), which("nft"))


def run(
    argv: Sequence[str | None],
    *,
    stdin: bytes = b"",
    timeout_s: float = TIMEOUT_S,
    detach: bool = False,
    command: str | None = None,
) -> bytes:
    """Run one command by its absolute path and return what it printed.

    Keys go in by ``stdin`` only. The child gets no environment but PATH and C locale, at most ``timeout_s``
    seconds and 16 MiB of output; past either it is killed and waited for. ``detach`` gives it a session of its
    own and no output, for a daemon that must outlive this process. ``command`` is the name for messages.

    Raises ToolMissing, ToolForbidden, ToolTimedOut (what it changed is unknown) or ToolRefused.
    """
    name = command or os.path.basename(argv[0] or "the command")
    if argv[0] is None:
        raise ToolMissing(command=name)
    arguments = [argument for argument in argv if argument is not None]
    child = _Child(name, arguments, detach)
    try:
        stdout, stderr = child.talk(stdin, time.monotonic() + timeout_s, timeout_s)
    finally:
        code = child.end()
    if code == 0:
        return stdout
    reason = scrub(stderr or stdout)
    if "not permitted" in reason or "ermission denied" in reason:
        raise ToolForbidden(command=name)
    raise ToolRefused(command=name, reason=reason or f"exit code {code}")


def scrub(output: bytes) -> str:
    """Return the last lines of a command's output, short, printable and without anything that looks like a key."""
    text = _KEY_LIKE.sub(b"(key)", output)[-4000:].decode("utf-8", "replace")
    lines = [re.sub(r"[^ -~]", "?", line.strip()) for line in text.splitlines() if line.strip()]
    return " / ".join(lines[-3:])[:300]


class _Child:
    """One process with its three pipes and a pidfd, so that nothing is awaited longer than the deadline."""

    def __init__(self, name: str, argv: list[str], detach: bool) -> None:
        self.name = name
        stdin, self.stdin = os.pipe()
        self.stdout, stdout = os.pipe()
        self.stderr, stderr = os.pipe()
        actions: list[tuple[int, int, int]] = [(os.POSIX_SPAWN_DUP2, stdin, 0)]
        outputs = ((stdout, 1), (stderr, 2))
        if detach:
            null = os.open(os.devnull, os.O_RDWR)
            outputs = ((null, 1), (null, 2))
        actions += [(os.POSIX_SPAWN_DUP2, source, target) for source, target in outputs]
        try:
            self.pid = os.posix_spawn(
                argv[0],
                argv,
                {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
                file_actions=actions,
                setsid=detach,
                setsigmask=[],
                # Python ignores SIGPIPE, and an ignored signal stays ignored in a child.
                setsigdef=[signal.SIGPIPE, signal.SIGINT, signal.SIGTERM],
            )
        except OSError as error:
            for fd in (self.stdin, self.stdout, self.stderr):
                os.close(fd)
            if isinstance(error, PermissionError):
                raise ToolForbidden(command=name) from error
            raise ToolMissing(command=name) from error
        finally:
            for fd in (stdin, stdout, stderr):
                os.close(fd)
            if detach:
                os.close(null)
        self.pidfd = os.pidfd_open(self.pid)
        for fd in (self.stdin, self.stdout, self.stderr):
            os.set_blocking(fd, False)

    def talk(self, stdin: bytes, deadline: float, timeout_s: float) -> tuple[bytes, bytes]:
        """Feed and read until the process has ended; what grandchildren hold open is not waited for."""
        poll = select.poll()
        outputs: dict[int, list[bytes]] = {self.stdout: [], self.stderr: []}
        poll.register(self.pidfd, select.POLLIN)
        for fd in outputs:
            poll.register(fd, select.POLLIN)
        rest = memoryview(stdin)
        if rest:
            poll.register(self.stdin, select.POLLOUT)
        else:
            self._close_stdin()
        size = 0
        while True:
            remaining = deadline - time.monotonic()
            ready = dict(poll.poll(remaining * 1000)) if remaining > 0 else {}
            if not ready:
                raise ToolTimedOut(command=self.name, timeout_s=f"{timeout_s:g}")
            if self.stdin in ready:
                rest = self._feed(rest)
                if not rest:
                    poll.unregister(self.stdin)
                    self._close_stdin()
            has_ended = self.pidfd in ready
            for fd in [fd for fd in outputs if fd in ready or has_ended]:
                for chunk in _drain(fd):
                    outputs[fd].append(chunk)
                    size += len(chunk)
                    if size > OUTPUT_BYTES:
                        raise ToolRefused(command=self.name, reason="it printed more than 16 MiB")
                if ready.get(fd, 0) & select.POLLHUP:
                    poll.unregister(fd)
            if has_ended:
                return b"".join(outputs[self.stdout]), b"".join(outputs[self.stderr])

    def _feed(self, rest: memoryview) -> memoryview:
        try:
            return rest[os.write(self.stdin, rest) :]
        except BlockingIOError:
            return rest
        except BrokenPipeError:
            return rest[len(rest) :]

    def _close_stdin(self) -> None:
        if self.stdin >= 0:
            os.close(self.stdin)
            self.stdin = -1

    def end(self) -> int:
        """Kill the process if it still runs, wait for it, close everything, and return its exit code."""
        with suppress(ProcessLookupError):
            # One that has ended and was not waited for yet keeps its exit code: the signal is nothing to it.
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        self._close_stdin()
        for fd in (self.stdout, self.stderr, self.pidfd):
            os.close(fd)
        return os.waitstatus_to_exitcode(status)


def _drain(fd: int) -> Iterator[bytes]:
    with suppress(BlockingIOError):
        while chunk := os.read(fd, 65536):
            yield chunk


class KeyMaker:
    """Makes keys with ``wg genkey | wg pubkey``; where ``wg`` is missing or does not work, in process.

    After a failure the command is left alone for ``REST_S`` seconds, so that a hanging one does not hold up
    every person in turn. The two ways give the same: a Curve25519 pair (RFC 7748).
    """

    REST_S = 60.0

    def __init__(self, tools: Tools) -> None:
        self.command = tools.wg or tools.awg
        self._rests_until = 0.0

    def generate_key_pair(self) -> KeyPair:
        """Return a fresh pair. The private key goes to the command by stdin and never into an argument."""
        if self.command is not None and time.monotonic() >= self._rests_until:
            try:
                return generate_key_pair(self.command)
            except ToolError as error:
                log.warning("keys are made in process: %s", error)
                self._rests_until = time.monotonic() + self.REST_S
        return generate_key_pair_in_process()


def generate_key_pair(command: str) -> KeyPair:
    """Make a pair with ``genkey`` and ``pubkey`` of the command (``wg`` or ``awg``) at that absolute path.

    Raises ToolError: it is missing, hangs, refuses, or prints what is no pair. Source: wg(8).
    """
    private_text = run([command, "genkey"], timeout_s=KEY_TIMEOUT_S)
    public_text = run([command, "pubkey"], stdin=private_text, timeout_s=KEY_TIMEOUT_S)
    try:
        pair = KeyPair(
            PrivateKey.from_base64(private_text.decode("ascii").strip()),
            PublicKey.from_base64(public_text.decode("ascii").strip()),
        )
    except ValueError as error:
        raise ToolRefused(command=os.path.basename(command), reason="it did not print a key") from error
    if public_key_of(pair.private) != pair.public:
        raise ToolRefused(command=os.path.basename(command), reason="its two keys do not belong together")
    return pair


def generate_key_pair_in_process() -> KeyPair:
    """Make a pair with X25519, clamped as ``wg genkey`` does (RFC 7748, section 5)."""
    raw = bytearray(os.urandom(32))
    raw[0] &= 248
    raw[31] = (raw[31] & 127) | 64
    private = PrivateKey(bytes(raw))
    return KeyPair(private, public_key_of(private))


def public_key_of(private: PrivateKey) -> PublicKey:
    """Return the public key that belongs to a private key."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return PublicKey(X25519PrivateKey.from_private_bytes(private.raw).public_key().public_bytes_raw())


def generate_preshared_key() -> PresharedKey:
    """Return 32 random bytes, which is all that ``wg genpsk`` makes."""
    return PresharedKey(os.urandom(32))


@dataclass(frozen=True, slots=True)
class PeerState:
    """One peer as the interface has it; keys and addresses in the spelling of ``dump``.

    ``preshared_key`` is empty without one; ``latest_handshake`` is in Unix seconds, 0 for never.
    """

    preshared_key: str
    endpoint: str
    allowed_ips: str
    latest_handshake: int
    rx_bytes: int
    tx_bytes: int

    def __repr__(self) -> str:
        return f"<PeerState {self.allowed_ips}>"


@dataclass(frozen=True)
class InterfaceState:
    """One interface as it is: public key (None without a private one), port, and its peers by public key."""

    public_key: PublicKey | None
    listen_port: int
    peers: dict[str, PeerState]


class WireGuard(Protocol):
    """The interface's peers, as the reconciler needs them. The command and the tests' fake keep one contract."""

    def show(self) -> InterfaceState | None:
        """Return the interface as it is, or None where there is none."""

    def add_peers(self, peers: Iterable[ServerPeer]) -> None:
        """Add peers, or replace key and addresses of those that are there; the others are not touched."""

    def remove_peers(self, public_keys: Sequence[str]) -> None:
        """Remove peers; one that is not there is no error. The others are not touched."""


class WireGuardCommand:
    """``wg`` or ``awg`` on one interface: one call at a time, each bounded (see ``run``)."""

    def __init__(self, command: str, interface: str) -> None:
        self.command = command
        self.interface = interface

    def show(self) -> InterfaceState | None:
        """Read ``show IF dump``. Raises ToolError; a refusal for lack of an interface is the None."""
        try:
            output = run([self.command, "show", self.interface, "dump"])
        except ToolRefused as error:
            if "No such device" in str(error) or "Protocol not supported" in str(error):
                return None
            raise
        return parse_dump(output.decode("ascii", "replace"), os.path.basename(self.command))

    def add_peers(self, peers: Iterable[ServerPeer]) -> None:
        text = render_peers(peers)
        if text:
            run([self.command, "addconf", self.interface, "/dev/stdin"], stdin=text.encode())

    def remove_peers(self, public_keys: Sequence[str]) -> None:
        for start in range(0, len(public_keys), BATCH):
            removals = [word for key in public_keys[start : start + BATCH] for word in ("peer", key, "remove")]
            run([self.command, "set", self.interface, *removals])

    def configure(self, text: str) -> None:
        """Apply an ``[Interface]`` section; no peer is touched."""
        run([self.command, "addconf", self.interface, "/dev/stdin"], stdin=text.encode())


def parse_dump(text: str, command: str) -> InterfaceState:
    """Parse ``show IF dump`` of any tool generation (columns between port and fwmark vary; AMNEZIAWG facts, 9).

    Raises ToolRefused for text that is no dump. The text holds the private key: it is never quoted.
    """
    lines = text.splitlines()
    try:
        head = lines[0].split("\t")
        if len(head) < 4:
            raise ValueError("too few columns")
        public_key = None if head[1] == "(none)" else PublicKey.from_base64(head[1])
        listen_port = _count(head[2], 65535)
        peers = {}
        for line in lines[1:]:
            key, preshared, endpoint, allowed_ips, handshake, rx, tx, _keepalive = line.split("\t")
            peers[key] = PeerState(
                "" if preshared == "(none)" else preshared,
                "" if endpoint == "(none)" else endpoint,
                "" if allowed_ips == "(none)" else allowed_ips,
                _count(handshake, LATEST_HANDSHAKE),
                _count(rx, MOST_BYTES),
                _count(tx, MOST_BYTES),
            )
    except (IndexError, ValueError):
        raise ToolRefused(command=command, reason="its output cannot be understood") from None
    return InterfaceState(public_key, listen_port, peers)


def _count(text: str, highest: int) -> int:
    number = int(text)
    if not 0 <= number <= highest:
        raise ValueError("out of range")
    return number
