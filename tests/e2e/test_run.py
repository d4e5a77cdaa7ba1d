"""``make run`` where something is wrong: no rights, no tools, a taken port, bad settings, killed or hanging parts."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import pytest

from tests.e2e.make_run import ROOT, START_S, MakeRun, clean_environment
from tests.e2e.network import Network, open_network, wait_until
from tests.e2e.person import Curl
from tests.namespaces import unique_interface

pytestmark = pytest.mark.slow

NOBODY = 65534
PROGRAMS = ("make", "sh", "bash", "dirname", "cat", "sha256sum", "cut", "uname")
"""What ``make run`` itself needs of a system, besides Python."""
PASSWORD = "correct horse battery staple"
QUICK_S = 5
"""A page that takes longer is stuck. The longest wait by design is a second, for a hanging key command."""


def free_port() -> int:
    """Return a port that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_open(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def is_alive(port: int) -> bool:
    """Whether the page answers; no proxy of the environment is asked."""
    try:
        with build_opener(ProxyHandler({})).open(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def small_path(folder: Path, *more: str) -> str:
    """Return a PATH that has nothing but Python, what ``make run`` needs, and these programs."""
    folder.mkdir()
    folder.chmod(0o755)
    (folder / "python3").symlink_to(Path(sys.executable).resolve())
    for name in (*PROGRAMS, *more):
        found = shutil.which(name)
        assert found is not None, name
        (folder / name).symlink_to(found)
    return str(folder)


def as_nobody() -> list[str]:
    """Return what makes a command run without any right, root's included.

    Where the checkout or its Python lies in a folder that only root can enter, the one right to read is kept.
    """
    if os.geteuid() != 0:
        return []
    base = [
        shutil.which("setpriv") or "setpriv",
        f"--reuid={NOBODY}",
        f"--regid={NOBODY}",
        "--clear-groups",
        "--no-new-privs",
    ]
    reading = "-all,+dac_read_search"
    quiet = {"cwd": "/", "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    for more in (["--inh-caps=-all"], [f"--inh-caps={reading}", f"--ambient-caps={reading}"]):
        prefix = [*base, *more]
        # By a shell, because setpriv itself still has its rights when it starts something.
        asks = [*prefix, "/bin/sh", "-c", '"$0" --help && "$0" --help', str(ROOT / ".venv/bin/postern")]
        if subprocess.run(asks, check=False, timeout=30, **quiet).returncode == 0:
            return prefix
    pytest.fail("no way was found to run as an unprivileged user who can read the checkout")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that an unprivileged user can reach and write to; pytest's own is closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="postern-run-"))
    if os.geteuid() == 0:
        shutil.chown(folder, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def port() -> int:
    return free_port()


class Starter:
    """Starts ``make run`` in one folder, profiles only unless told; ``close`` leaves nothing of what was started."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self._runs: list[MakeRun] = []

    def __call__(
        self,
        *,
        prefix: Sequence[str] = (),
        command: str = "make run",
        answers: Callable[[], bool] | None = None,
        **variables: str,
    ) -> MakeRun:
        environ = {"DATA_DIR": str(self.folder / "data"), "PORT": str(self.port), "INTERFACE_MODE": "off", **variables}
        log = self.folder / f"make-run-{len(self._runs) + 1}.log"
        answers = answers or (lambda: is_alive(self.port))
        self._runs.append(MakeRun(clean_environment(**environ), log, answers, prefix=prefix, command=command.split()))
        return self._runs[-1]

    def close(self) -> None:
        for run in self._runs:
            run.kill()


@pytest.fixture
def start(folder: Path, port: int) -> Iterator[Starter]:
    starter = Starter(folder, port)
    yield starter
    starter.close()


@pytest.fixture(scope="module")
def running() -> Iterator[MakeRun]:
    """One Postern for the tests that must leave it running."""
    with tempfile.TemporaryDirectory(prefix="postern-run-") as folder:
        starter = Starter(Path(folder), free_port())
        try:
            yield starter().wait_until_it_answers()
        finally:
            starter.close()


class TestWithoutRights:
    """What somebody sees who types ``make run`` as an ordinary user, without ``wg``."""

    def test_it_starts_says_what_is_missing_and_hands_out_files(self, start: Starter, folder: Path, port: int) -> None:
        (folder / "data").mkdir()
        if os.geteuid() == 0:
            shutil.chown(folder / "data", NOBODY, NOBODY)
        path = small_path(folder / "bin")
        run = start(prefix=as_nobody(), PATH=path, INTERFACE_MODE="auto", WG_ENDPOINT="vpn.example.net:51820")
        run.wait_until_it_answers()
        assert "mode off, plain WireGuard." in run.output
        assert "wg or awg (makes keys, speaks to the interface): not found on PATH" in run.output
        assert "type: sudo apt install wireguard-tools" in run.output
        assert "the right to make an interface (CAP_NET_ADMIN): not held" in run.output
        assert "type: sudo make run" in run.output
        assert "Traceback" not in run.output
        person = Curl(f"http://127.0.0.1:{port}", folder)
        assert person.set_up(run.setup_link, "nora", PASSWORD).status == 303
        person.make_token()
        profile = person.add("phone")
        assert profile["state"] == "ready"
        text = person.fetch("phone").read_text(encoding="utf-8")
        assert text.startswith("[Interface]\n")
        assert "\nEndpoint = vpn.example.net:51820\n" in text
        assert run.find("postern agent"), "the agent waits; it does not end and start again"
        assert "starts again" not in run.output
        run.stop()
        assert "Traceback" not in run.output

    def test_what_it_writes_is_closed_to_others(self, running: MakeRun) -> None:
        data = Path(running.environ["DATA_DIR"])
        assert data.stat().st_mode & 0o777 == 0o700
        modes = {path.name: path.stat().st_mode & 0o777 for path in data.iterdir()}
        assert {"postern.db", "secret_key", "encryption_key"} <= modes.keys()
        assert set(modes.values()) == {0o600}


class TestRefusals:
    """A start that cannot be is refused in words, before anything is made."""

    def test_a_taken_port_is_refused_with_the_holders_name(self, start: Starter, folder: Path, port: int) -> None:
        with socket.socket() as holder:
            holder.bind(("127.0.0.1", port))
            holder.listen()
            run = start(command="scripts/run")
            assert run.process.wait(START_S) == 1
        name = Path("/proc/self/comm").read_text(encoding="utf-8").strip()
        assert run.output == (
            f"PORT: 127.0.0.1:{port} is taken by {name} (process {os.getpid()})."
            f" Stop that, or choose another: PORT={port + 1} make run\n"
        )
        assert not (folder / "data").exists()

    def test_a_second_start_beside_the_first_is_refused_and_harms_nothing(
        self, running: MakeRun, start: Starter
    ) -> None:
        second = start(command="scripts/run", PORT=running.environ["PORT"])
        assert second.process.wait(START_S) == 1
        assert re.fullmatch(
            r"PORT: 127\.0\.0\.1:\d+ is taken by \S+ \(process \d+\)\. Stop that, or choose another: .*\n",
            second.output,
        )
        assert running.answers()
        assert running.process.poll() is None

    def test_bad_settings_end_with_2_and_are_named_all_at_once(self, start: Starter, folder: Path) -> None:
        run = start(
            command="scripts/run",
            PORT="http",
            SECRET_KEY="short",
            INTERFACE_MODE="perhaps",
            WG_MTU="9000",
            HOST="0.0.0.0",
        )
        assert run.process.wait(START_S) == 2
        head, *problems = run.output.splitlines()
        assert head == "The settings cannot be used:"
        assert [line.strip().partition(":")[0] for line in problems] == [
            "INTERFACE_MODE",
            "PORT",
            "PUBLIC_URL",
            "SECRET_KEY",
            "WG_MTU",
        ]
        assert not (folder / "data").exists()

    def test_make_fails_when_the_start_is_refused(self, start: Starter) -> None:
        run = start(PORT="http")
        assert run.process.wait(START_S) != 0
        assert "PORT: 'http' is not a whole number from 1 to 65535" in run.output

    def test_another_encryption_key_is_refused_and_named(self, start: Starter) -> None:
        start().wait_until_it_answers().stop()
        run = start(command="scripts/run", ENCRYPTION_KEY="4e8a0d6cb2f19375e0c7a4d8b61f2935")
        assert run.process.wait(START_S) == 2
        assert "ENCRYPTION_KEY: is not the key that this database was made with" in run.output
        assert "Traceback" not in run.output


class TestKilledParts:
    """Any part may be killed at any moment: nothing is left behind, and what should run runs again."""

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
    def test_a_signal_to_the_group_ends_all_of_it_within_seconds(
        self, start: Starter, port: int, number: signal.Signals
    ) -> None:
        run = start(command="scripts/run").wait_until_it_answers()
        assert len(run.processes()) >= 4, "supervisor, gunicorn, its worker, agent"
        assert run.stop(number) < 9
        assert run.process.returncode == 0
        assert not is_open(port)
        assert "Traceback" not in run.output

    def test_a_signal_to_the_supervisor_alone_ends_all_of_it(self, start: Starter, port: int) -> None:
        run = start().wait_until_it_answers()
        (supervisor,) = run.find("scripts/supervise.py")
        os.kill(supervisor, signal.SIGTERM)
        assert run.process.wait(15) == 0
        wait_until(lambda: not run.processes(), 5, "nothing is left")
        assert not is_open(port)

    def test_a_killed_supervisor_leaves_nothing_on_the_port(self, start: Starter, port: int) -> None:
        run = start().wait_until_it_answers()
        (supervisor,) = run.find("scripts/supervise.py")
        os.kill(supervisor, signal.SIGKILL)
        wait_until(lambda: not run.processes(), 15, "nothing is left")
        assert not is_open(port)

    def test_a_killed_gunicorn_comes_back(self, running: MakeRun) -> None:
        master = running.find("bin/gunicorn")[0]
        os.kill(master, signal.SIGKILL)
        # The old worker ends as well, and does not answer in the new one's place.
        wait_until(lambda: self.has_new_web(running, master), 25, "one new master and one new worker")
        wait_until(running.answers, 25, "the page answers again")
        assert running.process.poll() is None

    def test_a_killed_worker_is_replaced(self, running: MakeRun) -> None:
        wait_until(lambda: len(running.find("bin/gunicorn")) == 2, 10, "the worker runs")
        worker = running.find("bin/gunicorn")[1]
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: self.has_new_web(running, worker), 25, "one master and one new worker")
        wait_until(running.answers, 25, "the page answers again")

    def test_a_killed_agent_comes_back(self, running: MakeRun) -> None:
        wait_until(lambda: running.find("postern agent"), 15, "the agent runs")
        (agent,) = running.find("postern agent")
        os.kill(agent, signal.SIGKILL)
        wait_until(lambda: running.find("postern agent") not in ([], [agent]), 15, "a new agent runs")
        assert running.answers()

    @staticmethod
    def has_new_web(running: MakeRun, killed: int) -> bool:
        found = running.find("bin/gunicorn")
        return len(found) == 2 and killed not in found


@pytest.mark.tunnel
class TestTools:
    """A ``wg`` that is gone or hangs: what is decided is stored, the page says why it is not live yet."""

    @pytest.fixture
    def network(self) -> Iterator[Network]:
        with open_network() as network:
            yield network

    @pytest.fixture
    def managed(self, network: Network, start: Starter, folder: Path) -> Callable[..., tuple[MakeRun, Curl]]:
        """Start in mode manage with a PATH, and wait until it answers inside the namespace."""
        interface = unique_interface()
        person = Curl("http://127.0.0.1:8000", folder, network.server.argv)

        def managed(path: str) -> tuple[MakeRun, Curl]:
            run = start(
                prefix=network.server.argv(),
                answers=person.answers,
                PATH=path,
                PORT="8000",
                INTERFACE_MODE="manage",
                WG_INTERFACE=interface,
                WG_ENDPOINT="192.0.2.1:51820",
            )
            return run.wait_until_it_answers(), person

        return managed

    @staticmethod
    def check_pending(person: Curl, name: str, reason: str) -> None:
        """A profile is added quickly, stays pending with the reason, and its file is there all the same."""
        began = time.monotonic()
        profile = person.add(name)
        assert time.monotonic() - began < QUICK_S
        assert profile["state"] == "pending"
        wait_until(lambda: person.profile(name)["pending_reason"] is not None, 20, "the reason is told")
        assert reason in person.profile(name)["pending_reason"]
        for page in ("/profiles/", f"/profiles/{profile['id']}", "/server", "/readyz"):
            began = time.monotonic()
            assert person.get(page).status in {200, 303}, page
            assert time.monotonic() - began < QUICK_S, page
        assert person.profile(name)["state"] == "pending"
        assert person.fetch(name).read_text(encoding="utf-8").startswith("[Interface]\n")

    def test_a_missing_wg_leaves_profiles_pending_with_the_reason_until_it_is_there(
        self, managed: Callable[..., tuple[MakeRun, Curl]], folder: Path
    ) -> None:
        run, person = managed(small_path(folder / "bare"))
        assert person.set_up(run.setup_link, "nora", PASSWORD).status == 303
        person.make_token()
        self.check_pending(person, "phone", "wg")
        assert "Traceback" not in run.output
        run.stop()
        run, person = managed(small_path(folder / "whole", "wg", "wireguard-go"))
        wait_until(lambda: person.profile("phone")["state"] == "ready", 15, "the profile is live")

    def test_a_hanging_wg_leaves_profiles_pending_and_holds_nobody_up(
        self, managed: Callable[..., tuple[MakeRun, Curl]], folder: Path
    ) -> None:
        run, person = managed(small_path(folder / "whole", "wg", "wireguard-go"))
        assert person.set_up(run.setup_link, "nora", PASSWORD).status == 303
        person.make_token()
        person.add("before")
        wait_until(lambda: person.profile("before")["state"] == "ready", 15, "the profile is live")
        run.stop()
        hanging = Path(small_path(folder / "hanging", "wireguard-go", "sleep"))
        (hanging / "wg").write_text(f"#!/bin/sh\nexec {shutil.which('sleep')} 3600\n", encoding="ascii")
        (hanging / "wg").chmod(0o755)
        run, person = managed(str(hanging))
        self.check_pending(person, "phone", "wg")
        assert person.profile("before")["state"] == "ready", "what was confirmed is still true"
        assert "Traceback" not in run.output
        assert run.stop() < 15
        assert run.find("sleep") == []
