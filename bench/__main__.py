"""``python -m bench [--quick] [--profiles N] [--only SECTION …] [--json FILE]``: measure and print."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench import create, pages, peers, startup
from bench.report import Row, table, to_json

PROFILES = 100_000
PROFILES_IF_QUICK = 20_000


def main() -> int:
    """Run the sections one after the other and print one table. Always 0: a figure is no test."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure Postern against its targets.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: under 90 seconds, rougher figures")
    parser.add_argument(
        "--profiles", type=int, metavar="N", help=f"stored profiles ({PROFILES:,}; quick: {PROFILES_IF_QUICK:,})"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too; - is stdout alone")
    words = parser.add_argument("--only", nargs="+", metavar="SECTION", help="create, pages, start, agent")
    arguments = parser.parse_args()
    quick = arguments.quick
    profiles = arguments.profiles or (PROFILES_IF_QUICK if quick else PROFILES)
    # An end by SIGTERM is an end all the same: what was started is stopped, what was written is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sections: dict[str, Callable[[], list[Row]]] = {
        "create": lambda: create.measure(profiles, is_quick=quick),
        "pages": lambda: pages.measure(profiles, is_quick=quick),
        "start": lambda: startup.measure(is_quick=quick),
        "agent": lambda: peers.measure(is_quick=quick),
    }
    chosen = arguments.only or list(sections)
    if unknown := set(chosen) - set(sections):
        parser.error(str(argparse.ArgumentError(words, f"no such section: {', '.join(sorted(unknown))}")))
    rows: list[Row] = []
    begun, load = time.monotonic(), os.getloadavg()[0]
    for name in chosen:
        print(f"bench: {name} …", file=sys.stderr, flush=True)
        rows += sections[name]()
    loads = f"load {load:.1f} before, {os.getloadavg()[0]:.1f} at the end, on {os.cpu_count()} cores"
    print(f"bench: {time.monotonic() - begun:.0f} s; {loads}", file=sys.stderr)
    if arguments.json == Path("-"):
        print(to_json(rows))
        return 0
    print(table(rows))
    if arguments.json is not None:
        arguments.json.write_text(to_json(rows) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
