"""The agent: what it reports and when, what wakes it, and that one leads."""

from __future__ import annotations

import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from threading import Event

import pytest
from sqlalchemy import select, update

from tests.fakes import Clock
from webapp.agent import Agent, lead
from webapp.errors import AppError, DatabaseUnusable
from webapp.models import AgentReport, Server
from webapp.services.audit import Actor
from webapp.services.bell import Bell, PostgresBell, SqliteBell, bell_of
from webapp.services.database import Database, ring
from webapp.services.wg import Tools
from webapp.settings import Settings
from webapp.wiring import Services, build_services

ALICE = Actor("alice", 1)


@pytest.fixture
def agent(services: Services, clock: Clock) -> Agent:
    return agent_of(services, clock)


def agent_of(services: Services, clock: Clock) -> Agent:
    return Agent(services.db, services.vault, services.servers, services.tools, clock)


def report_of(db: Database) -> AgentReport | None:
    with db.read() as session:
        return session.scalar(select(AgentReport))


def change_server(db: Database, **values: object) -> None:
    with db.write() as session:
        session.execute(update(Server).values(**values))


class TestCycle:
    def test_without_an_interface_it_reports_and_touches_nothing(
        self, agent: Agent, services: Services, clock: Clock
    ) -> None:
        assert agent.cycle() is None
        report = report_of(services.db)
        assert report is not None
        assert (report.seen_at, report.problems) == (clock(), [])
        assert (report.facts["interface"], report.facts["is_up"], report.facts["strangers"]) == ("awg0", False, [])

    def test_the_same_words_are_written_every_ten_seconds_only(
        self, agent: Agent, services: Services, clock: Clock
    ) -> None:
        start = clock()
        seen = []
        for _ in range(21):
            agent.cycle()
            report = report_of(services.db)
            assert report is not None
            seen.append((report.seen_at - start).total_seconds())
            clock.advance(seconds=1)
        assert seen == [0.0] * 10 + [10.0] * 10 + [20.0]

    def test_new_words_are_written_at_once(self, agent: Agent, services: Services, clock: Clock) -> None:
        agent.cycle()
        change_server(services.db, interface_mode="manage")
        clock.advance(seconds=1)
        agent.cycle()
        report = report_of(services.db)
        assert report is not None
        assert report.seen_at == clock()
        assert [problem[0] for problem in report.problems] == ["The tunnel cannot be brought up to date"]

    def test_a_clock_that_jumped_back_does_not_silence_it(self, agent: Agent, services: Services, clock: Clock) -> None:
        agent.cycle()
        clock.advance(days=-1)
        agent.cycle()
        report = report_of(services.db)
        assert report is not None
        assert report.seen_at == clock()

    @pytest.mark.parametrize(
        ("tools", "sentence", "command"),
        [
            (Tools(), "wg is not installed.", "apt install wireguard-tools"),
            (Tools(wg="/nonexistent/wg"), "ip is not installed.", "apt install iproute2"),
        ],
    )
    def test_what_is_missing_is_reported_with_what_to_type(
        self, services: Services, clock: Clock, tools: Tools, sentence: str, command: str
    ) -> None:
        change_server(services.db, interface_mode="manage", interface="ptnowhere0")
        agent = Agent(services.db, services.vault, services.servers, tools, clock)
        assert agent.cycle() is None
        report = report_of(services.db)
        assert report is not None
        assert report.problems[0] == ["The tunnel cannot be brought up to date", sentence, command]

    def test_an_adopted_interface_that_is_missing_is_waited_for(self, agent: Agent, services: Services) -> None:
        change_server(services.db, interface_mode="adopt", interface="ptnowhere0")
        assert agent.cycle() is None
        assert (agent.problems[0].title, agent.problems[0].sentence, agent.problems[0].command) == (
            "The interface is missing",
            "ptnowhere0 is not there. It was not made by Postern, so Postern waits for it.",
            None,
        )

    def test_it_goes_on_after_a_database_that_could_not_be_used(self, services: Services, clock: Clock) -> None:
        stop = Event()
        ends: list[str] = []

        class Failing(Agent):
            def cycle(self) -> None:
                if not ends:
                    ends.append("failed")
                    raise DatabaseUnusable
                ends.append("worked")
                stop.set()

        class Silent:
            def wait(self, timeout_s: float, stop: Event) -> None:
                assert timeout_s == 2.0

        Failing(services.db, services.vault, services.servers, Tools(), clock).run(stop, Silent())
        assert ends == ["failed", "worked"]

    def test_it_stops_within_a_moment(self, agent: Agent, services: Services) -> None:
        stop = Event()
        thread = threading.Thread(target=agent.run, args=(stop, bell_of(services.db)))
        thread.start()
        time.sleep(0.2)
        start = time.monotonic()
        stop.set()
        thread.join(timeout=5)
        assert time.monotonic() - start < 1
        assert not thread.is_alive()


