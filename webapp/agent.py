"""The loop that makes the interface equal to the database: wait for a change, reconcile, report."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, astuple
from datetime import datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from threading import Event
from typing import IO

from sqlalchemy import select, update

from webapp.domain.keys import PrivateKey
from webapp.domain.wgconf import ServerPeer
from webapp.errors import N_, AppError, DecryptionFailed, ToolError
from webapp.models import AgentReport, Server
from webapp.services import host, link
from webapp.services.bell import Bell
from webapp.services.database import Database, ring
from webapp.services.interface import ManagedInterface, problem_of
from webapp.services.reconcile import Outcome, Reconciler
from webapp.services.servers import PRIVATE_KEY, Problem, ServerService, ServerView
from webapp.services.vault import Vault
from webapp.services.wg import Tools, WireGuardCommand

log = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0
LOOK_EVERY_MANY_S = 5.0
MANY_PEERS = 500
"""Up to so many peers the interface is looked at every 2 s, above every 5 s: an idle agent costs little."""
TRAPS_EVERY_S = 30.0
CHORES_EVERY_S = 600.0
REPORT_EVERY = timedelta(seconds=10)


class _NoInterface:
    """Stands in where there is no interface to look at."""

    def show(self) -> None:
        return None

    def add_peers(self, peers: Iterable[ServerPeer]) -> None:
        raise AssertionError("there is no interface")

    def remove_peers(self, public_keys: Sequence[str]) -> None:
        raise AssertionError("there is no interface")


NO_INTERFACE = _NoInterface()


class Agent:
    """One server's agent. It holds no truth of its own: killed at any moment, the next one goes on.

    ``chores`` are done every ten minutes; one that could not be done returns what the admin should know.
    """

    def __init__(
        self,
        db: Database,
        vault: Vault,
        servers: ServerService,
        tools: Tools,
        clock: Callable[[], datetime],
        *,
        chores: Sequence[Callable[[], Problem | None]] = (),
    ) -> None:
        self.db = db
        self.vault = vault
        self.servers = servers
        self.tools = tools
        self.clock = clock
        self.chores = chores
        self._reconciler: Reconciler | None = None
        self._interface = ManagedInterface(tools, self._private_key)
        self._reported: tuple[object, ...] = ()
        self._reported_at: datetime | None = None
        self._way_out_problems: list[Problem] = []
        self.problems: list[Problem] = []
        self._ensured_at = float("-inf")
        self._traps: list[Problem] = []
        self._looked_for_traps_at = float("-inf")
        self._undone: list[Problem] = []
        self._did_chores_at = float("-inf")

    def run(self, stop: Event, bell: Bell) -> None:
        """Work until ``stop`` is set; the interface stays as it is then. Never raises for a foreseen trouble."""
        while not stop.is_set():
            peers = 0
            try:
                outcome = self.cycle()
                peers = 0 if outcome is None or outcome.state is None else len(outcome.state.peers)
            except AppError as error:
                log.warning("this cycle failed, the next one tries again: %s", error)
                stop.wait(1.0)
            bell.wait(LOOK_EVERY_S if peers <= MANY_PEERS else LOOK_EVERY_MANY_S, stop)

    def cycle(self) -> Outcome | None:
        """Look once, mend what differs, and report; None where there was no interface to look at.

        What a command could not do is reported, not raised. Raises DatabaseUnusable.
        """
        with self.db.read() as session:
            server = self.servers.current(session)
        if self._reconciler is None or self._reconciler.server_id != server.id:
            self._reconciler = Reconciler(self.db, self.vault, server.id)
        outcome = None
        problems: list[Problem] = []
        try:
            if server.mode == "manage":
                outcome = self._manage(server)
                problems += self._way_out_problems
            elif server.mode == "adopt":
                outcome = self._adopt(server, problems)
        except (ToolError, DecryptionFailed) as error:
            log.warning("%s: %s", server.interface, error)
            self._interface.settled = None
            problems.append(problem_of(error, N_("The tunnel cannot be brought up to date")))
            if not link.exists(server.interface):
                # Nobody is let in by an interface that is not there: the pages must not say "ready".
                self._reconciler.reconcile(NO_INTERFACE, self.clock(), removes_strangers=False)
        if outcome is not None:
            problems += _problems_of(outcome, server)
        problems += self._tidy(server)
        self.problems = problems
        self._report(server, outcome, problems)
        return outcome

    def _manage(self, server: ServerView) -> Outcome:
        is_due = time.monotonic() - self._ensured_at >= LOOK_EVERY_S
        if is_due or not self._interface.is_settled(server) or not link.exists(server.interface):
            self._way_out_problems = self._interface.ensure(server)
            self._ensured_at = time.monotonic()
        assert self._reconciler is not None  # noqa: S101
        wg = self._interface.wg(server)
        outcome = self._reconciler.reconcile(wg, self.clock(), removes_strangers=True)
        state = outcome.state
        if state is not None and (state.public_key, state.listen_port) != (server.public_key, server.listen_port):
            log.warning("%s had another key or port; it gets its own back", server.interface)
            self._interface.configure(server)
        return outcome

    def _tidy(self, server: ServerView) -> list[Problem]:
        """Do what is due now and then, and return what it found the last time: traps on the host, undone chores."""
        now = time.monotonic()
        if now - self._looked_for_traps_at >= TRAPS_EVERY_S:
            self._traps = host.find_traps(self.tools, server) if server.has_interface else []
            self._looked_for_traps_at = now
        if now - self._did_chores_at >= CHORES_EVERY_S:
            self._undone = [problem for chore in self.chores if (problem := chore()) is not None]
            self._did_chores_at = now
        return self._traps + self._undone

    def _adopt(self, server: ServerView, problems: list[Problem]) -> Outcome | None:
        assert self._reconciler is not None  # noqa: S101
        if not link.exists(server.interface):
            sentence = N_("%(interface)s is not there. It was not made by Postern, so Postern waits for it.")
            problems.append(Problem(N_("The interface is missing"), sentence % {"interface": server.interface}))
        wg: WireGuardCommand = self._interface.wg(server)
        outcome = self._reconciler.reconcile(wg, self.clock(), removes_strangers=False)
        state = outcome.state
        if state is not None and state.public_key is not None:
            self._learn(server, str(state.public_key), state.listen_port)
        return outcome

    def _learn(self, server: ServerView, public_key: str, listen_port: int) -> None:
        """Store what an adopted interface says of itself: files need its key."""
        if str(server.public_key) == public_key and server.listen_port == listen_port:
            return
        with self.db.write() as session:
            session.execute(
                update(Server)
                .where(Server.id == server.id)
                .values(
                    public_key=public_key,
                    private_key=None,  # Whatever key was made here before, this interface does not have it.
                    listen_port=listen_port,
                    revision=Server.revision + 1,
                )
            )
            ring(session)

    def _private_key(self) -> PrivateKey:
        with self.db.read() as session:
            row = session.scalars(select(Server).order_by(Server.id).limit(1)).one()
        if row.private_key is None or row.public_key is None:
            raise DecryptionFailed(N_("The server has no private key stored; set WG_SERVER_PRIVATE_KEY."))
        return PrivateKey(self.vault.open(PRIVATE_KEY, row.public_key, row.private_key))

    def _report(self, server: ServerView, outcome: Outcome | None, problems: list[Problem]) -> None:
        """Write the report when it says something new, and every 10 s as a sign of life."""
        now = self.clock()
        facts: dict[str, object] = {
            "interface": server.interface,
            "is_up": outcome is not None and outcome.state is not None,
            "made_by": self._interface.made_by,
            "taken_indexes": _taken_indexes(outcome, server),
            "strangers": [] if outcome is None else list(outcome.strangers[:50]),
            "tools": {name: path is not None for name, path in asdict(self.tools).items()},
        }
        said = (server.id, tuple(problems), repr(facts))
        is_fresh = self._reported_at is not None and timedelta(0) <= now - self._reported_at < REPORT_EVERY
        if said == self._reported and is_fresh:
            return
        with self.db.write() as session:
            session.merge(
                AgentReport(
                    server_id=server.id,
                    seen_at=now,
                    problems=[list(astuple(problem)) for problem in problems],
                    facts=facts,
                )
            )
        self._reported, self._reported_at = said, now


def _taken_indexes(outcome: Outcome | None, server: ServerView) -> list[int]:
    """Return the indexes of our pool that strangers hold on an adopted interface; empty in the other modes."""
    if server.mode != "adopt" or outcome is None or outcome.state is None:
        return []
    taken = set()
    for key in outcome.strangers:
        for text in outcome.state.peers[key].allowed_ips.split(","):
            with suppress(ValueError):
                taken.add(server.pool.index(IPv4Address(text.removesuffix("/32"))))
    return sorted(taken)


def _problems_of(outcome: Outcome, server: ServerView) -> list[Problem]:
    problems = []
    if outcome.unreadable:
        ids = ", ".join(str(profile_id) for profile_id in outcome.unreadable[:10])
        sentence = N_("The stored keys of these profiles cannot be read: %(ids)s.") % {"ids": ids}
        problems.append(Problem(N_("Some keys cannot be read"), sentence))
    if outcome.withheld:
        sentence = N_("Others on %(interface)s hold the addresses of %(count)s devices. Delete and add these again.")
        values = {"interface": server.interface, "count": len(outcome.withheld)}
        problems.append(Problem(N_("Some addresses are taken"), sentence % values))
    elif outcome.unconfirmed and not outcome.unreadable and outcome.state is not None:
        sentence = N_("%(interface)s does not show %(count)s devices that it was given.")
        values = {"interface": server.interface, "count": len(outcome.unconfirmed)}
        problems.append(Problem(N_("Some devices are not live"), sentence % values))
    return problems


def lead(data_dir: Path) -> IO[bytes] | None:
    """Take the lead among the agents of this machine; None where another one has it. Held until it is closed."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = open(os.open(data_dir / "agent.lock", os.O_RDWR | os.O_CREAT, 0o600), "wb")  # noqa: SIM115
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock
