"""A deployment as ``make run`` starts it, an agent to play, and pages of a real browser that keep a record."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SECRETS, why_no_browser
from tests.web.stand_in_agent import StandInAgent
from webapp.services.database import open_database
from webapp.services.servers import Problem
from webapp.services.wg import Tools
from webapp.settings import Settings
from webapp.wiring import Services, build_services

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
NAME, PASSWORD = "nora", "correct horse battery"
CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything below this folder needs a browser."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


class Agent:
    """Looks ten times a second, as the real one does when its bell rings; what it sees is up to the test."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.problems: list[Problem] = []
        self._agent = StandInAgent(services)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        said_at = 0.0
        while not self._stop.wait(0.1):
            with self._lock:
                self._agent.reconcile()
                # Each report is a write, and SQLite has one writer.
                if time.monotonic() - said_at > 1:
                    self._agent.report(*self.problems)
                    said_at = time.monotonic()

    def connect(self, name: str, at: datetime | None = None, *, rx: int = 1_300_000, tx: int = 412_000_000) -> None:
        """Let the device of that name shake hands."""
        with self._lock, self.services.db.read() as session:
            page = self.services.profiles.list_profiles(session, None, limit=500)
            (key,) = [item.public_key for item in page.items if item.name == name]
        with self._lock:
            self._agent.look()
            self._agent.hear(key, at or datetime.now(UTC), rx=rx, tx=tx)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10)


class Deployment:
    """gunicorn on a free port, with a folder and an environment of its own."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.told = {
            **SECRETS,
            "DATA_DIR": str(folder),
            "PORT": str(self.port),
            "INTERFACE_MODE": "manage",
            **variables,
        }
        self.environ = {**kept, **self.told, "PYTHONWARNINGS": "default"}
        self.postern("db", "upgrade")
        self.log = open(folder / "gunicorn.log", "wb")  # noqa: SIM115
        argv = [BIN / "gunicorn", "--bind", f"127.0.0.1:{self.port}", "--worker-class", "gthread", "--threads", "4"]
        self.process = subprocess.Popen(
            [*argv, "--no-control-socket", "--forwarded-allow-ips", "", "wsgi:app"],
            cwd=ROOT,
            env=self.environ,
            stdout=self.log,
            stderr=self.log,
        )
        settings = Settings.from_env(self.told)
        self.services = build_services(settings, open_database(settings.database_url), Tools())
        self.agents: list[Agent] = []
        self._wait()

    def postern(self, *words: str) -> str:
        """Run the command line in the deployment's environment and return what it printed."""
        done = subprocess.run(
            [BIN / "postern", *words], cwd=ROOT, env=self.environ, check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def agent(self) -> Agent:
        """Start the agent's part."""
        agent = Agent(self.services)
        self.agents.append(agent)
        return agent

    def report(self, *problems: Problem) -> None:
        """Say once that the agent is alive, and let it do nothing yet."""
        StandInAgent(self.services).report(*problems)

    def make_nora(self) -> None:
        """Make the admin, past the pages."""
        self.services.accounts.create_user(NAME, PASSWORD, is_admin=True)

    def _wait(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            assert self.process.poll() is None, self.said()
            with suppress(OSError), urllib.request.urlopen(f"{self.url}/readyz", timeout=5):
                return
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)

    def said(self) -> str:
        return Path(self.log.name).read_text(encoding="utf-8")

    def stop(self) -> None:
        for agent in self.agents:
            agent.stop()
        self.services.db.close()
        self.process.terminate()
        self.process.wait(20)
        self.log.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def deploy(tmp_path: Path) -> Iterator[Callable[..., Deployment]]:
    """Start a deployment whose environment has these variables besides."""
    running: list[Deployment] = []

    def start(**variables: str) -> Deployment:
        folder = tmp_path / f"data-{len(running)}"
        folder.mkdir(mode=0o700)
        running.append(Deployment(folder, **variables))
        return running[-1]

    yield start
    for deployment in running:
        deployment.stop()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Debian's chromium, started once."""
    reason = why_no_browser()
    if reason is not None:
        pytest.skip(reason)
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=15_000)  # Machines are noisy; what is awaited mostly comes within one second.
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM)
        yield browser
        browser.close()


class Record:
    """What went wrong in a page: on its console, in its scripts, against its policy."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        self.expected: list[str] = []
        self.repeated: list[str] = []

    def watch(self, page: Any) -> None:
        page.on("console", lambda message: self._hear(message.type, message.text))
        page.on("pageerror", lambda error: self.said.append(f"page error: {error}"))
        page.on("request", lambda request: self.asked.append(request.url))
        page.add_init_script(
            "document.addEventListener('securitypolicyviolation',"
            " (event) => console.error('policy: ' + event.violatedDirective + ' ' + event.blockedURI))"
        )

    def _hear(self, kind: str, text: str) -> None:
        if kind in {"error", "warning", "assert"}:
            self.said.append(f"{kind}: {text}")

    def expect(self, text: str) -> None:
        """Allow one message that holds the text: a browser reports each 4xx on its console."""
        self.expected.append(text)

    def expect_some(self, text: str) -> None:
        """Allow any number of such messages, at least one: the page polls while the server is away."""
        self.expect(text)
        self.repeated.append(text)

    def check(self) -> None:
        left = list(self.said)
        for text in self.expected:
            found = next((line for line in left if text in line), None)
            assert found is not None, f"{text!r} was not said, but {self.said}"
            left.remove(found)
        assert [line for line in left if not any(text in line for text in self.repeated)] == []


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Open a page; at the end nothing may have gone wrong in any of them, and no other site was asked."""
    contexts = []
    records: list[tuple[Record, str]] = []

    def start(url: str, *, javascript: bool = True, width: int = 1280, height: int = 800, dark: bool = False) -> Any:
        context = chromium.new_context(
            base_url=url,
            java_script_enabled=javascript,
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
        )
        context.set_default_timeout(30_000)
        contexts.append(context)
        page = context.new_page()
        record = Record()
        record.watch(page)
        page.record = record
        records.append((record, url))
        return page

    yield start
    for context in contexts:
        context.close()
    for record, url in records:
        record.check()
        assert [address for address in record.asked if not address.startswith(url)] == []


def sign_in(page: Any) -> None:
    """Type name and password on the sign-in page."""
    page.goto("/login")
    page.get_by_label("Name").fill(NAME)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/profiles/")
