"""A Postern of its own in a temporary folder: database, people, and gunicorn started as ``make run`` starts it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

from bench.http import Client, by_token
from webapp.services.audit import CONSOLE
from webapp.services.database import open_database
from webapp.settings import Settings
from webapp.wiring import Services, build_services

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PASSWORD = "a password of the bench"


@dataclass
class Process:
    """One child that was started here and is ended here, by its own number."""

    popen: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self.popen.pid

    def stop(self) -> None:
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()


@dataclass
class Deployment:
    """A data folder and the environment of its processes. ``services`` are the program's own, in this process."""

    folder: Path
    environ: dict[str, str]
    services: Services
    tokens: dict[str, str] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)

    @property
    def port(self) -> int:
        return self.services.settings.port

    @property
    def file(self) -> Path:
        return self.folder / "postern.db"

    def add_person(self, name: str) -> None:
        """Make an account with a password and a token for everything."""
        self.ids[name] = self.services.accounts.create_user(name, PASSWORD).id
        self.tokens[name] = self.services.tokens.create_token(self.ids[name], "bench", "all", CONSOLE)

    def client(self, name: str) -> Client:
        """Return a script of that person."""
        return Client(self.port, by_token(self.tokens[name]))

    def browser(self, name: str) -> Client:
        """Sign the person in by the form and return a client that carries the cookie."""
        client = Client(self.port, "Accept: text/html\r\n")
        page = client.request("GET", "/login")
        token = re.search(rb'name="csrf_token"[^>]*value="([^"]+)"', page.body)
        assert token is not None, page.body[:500]
        client.headers += f"Cookie: {_cookie(page.headers)}\r\n"
        form = {"username": name, "password": PASSWORD, "csrf_token": token[1].decode()}
        answer = client.request("POST", "/login", urlencode(form).encode(), "application/x-www-form-urlencoded")
        assert answer.status == 303, (answer.status, answer.body[:500])
        client.headers = f"Accept: text/html\r\nCookie: {_cookie(answer.headers)}\r\n"
        return client

    @contextmanager
    def web(self, workers: int = 1) -> Iterator[Process]:
        """Run gunicorn until the block ends; it has answered when the block begins."""
        argv = web_command(self.services.settings)
        argv[argv.index("--workers") + 1] = str(workers)
        process = start(argv, self.environ)
        try:
            wait_for_answer(self.port, process)
            yield process
        finally:
            process.stop()

    @contextmanager
    def agent(self) -> Iterator[Process]:
        """Run ``postern agent`` until the block ends."""
        process = start([str(BIN / "postern"), "agent"], self.environ, stderr=subprocess.DEVNULL)
        try:
            yield process
        finally:
            process.stop()


def _cookie(headers: dict[str, str]) -> str:
    return headers["set-cookie"].partition(";")[0]


@contextmanager
def deployment(**variables: str) -> Iterator[Deployment]:
    """Make a deployment; its folder goes when the block ends. Variables stand over those of the bench."""
    with tempfile.TemporaryDirectory(prefix="postern-bench-") as name:
        folder = Path(name)
        environ = clean_environment() | {
            "DATA_DIR": name,
            "PORT": str(free_port()),
            "SECRET_KEY": secrets.token_hex(32),
            "ENCRYPTION_KEY": secrets.token_hex(32),
            "INTERFACE_MODE": "off",
            "WG_ENDPOINT": "198.51.100.1:51820",
            "WG_NETWORK": "10.0.0.0/8",
            **variables,
        }
        subprocess.run([BIN / "postern", "db", "upgrade"], cwd=ROOT, env=environ, check=True, capture_output=True)
        settings = Settings.from_env(environ)
        db = open_database(settings.database_url)
        try:
            yield Deployment(folder, environ, build_services(settings, db))
        finally:
            db.close()


def clean_environment() -> dict[str, str]:
    """Return this environment without what would change a child: Postern's own variables, and "write no bytecode"."""
    ours = re.compile(r"(WG|AWG|ADMIN|PYTHON|GUNICORN|FLASK)_?.*|WEB_CONCURRENCY|HOST|PUBLIC_URL|DATABASE_URL")
    return {name: value for name, value in os.environ.items() if not ours.fullmatch(name)}


def start(argv: list[str], environ: dict[str, str], stderr: int | None = None) -> Process:
    """Start a process in the checkout's folder."""
    return Process(subprocess.Popen(argv, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, stderr=stderr))


def wait_for_answer(port: int, process: Process, path: str = "/healthz", limit_s: float = 20) -> float:
    """Ask from now on until there is an answer, and return when it came (``time.monotonic``)."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        assert process.popen.poll() is None, "the server ended before it answered"
        try:
            # The master listens before its worker is ready: this waits in the queue, as a person would.
            answer = Client(port).request("GET", path)
        except OSError:
            time.sleep(0.001)
            continue
        assert answer.status == 200, (path, answer.status, answer.body[:500])
        return time.monotonic()
    raise TimeoutError(path)


def web_command(settings: Settings) -> list[str]:
    """Return gunicorn's words from the very file that ``make run`` runs."""
    spec = importlib.util.spec_from_file_location("supervise", ROOT / "scripts" / "supervise.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    words: list[str] = module.web_command(settings)
    return words


def free_port() -> int:
    """Return a port that nobody holds right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def run_crowd(order: dict[str, object]) -> dict[str, object]:
    """Run ``bench.crowd`` with the order and return its report."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.crowd"],
        cwd=ROOT,
        env=clean_environment(),
        input=json.dumps(order),
        capture_output=True,
        text=True,
        check=True,
    )
    report: dict[str, object] = json.loads(done.stdout)
    return report


def pss_mb(*pids: int) -> float:
    """Return the proportional set size of the processes together, in megabytes (proc(5), smaps_rollup)."""
    total = 0
    for pid in pids:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
        total += int(re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)[1])  # type: ignore[index]
    return total / 1000


def children_of(pid: int) -> list[int]:
    """Return the direct children of a process."""
    words = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [int(word) for word in words]
