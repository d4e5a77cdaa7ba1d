"""From process start to first answer: gunicorn with Postern, and gunicorn with an empty Flask + SQLAlchemy program."""

from __future__ import annotations

import compileall
import statistics
import time

from bench.deployment import ROOT, deployment, start, wait_for_answer, web_command
from bench.report import Row, at_most

SECTION = "cold start"


def measure(*, is_quick: bool) -> list[Row]:
    """Start them in turns; all bytecode is there before."""
    for folder in ("webapp", "bench"):
        compileall.compile_dir(ROOT / folder, quiet=2)
    compileall.compile_file(ROOT / "wsgi.py", quiet=2)
    times: dict[str, list[float]] = {"empty": [], "ready": [], "login": []}
    with deployment() as place:
        place.add_person("alice")
        environ = place.environ | {"EMPTY_DATABASE_URL": f"sqlite:///{place.folder / 'empty.db'}"}
        argv = web_command(place.services.settings)
        empty = [*argv[:-1], "bench.empty_app:app"]
        kinds = {"empty": (empty, "/"), "ready": (argv, "/readyz"), "login": (argv, "/login")}
        for turn in range(4 if is_quick else 9):
            for kind, (words, path) in kinds.items():
                begun = time.monotonic()
                process = start(words, environ)
                try:
                    answered = wait_for_answer(place.port, process, path)
                finally:
                    process.stop()
                if turn:  # The first round warms the disk's cache.
                    times[kind].append(answered - begun)
    p50 = {kind: statistics.median(values) for kind, values in times.items()}
    ratio, login = p50["ready"] / p50["empty"], p50["login"] / p50["empty"]
    return [
        Row(SECTION, "gunicorn + empty Flask + SQLAlchemy program", f"{p50['empty'] * 1000:.0f} ms", p50["empty"]),
        at_most(SECTION, "gunicorn + Postern, to /readyz (one query, as the empty one)", ratio, 1.25,
                f"{p50['ready'] * 1000:.0f} ms = {ratio:.2f} × empty", " × empty"),
        Row(SECTION, "gunicorn + Postern, to the whole sign-in page",
            f"{p50['login'] * 1000:.0f} ms = {login:.2f} × empty", login),
    ]  # fmt: skip
