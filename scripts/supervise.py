"""Runs web and agent side by side until a signal, or until one of them cannot go on.

All of it stays in one process group. Should this process be killed, the kernel ends its children: nothing is left
on the port. Only a userspace tunnel daemon lives on, because stopping Postern must not drop a tunnel.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from webapp.errors import SettingsInvalid  # noqa: E402
from webapp.settings import Settings  # noqa: E402

BIN = Path(sys.executable).parent
PR_SET_PDEATHSIG = 1  # prctl(2)
GRACE_S = 8.0
"""How long a child may take to end; gunicorn lets requests finish within 5 s."""
RESTART_AFTER_S = (1, 2, 5, 10)


class Child:
    """One process that is started again when it dies, later each time; one that never ran is given up."""

    def __init__(self, name: str, argv: list[str]) -> None:
        self.name = name
        self.argv = argv
        self.deaths = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.start_at = 0.0
        self.started_at = 0.0

    def start(self) -> None:
        self.started_at = time.monotonic()
        self.process = subprocess.Popen(self.argv, cwd=ROOT, preexec_fn=_die_with_parent)  # noqa: PLW1509

    def look(self) -> None:
        """Start it when it is due; note its death."""
        if self.process is None:
            if time.monotonic() >= self.start_at:
                self.start()
            return
        code = self.process.poll()
        if code is None:
            if time.monotonic() - self.started_at > 60:
                self.deaths = 0
            return
        wait_s = RESTART_AFTER_S[min(self.deaths, len(RESTART_AFTER_S) - 1)]
        say(f"{self.name} ended (code {code}); it starts again in {wait_s} s.")
        self.deaths += 1
        self.process, self.start_at = None, time.monotonic() + wait_s

    def is_hopeless(self) -> bool:
        return self.process is None and self.deaths >= 4 and time.monotonic() - self.started_at < 30

    def stop(self, number: int) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)


def _die_with_parent() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def say(*lines: str) -> None:
    for line in lines:
        print(line, flush=True)


def postern(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line; its own messages go through."""
    return subprocess.run([BIN / "postern", *words], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)


def main() -> int:
    os.umask(0o077)
    try:
        settings = Settings.from_env()
    except SettingsInvalid as error:
        print("The settings cannot be used:", *(f"  {item}" for item in error.problems), sep="\n", file=sys.stderr)
        return 2
    taken = port_taken(settings.host, settings.port)
    if taken is not None:
        print(taken, file=sys.stderr)
        return 1
    upgraded = postern("db", "upgrade")
    if upgraded.returncode:
        return upgraded.returncode
    greet(settings)
    # SIGCHLD wakes the sleep below, so that a dead child is noticed at once.
    stop: list[int] = []
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: stop.append(number))
    children = [Child("web", web_command(settings)), Child("agent", [str(BIN / "postern"), "agent"])]
    code = 0
    while not stop:
        for child in children:
            child.look()
        if any(child.is_hopeless() for child in children):
            say("It ended again and again; see what it said above.")
            code = 1
            break
        time.sleep(0.5)
    end(children)
    return code


def greet(settings: Settings) -> None:
    """Print where to go: before the first answer, so that a script can wait for it."""
    say("", f"  Postern: {settings.public_url}")
    link = postern("setup-link", "--quiet").stdout.strip()
    if link:
        say("  Nobody has an account yet. Open this link within a day; it works once:", f"    {link}")
    if settings.host in {"127.0.0.1", "localhost", "::1"} and "SSH_CONNECTION" in os.environ:
        server = os.environ["SSH_CONNECTION"].split()[2]
        say(
            "  On your own computer, type this first:",
            f"    ssh -L {settings.port}:127.0.0.1:{settings.port} {os.environ.get('USER', 'root')}@{server}",
        )
    doctor = postern("doctor").stdout.splitlines()
    missing = [
        line.removeprefix("MISSING ")
        for number, line in enumerate(doctor)
        if line.startswith("MISSING") or (number and line.startswith("        type:"))
    ]
    # The agent is about to start; that it is not there yet is no news.
    if missing := [line for line in missing if not line.startswith("the agent:") and "type: make run" not in line]:
        say("  Not there yet (everything else works without it):", *(f"    {line.strip()}" for line in missing))
    say("")


def web_command(settings: Settings) -> list[str]:
    """Return gunicorn's words: one worker with threads; headers of proxies are the application's business."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return [
        str(BIN / "gunicorn"),
        "--bind",
        f"{host}:{settings.port}",
        "--worker-class",
        "gthread",
        "--workers",
        os.environ.get("WEB_CONCURRENCY", "1"),
        "--threads",
        "8",
        "--graceful-timeout",
        "5",
        "--keep-alive",
        "5",
        "--forwarded-allow-ips",
        "",
        "--no-control-socket",
        "--log-level",
        "warning",
        "wsgi:app",
    ]


def port_taken(host: str, port: int) -> str | None:
    """Return a sentence that says by whom the port is held, or None when it is free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            holder = holder_of(port)
            reason = f"is taken{f' by {holder}' if holder else ''}" if error.errno == 98 else f": {error.strerror}"
            return f"PORT: {host}:{port} {reason}. Stop that, or choose another: PORT={port + 1} make run"
    return None


def holder_of(port: int) -> str | None:
    """Return "name (process id)" of who listens on the port, as far as this user may see (proc(5), net/tcp)."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            words = line.split()
            if words[3] == "0A" and int(words[1].rsplit(":", 1)[1], 16) == port:
                inodes.add(f"socket:[{words[9]}]")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(os.readlink(fd) in inodes for fd in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text(encoding='utf-8').strip()} (process {process.name})"
        except OSError:
            continue
    return None


def end(children: list[Child]) -> None:
    """Ask every child to end, wait for them together, and kill what stays."""
    for child in children:
        child.stop(signal.SIGTERM)
    deadline = time.monotonic() + GRACE_S
    for child in children:
        if child.process is not None:
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.stop(signal.SIGKILL)
                child.process.wait()


if __name__ == "__main__":
    sys.exit(main())
