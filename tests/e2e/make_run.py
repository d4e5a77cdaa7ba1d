"""``make run`` as a person types it: its processes, what it prints, and how it is stopped."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from dotenv import dotenv_values

from tests.e2e.network import wait_until

ROOT = Path(__file__).resolve().parents[2]
START_S = 90
"""How long a start may take on a slow machine; it takes about three seconds, and 22 where four times too much runs."""


def clean_environment(**variables: str) -> dict[str, str]:
    """Return an environment of these variables only; what a ``.env`` beside the tests says is put out of force."""
    stored = dict.fromkeys(dotenv_values(ROOT / ".env"), "")
    return {**stored, "PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", **variables}


class MakeRun:
    """One start of Postern in a process group of its own.

    ``answers`` asks whether the page is there. ``prefix`` is what stands before the command, such as a namespace.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        output: Path,
        answers: Callable[[], bool],
        *,
        prefix: Sequence[str] = (),
        command: Sequence[str] = ("make", "run"),
    ) -> None:
        self.environ = environ
        self.answers = answers
        self._output = output
        with output.open("wb") as sink:
            self.process = subprocess.Popen(
                [*prefix, *command],
                cwd=ROOT,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """What it printed so far."""
        return self._output.read_text(encoding="utf-8", errors="replace")

    def wait_until_it_answers(self) -> MakeRun:
        """Wait for the first answer. Raises AssertionError with the output when it ends instead."""

        def is_decided() -> bool:
            return self.process.poll() is not None or self.answers()

        try:
            wait_until(is_decided, START_S, "the page answers")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.output}") from None
        assert self.process.poll() is None, self.output
        return self

    @property
    def setup_link(self) -> str:
        """The one-time link that it printed."""
        found = re.search(r"^ +(http\S+/setup\?token=\S+)$", self.output, re.MULTILINE)
        assert found is not None, self.output
        return found[1]

    def processes(self) -> dict[int, str]:
        """Return everything that belongs to this start: by its group, or by carrying its DATA_DIR."""
        found = {}
        mark = f"DATA_DIR={self.environ['DATA_DIR']}".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, ValueError):
                words = (folder / "cmdline").read_bytes().split(b"\0")
                if not words[0]:
                    continue  # Dead already, and not yet waited for.
                in_group = os.getpgid(int(folder.name)) == self.process.pid
                if in_group or mark in (folder / "environ").read_bytes().split(b"\0"):
                    found[int(folder.name)] = b" ".join(words).decode("utf-8", "replace")
        return found

    def find(self, words: str) -> list[int]:
        """Return the ids of the processes whose command line has these words, oldest first."""
        return sorted(pid for pid, line in self.processes().items() if words in line)

    def stop(self, number: int = signal.SIGTERM) -> float:
        """Send one signal to the group, as a terminal does; return the seconds until nothing was left."""
        began = time.monotonic()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)
        try:
            self.process.wait(timeout=30)
            wait_until(lambda: not self.processes(), 10, "all processes of Postern end")
        except (AssertionError, subprocess.TimeoutExpired) as error:
            raise AssertionError(f"{error}: {self.processes()}\n{self.output}") from None
        return time.monotonic() - began

    def kill(self) -> None:
        """Leave nothing behind, whatever state it is in."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(timeout=10)
        wait_until(lambda: not self.processes(), 10, "all processes of Postern end")