def wait_while(bell: Bell, timeout_s: float, act: Callable[[], object]) -> float:
    """Wait for the bell while something else happens in another thread; return how many seconds it took."""
    thread = threading.Thread(target=act)
    start = time.monotonic()
    thread.start()
    bell.wait(timeout_s, Event())
    took = time.monotonic() - start
    thread.join()
    return took


class TestBell:
    @pytest.fixture
    def bell(self, each_services: Services) -> Iterator[Bell]:
        """A bell that has rung once, as it does when it begins to listen."""
        bell = bell_of(each_services.db)
        bell.wait(5, Event())
        yield bell
        bell._close()  # type: ignore[attr-defined]

    def test_the_database_decides_which(self, each_services: Services, bell: Bell) -> None:
        kind = SqliteBell if each_services.settings.is_sqlite else PostgresBell
        assert isinstance(bell, kind)

    def test_a_change_of_peers_wakes_at_once(self, each_services: Services, bell: Bell) -> None:
        alice = each_services.accounts.create_user("alice", None).id
        assert wait_while(bell, 10, lambda: each_services.profiles.create_profile(alice, "phone", ALICE)) < 5

    def test_a_change_before_it_listens_is_not_missed(self, each_services: Services, bell: Bell) -> None:
        with each_services.db.write() as session:
            ring(session)
        assert wait_while(bell, 10, lambda: None) < 5

    def test_other_commits_wake_nobody(self, each_services: Services, bell: Bell, clock: Clock) -> None:
        agent = agent_of(each_services, clock)

        def act() -> None:
            for n in range(3):
                agent.cycle()
                clock.advance(seconds=10)
                each_services.accounts.create_user(f"person{n}", None)

        assert wait_while(bell, 0.7, act) >= 0.69

    def test_a_change_that_was_rolled_back_wakes_nobody(self, each_services: Services, bell: Bell) -> None:
        def act() -> None:
            with suppress(ZeroDivisionError), each_services.db.write() as session:
                ring(session)
                raise ZeroDivisionError

        assert wait_while(bell, 0.5, act) >= 0.49

    def test_a_set_stop_ends_the_waiting(self, bell: Bell) -> None:
        stop = Event()
        stop.set()
        start = time.monotonic()
        bell.wait(10, stop)
        assert time.monotonic() - start < 1


class TestSqliteBell:
    @pytest.mark.parametrize("folder", ["plain", "per%41cent", "ha#sh", "bl ank", "é"])
    def test_it_hears_a_file_in_any_folder(self, tmp_path: Path, migrated_file: Path, folder: str) -> None:
        path = tmp_path / folder / "postern.db"
        path.parent.mkdir()
        path.write_bytes(migrated_file.read_bytes())
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("INSERT INTO change_seq VALUES (1, 1)")
        bell = SqliteBell(path)
        start = time.monotonic()
        bell.wait(10, Event())
        assert time.monotonic() - start < 5
        bell._close()

    def test_a_file_that_is_not_there_is_only_silence(self, tmp_path: Path) -> None:
        bell = SqliteBell(tmp_path / "none.db")
        bell.wait(0.2, Event())
        assert list(tmp_path.iterdir()) == []

    def test_a_database_without_its_row_is_only_silence(self, database: Database, database_file: Path) -> None:
        SqliteBell(database_file).wait(0.2, Event())


class TestLead:
    def test_one_leads_and_the_next_follows_when_it_ends(self, tmp_path: Path) -> None:
        first = lead(tmp_path / "data")
        assert first is not None
        assert lead(tmp_path / "data") is None
        first.close()
        second = lead(tmp_path / "data")
        assert second is not None
        second.close()
        modes = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data", tmp_path / "data" / "agent.lock")]
        assert modes == [0o700, 0o600]


def test_a_server_row_that_is_missing_does_not_end_it(database: Database, settings: Settings, clock: Clock) -> None:
    agent = agent_of(build_services(settings, database, Tools(), clock=clock), clock)
    with suppress(AppError):
        agent.cycle()
