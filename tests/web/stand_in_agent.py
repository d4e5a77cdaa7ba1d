"""The agent's part without a tunnel: the real reconciler on an interface in memory, and the agent's report."""

from __future__ import annotations

from datetime import datetime

from tests.fakes import FakeWireGuard
from webapp.models import AgentReport
from webapp.services.reconcile import Outcome, Reconciler
from webapp.services.servers import Problem
from webapp.wiring import Services


class StandInAgent:
    """Looks when it is told to. ``wg`` is the interface; devices speak through ``hear``."""

    def __init__(self, services: Services) -> None:
        self.services = services
        with services.db.read() as session:
            self.server = services.servers.current(session)
        self.wg = FakeWireGuard(self.server.public_key, self.server.listen_port)
        self._reconciler = Reconciler(services.db, services.vault, self.server.id)

    def look(self, *problems: Problem) -> Outcome:
        """Bring the peers up to date and report."""
        outcome = self.reconcile()
        self.report(*problems)
        return outcome

    def reconcile(self) -> Outcome:
        """Bring the peers up to date, and say nothing of it."""
        return self._reconciler.reconcile(self.wg, self.services.clock(), removes_strangers=True)

    def report(self, *problems: Problem, is_up: bool = True) -> None:
        """Say that the agent is alive, and what it could not do."""
        with self.services.db.write() as session:
            session.merge(
                AgentReport(
                    server_id=self.server.id,
                    seen_at=self.services.clock(),
                    problems=[[problem.title, problem.sentence, problem.command] for problem in problems],
                    facts={"is_up": is_up},
                )
            )

    def hear(self, public_key: str, at: datetime, *, rx: int = 0, tx: int = 0) -> None:
        """Let a device shake hands at that moment, and see it."""
        self.wg.hear(public_key, rx=rx, tx=tx, at=at, endpoint="203.0.113.9:40000")
        self.look()
