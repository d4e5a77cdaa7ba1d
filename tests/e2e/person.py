"""A person with a browser without JavaScript, a script with a token, and a device with ``wg-quick``."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

from tests.e2e.network import Space, daemon_of, wait_until

CSRF_FIELD = re.compile(r'name="csrf_token" value="([^"]+)"')


@dataclass(frozen=True)
class Answer:
    """What came back: ``location`` is empty where nobody was sent on."""

    status: int
    location: str
    text: str


class Curl:
    """``curl`` with the cookies of one person. ``inside`` makes the command run in a namespace."""

    def __init__(self, origin: str, folder: Path, inside: Callable[..., list[str]] | None = None) -> None:
        self.origin = origin
        self.folder = folder
        self.cookies = folder / "cookies"
        self.token = ""
        self._inside = inside or (lambda *words: list(map(str, words)))

    def ask(self, target: str, *words: str, stdin: str | None = None) -> Answer:
        """Ask for a path or a whole address; no answer within 15 s is status 0."""
        url = target if target.startswith("http") else self.origin + target
        form = ["-sS", "--noproxy", "*", "--max-time", "15", "-w", "\n%{http_code} %{redirect_url}"]
        argv = self._inside("curl", *form, *words, url)
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=20, check=False)
        text, _, status = done.stdout.rpartition("\n")
        code, _, location = status.partition(" ")
        return Answer(int(code or 0), location, text)

    def answers(self) -> bool:
        """Whether the page is alive."""
        return self.ask("/healthz").status == 200

    def get(self, target: str) -> Answer:
        """Open a page."""
        return self.ask(target, "-H", "Accept: text/html", "-b", self.cookies, "-c", self.cookies)

    def submit(self, page: str, action: str = "", **fields: str) -> Answer:
        """Open a page, fill in its form and send it to the action (the page itself where none is given)."""
        form = self.get(page)
        assert form.status == 200, f"{page}: {form}"
        found = CSRF_FIELD.search(form.text)
        assert found is not None, form.text
        words = ["-H", "Accept: text/html", "-b", self.cookies, "-c", self.cookies]
        for name, value in {"csrf_token": found[1], **fields}.items():
            words += ["--data-urlencode", f"{name}={value}"]
        return self.ask(action or page.partition("?")[0], *words)

    def api(self, method: str, path: str, body: object = None) -> Any:
        """Ask the API with the token; return its JSON, None where it has none. Raises AssertionError for a refusal."""
        words = ["-X", method, "-H", f"Authorization: Bearer {self.token}"]
        if body is not None:
            words += ["-H", "Content-Type: application/json", "--data", json.dumps(body)]
        answer = self.ask(f"/api/v1{path}", *words)
        assert 200 <= answer.status < 300, answer
        return json.loads(answer.text) if answer.text else None

    def set_up(self, link: str, username: str, password: str) -> Answer:
        """Make the first account by the link."""
        token = link.partition("token=")[2]
        return self.submit(link, "/setup", token=token, username=username, password=password)

    def make_token(self) -> None:
        """Make a token on its page and keep it."""
        answer = self.submit("/tokens", name="script")
        assert answer.status == 200, answer
        found = re.search(r"TOKEN=(\S+)", unescape(answer.text))
        assert found is not None, answer
        self.token = found[1]

    def add(self, name: str) -> dict[str, Any]:
        """Add a device by the form and return its profile."""
        answer = self.submit("/profiles/", name=name)
        assert (answer.status, answer.location) == (303, f"{self.origin}/profiles/"), answer
        return self.profile(name)

    def profile(self, name: str) -> dict[str, Any]:
        """Return the profile of that name, as the API shows it."""
        found = [item for item in self.api("GET", "/profiles?limit=500")["items"] if item["name"] == name]
        assert len(found) == 1, found
        profile: dict[str, Any] = found[0]
        return profile

    def delete(self, profile: dict[str, Any]) -> None:
        """Delete a device by the form."""
        page = f"/profiles/{profile['id']}/delete"
        assert self.submit(page).status == 303

    def fetch(self, name: str) -> Path:
        """Fetch a file into the folder by the line that the page shows."""
        command = ["curl", "-fsSO", "--noproxy", "*", "-H", f"Authorization: Bearer {self.token}"]
        argv = self._inside(*command, f"{self.origin}/profiles/{name}.conf")
        subprocess.run(argv, check=True, cwd=self.folder, timeout=20)
        return self.folder / f"{name}.conf"


class Device:
    """A device that has a file and switches it on and off with ``wg-quick``; its name server is written down."""

    def __init__(self, space: Space, file: Path, profile: dict[str, Any]) -> None:
        self.space = space
        self.file = file
        self.profile = profile
        self.name = file.stem
        self.public_key: str = profile["public_key"]
        programs = file.parent / "programs"
        self.name_servers = file.parent / f"{self.name}.resolv"
        programs.mkdir(exist_ok=True)
        # What distributions have for it would change the whole machine: namespaces share /etc.
        stub = programs / "resolvconf"
        stub.write_text(f'#!/bin/sh\n[ "$1" = -a ] && cat > "{file.parent}/$2.resolv"\nexit 0\n', encoding="ascii")
        stub.chmod(0o755)
        self._environ = {"PATH": f"{programs}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}

    def switch_on(self) -> None:
        self._wg_quick("up")

    def switch_off(self) -> None:
        self._wg_quick("down")
        wait_until(lambda: daemon_of(self.name) is None, 5, f"the daemon of {self.name} ends")

    def _wg_quick(self, verb: str) -> None:
        # The daemon keeps what it is given as output open, so it gets a file.
        log = self.file.with_suffix(".log")
        argv = self.space.argv("wg-quick", verb, f"./{self.file.name}")
        with log.open("wb") as sink:
            done = subprocess.run(
                argv,
                cwd=self.file.parent,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                timeout=20,
                check=False,
            )
        assert done.returncode == 0, log.read_text(encoding="utf-8")

    def pings(self, address: str) -> bool:
        return self.space.pings(address)

    @contextmanager
    def switched_on(self) -> Iterator[None]:
        """Keep it on for a while."""
        self.switch_on()
        try:
            yield
        finally:
            self.switch_off()
