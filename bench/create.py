"""Creating profiles over HTTP, beside the bare making of keys: one by one, and eight at once."""

from __future__ import annotations

import json
import shutil
import sqlite3
import statistics
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack

from bench.deployment import Deployment, deployment, run_crowd
from bench.http import Client, by_token
from bench.report import Row, at_least, at_most, ms
from bench.stored import fill
from webapp.services.wg import generate_key_pair

CLIENTS = 8
SECTION = "create"


def measure(profiles: int, *, is_quick: bool) -> list[Row]:
    """Measure with nothing stored and with ``profiles`` stored, in turns, so that noise hits both alike."""
    wg = shutil.which("wg")
    if wg is None:
        return [Row(SECTION, "skipped: wg is missing", "", 0)]
    rounds, seconds, turns = (60, 1.5, 1) if is_quick else (150, 2.5, 3)
    with ExitStack() as stack:
        empty, full = (stack.enter_context(deployment()) for _ in range(2))
        for place in (empty, full):
            place.add_person("writer")
        fill(full, "writer", profiles)
        with ExitStack() as servers:
            for place in (empty, full):
                servers.enter_context(place.web())
            rows = _one_by_one(wg, empty, full, profiles, rounds)
        rows += _at_once(wg, empty, full, profiles, seconds, turns)
    return rows


def _one_by_one(wg: str, empty: Deployment, full: Deployment, profiles: int, rounds: int) -> list[Row]:
    clients = {"empty": empty.client("writer"), "full": full.client("writer")}
    fresh = Client(empty.port, by_token(empty.tokens["writer"]) + "Connection: close\r\n")
    count = 0

    def create(client: Client) -> Callable[[], None]:
        def run() -> None:
            nonlocal count
            count += 1
            answer = client.request("POST", "/api/v1/profiles", json.dumps({"name": f"one-{count}"}).encode())
            assert answer.status == 201, (answer.status, answer.body)

        return run

    steps: dict[str, Callable[[], object]] = {
        "keys": lambda: generate_key_pair(wg),
        "plain keys": lambda: _keys_by_subprocess(wg),
        "new connection": create(fresh),
    } | {name: create(client) for name, client in clients.items()}
    for _ in range(10):
        for step in steps.values():
            step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            begun = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - begun)
    p50 = {name: statistics.median(values) for name, values in times.items()}
    ratio, growth = p50["empty"] / p50["keys"], p50["full"] / p50["empty"]
    return [
        Row(SECTION, "keys alone (wg genkey, wg pubkey), p50 / p95", ms(times["keys"]), p50["keys"]),
        Row(SECTION, "the same by plain subprocess.run", ms(times["plain keys"]), p50["plain keys"]),
        at_most(SECTION, "one by one, none stored, p50 / p95", ratio, 4, f"{ms(times['empty'])} = {ratio:.1f} × keys",
                " × keys"),
        Row(SECTION, "the same, a new connection each", ms(times["new connection"]), p50["new connection"]),
        at_most(SECTION, f"one by one, {profiles:,} stored", growth, 1.5,
                f"{ms(times['full'])} = {growth:.2f} × none stored", " × none stored"),
    ]  # fmt: skip


def _keys_by_subprocess(wg: str) -> None:
    private = subprocess.run([wg, "genkey"], capture_output=True, check=True).stdout
    subprocess.run([wg, "pubkey"], input=private, capture_output=True, check=True)


def _at_once(wg: str, empty: Deployment, full: Deployment, profiles: int, seconds: float, turns: int) -> list[Row]:
    keys: list[float] = []
    places = {"none stored, 1 worker": (empty, 1), f"{profiles:,} stored, 1 worker": (full, 1),
              "none stored, 2 workers": (empty, 2)}  # fmt: skip
    rates: dict[str, list[float]] = {name: [] for name in places}
    failures = duplicates = created = 0
    first_failure = ""
    for turn in range(turns):
        order = {"what": "keys", "wg": wg, "clients": CLIENTS, "seconds": seconds / 2}
        keys.append(float(run_crowd(order)["rate"]))  # type: ignore[arg-type]
        for name, (place, workers) in places.items():
            with place.web(workers):
                common = {"what": "create", "port": place.port, "token": place.tokens["writer"], "clients": CLIENTS}
                run_crowd({**common, "seconds": 0.4, "prefix": f"warm-{turn}-{workers}"})
                before = _stored(place)
                report = run_crowd({**common, "seconds": seconds, "prefix": f"crowd-{turn}-{workers}"})
                after = _stored(place)
            addresses, failed = report["addresses"], report["failures"]
            assert isinstance(addresses, list)
            assert isinstance(failed, list)
            rates[name].append(float(report["rate"]))  # type: ignore[arg-type]
            created += len(addresses)
            failures += len(failed) + abs(after - before - len(addresses))
            duplicates += len(addresses) - len(set(addresses))
            first_failure = first_failure or (f" (first: {failed[0]})" if failed else "")
    floor = statistics.median(keys)
    rows = [Row(SECTION, f"keys alone in {CLIENTS} threads", f"{floor:.0f}/s", floor)]
    for name, values in rates.items():
        rate = statistics.median(values)
        what, measured = f"{CLIENTS} clients, {name}", f"{rate:.0f}/s = {rate / floor:.2f} × keys"
        rows.append(
            at_least(SECTION, what, rate / floor, 0.3, measured, " × keys")
            if name == "none stored, 1 worker"
            else Row(SECTION, what, measured, rate / floor)
        )
    rows.append(at_most(SECTION, f"failures in {created:,} made at once", failures, 0, f"{failures}{first_failure}"))
    rows.append(at_most(SECTION, "the same address given twice", duplicates, 0, f"{duplicates}"))
    return rows


def _stored(place: Deployment) -> int:
    connection = sqlite3.connect(f"file:{place.file}?mode=ro", uri=True)
    (count,) = connection.execute("SELECT count(*) FROM vpn_profiles WHERE name_key LIKE 'crowd-%'").fetchone()
    connection.close()
    return int(count)
