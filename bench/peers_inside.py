"""What ``bench.peers`` runs between its walls: reconciling, doing nothing, and how soon a new peer is live."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from random import Random

from sqlalchemy import delete

from bench.deployment import Deployment, children_of, deployment, pss_mb
from bench.peers import SECTION
from bench.report import Row, at_most, ms, quantile, to_json
from bench.stored import fill
from webapp.agent import Agent
from webapp.domain.wgconf import ServerPeer
from webapp.models import PeerStatus
from webapp.services import wg as wg_service
from webapp.services.reconcile import Reconciler, load_desired
from webapp.services.wg import WireGuardCommand
from webapp.wiring import utc_now

MANY = 10_000
MANY_IF_QUICK = 3_000
USUAL = 1_000
FEW = 10


class CountingWireGuard(WireGuardCommand):
    """The real command, which notes how often it was told to write."""

    writes = 0

    def add_peers(self, peers: Iterable[ServerPeer]) -> None:
        self.writes += 1
        super().add_peers(peers)

    def remove_peers(self, public_keys: Sequence[str]) -> None:
        self.writes += 1
        super().remove_peers(public_keys)


def main() -> None:
    """Print the rows as JSON."""
    is_quick = "--quick" in sys.argv
    _settle_in()
    many = MANY_IF_QUICK if is_quick else MANY
    rows = _reconcile(many, turns=1 if is_quick else 3)
    rows += _live(FEW, 8 if is_quick else 20)
    rows += _live(many, 6 if is_quick else 20)
    rows += _idle(10 if is_quick else 20)
    print(to_json(rows))


def _settle_in() -> None:
    """Make the new namespaces usable: loopback, a /sys that shows them, and sockets that nobody else sees."""
    os.makedirs("/run/wireguard", exist_ok=True)
    for words in (
        ["mount", "-t", "sysfs", "sysfs", "/sys"],
        ["mount", "-t", "tmpfs", "tmpfs", "/run/wireguard"],
        ["ip", "link", "set", "lo", "up"],
    ):
        subprocess.run(words, check=True)


def _place(interface: str) -> dict[str, str]:
    return {"INTERFACE_MODE": "manage", "WG_INTERFACE": interface}


def _timed(step: Callable[[], object]) -> float:
    begun = time.monotonic()
    step()
    return time.monotonic() - begun


def _reconcile(many: int, turns: int) -> list[Row]:
    """Fill an interface by ``wg setconf`` and by the reconciler, in turns; then look with nothing to do."""
    with deployment(**_place("pbench0")) as place:
        place.add_person("alice")
        fill(place, "alice", many, with_status=False)
        services = place.services
        with services.db.read() as session:
            server = services.servers.current(session)
            desired = load_desired(session, server.id, utc_now())
        assert len(desired.peers) == many
        agent = Agent(services.db, services.vault, services.servers, services.tools, utc_now)
        first = _timed(agent.cycle)  # Makes the interface, and fills it.
        assert not agent.problems, agent.problems
        command = CountingWireGuard(services.tools.wg or "", server.interface)
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
            file.write(_file_of(place, server.interface))
            file.flush()
            by_file, by_agent = [], []
            for _ in range(turns):
                _flush(place, server.interface)
                setconf = [services.tools.wg or "", "setconf", server.interface, file.name]
                by_file.append(_timed(lambda words=setconf: subprocess.run(words, check=True)))  # type: ignore[misc]
                _flush(place, server.interface)
                reconciler = Reconciler(services.db, services.vault, server.id)
                by_agent.append(
                    _timed(lambda one=reconciler: one.reconcile(command, utc_now(), removes_strangers=True))  # type: ignore[misc]
                )
                shown = command.show()
                assert shown is not None
                assert len(shown.peers) == many
        agent.cycle()
        agent.cycle()
        started: list[str] = []
        run, command.writes = wg_service.run, 0

        def spy(argv: Sequence[str | None], **how: object) -> bytes:
            started.append(" ".join(str(word) for word in argv[1:3]))
            return run(argv, **how)  # type: ignore[arg-type]

        idle = []
        wg_service.run = spy
        try:
            for _ in range(5):
                idle.append(_timed(agent.cycle))
        finally:
            wg_service.run = run
        writes = sum(not words.startswith("show") for words in started)
        subprocess.run(["ip", "link", "delete", "dev", server.interface], check=True)
    setconf_s, agent_s = statistics.median(by_file), statistics.median(by_agent)
    ratio, nothing = agent_s / setconf_s, statistics.median(idle)
    return [
        Row(SECTION, f"wg setconf of {many:,} peers", f"{setconf_s * 1000:.0f} ms", setconf_s),
        at_most(SECTION, f"reconcile {many:,} peers from nothing (read, decrypt, add, look, store)", ratio, 2,
                f"{agent_s * 1000:.0f} ms = {ratio:.2f} × setconf", " × setconf"),
        Row(SECTION, "the very first cycle, with making the interface", f"{first * 1000:.0f} ms", first),
        at_most(SECTION, f"a whole cycle with nothing to do, {many:,} peers", nothing, 0.5,
                f"{nothing * 1000:.0f} ms", " s"),
        at_most(SECTION, "writes to the interface in five such cycles", writes, 0, str(writes)),
    ]  # fmt: skip


def _file_of(place: Deployment, interface: str) -> str:
    """Return what the interface is now, as the file that ``setconf`` reads."""
    done = subprocess.run(["wg", "showconf", interface], check=True, capture_output=True, text=True)
    return done.stdout


def _flush(place: Deployment, interface: str) -> None:
    """Take all peers off the interface, and forget what was seen of them."""
    head = _file_of(place, interface).partition("[Peer]")[0]
    subprocess.run(["wg", "setconf", interface, "/dev/stdin"], input=head, text=True, check=True)
    with place.services.db.write() as session:
        session.execute(delete(PeerStatus))


def _live(stored: int, times: int) -> list[Row]:
    """Create profiles over HTTP and watch the interface until each is there."""
    name = f"pbench{stored}"[:15]
    random = Random(1)
    with deployment(**_place(name)) as place:
        place.add_person("alice")
        fill(place, "alice", stored, with_status=False)
        with place.web(), place.agent() as agent:
            _wait_for_peers(name, stored)
            time.sleep(3)
            client = place.client("alice")
            waited = []
            for number in range(times):
                # Unlike the agent's own rhythm, so that every phase of it is met.
                time.sleep(random.uniform(0.2, 1.2))
                answer = client.request("POST", "/api/v1/profiles", b'{"name": "live %d"}' % number)
                assert answer.status == 201, answer
                waited.append(_wait_for(name, _public_key(answer.body)))
            memory = pss_mb(agent.pid)
        _delete(name)
    p95 = quantile(waited, 0.95)
    rows = [
        at_most(SECTION, f"from the answer to the live peer at {stored:,} peers, p50 / p95", p95, 1, ms(waited),
                " s (p95)"),
        at_most("memory", f"agent at {stored:,} peers, PSS", memory, 65, f"{memory:.0f} MB", " MB"),
    ]  # fmt: skip
    return rows


def _idle(seconds: float) -> list[Row]:
    """Let the agent stand at 1,000 peers and count its CPU time and its children's."""
    name = "pbenchidle"
    with deployment(**_place(name)) as place:
        place.add_person("alice")
        fill(place, "alice", USUAL, with_status=False)
        with place.agent() as agent:
            _wait_for_peers(name, USUAL)
            time.sleep(6)
            before, begun = _cpu_s(agent.pid), time.monotonic()
            time.sleep(seconds)
            used = (_cpu_s(agent.pid) - before) / (time.monotonic() - begun) * 100
            memory = pss_mb(agent.pid, *children_of(agent.pid))
        _delete(name)
    return [
        at_most(SECTION, f"idle at {USUAL:,} peers, of one core, over {seconds:.0f} s", used, 1, f"{used:.2f} %", " %"),
        at_most("memory", f"agent at {USUAL:,} peers, PSS", memory, 65, f"{memory:.0f} MB", " MB"),
    ]


def _delete(interface: str) -> None:
    """Remove the interface; its daemon ends with it."""
    subprocess.run(["ip", "link", "delete", "dev", interface], check=True)


def _public_key(body: bytes) -> bytes:
    return body.split(b'"public_key":"', 1)[1][:44]


def _wait_for(interface: str, key: bytes, limit_s: float = 10) -> float:
    begun = time.monotonic()
    while time.monotonic() - begun < limit_s:
        if key in _peers(interface):
            return time.monotonic() - begun
        time.sleep(0.01)
    return limit_s


def _wait_for_peers(interface: str, count: int, limit_s: float = 60) -> None:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if _peers(interface).count(b"\n") >= count:
            return
        time.sleep(0.1)
    raise TimeoutError(f"{count} peers never stood on {interface}")


def _peers(interface: str) -> bytes:
    return subprocess.run(["wg", "show", interface, "peers"], capture_output=True, check=False).stdout


def _cpu_s(pid: int) -> float:
    """Return the CPU time of a process and of its children that have ended (proc(5), stat)."""
    words = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return sum(int(word) for word in words[11:15]) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
