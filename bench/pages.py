"""The list, as page and as API, for a person with few and one with very many profiles; one file; memory after that."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import event

from bench.deployment import Deployment, children_of, deployment, pss_mb
from bench.http import Client
from bench.report import Row, at_most, ms
from bench.stored import fill
from webapp import create_app

FEW = 50
SECTION = "pages"


def measure(profiles: int, *, is_quick: bool) -> list[Row]:
    """Measure with one worker, then how much memory the worker has taken."""
    rounds = 30 if is_quick else 100
    people = {f"{FEW} profiles": "alice", f"{profiles:,} profiles": "bob"}
    with deployment() as place:
        for person, count in (("bob", profiles), ("alice", FEW)):
            place.add_person(person)
            fill(place, person, count)
        with place.web() as server:
            rows = []
            for whose, person in people.items():
                rows += _list(place, person, f"for a person with {whose}", rounds)
            script = place.client("alice")
            times = _times(lambda: _get(script, f"/profiles/device%20{profiles + 3}.conf"), rounds)
            rows.append(Row(SECTION, f"download one file of {profiles + FEW:,}, p50 / p95", ms(times), _p50(times)))
            for number in range(200):
                answer = script.request("POST", "/api/v1/profiles", b'{"name": "phone %d"}' % number)
                assert answer.status == 201, answer
            workers = children_of(server.pid)
            both, worker = pss_mb(server.pid, *workers), pss_mb(*workers)
            what = f"web, one worker, PSS with its master, after {rounds * 6 + 200:,} requests"
            rows.append(at_most("memory", what, both, 90, f"{both:.0f} MB", " MB"))
            rows.append(Row("memory", "the worker alone", f"{worker:.0f} MB", worker))
        counts = {whose: _queries(place, person) for whose, person in people.items()}
    few, many = counts.values()
    is_constant = few == many
    measured = ", ".join(f"{path} {few[path]} and {many[path]}" for path in few)
    rows.append(Row(SECTION, "queries for the one and the other", measured, 0, "the same", is_constant))
    return rows


def _list(place: Deployment, person: str, whose: str, rounds: int) -> list[Row]:
    browser, script = place.browser(person), place.client(person)
    page = _times(lambda: _get(browser, "/profiles/"), rounds)
    listed = _times(lambda: _get(script, "/api/v1/profiles"), rounds)
    longest = _times(lambda: _get(script, "/api/v1/profiles?limit=500"), rounds // 2)
    return [
        at_most(SECTION, f"the list's page {whose}, p50 / p95", _p50(page) * 1000, 50, ms(page), " ms"),
        at_most(SECTION, f"the API's list {whose}", _p50(listed) * 1000, 50, ms(listed), " ms"),
        Row(SECTION, f"the same with limit=500 {whose}", ms(longest), _p50(longest) * 1000),
    ]


def _get(client: Client, path: str) -> None:
    answer = client.request("GET", path)
    assert answer.status == 200, (path, answer.status, answer.body[:500])
    assert answer.body, path


def _times(step: Callable[[], object], rounds: int) -> list[float]:
    for _ in range(10):
        step()
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        step()
        times.append(time.perf_counter() - begun)
    return times


def _p50(times: list[float]) -> float:
    return statistics.median(times)


def _queries(place: Deployment, person: str) -> dict[str, int]:
    """Count the statements of each kind of list in this process, where they can be seen."""
    app = create_app(place.services.settings)
    counted: list[str] = []

    def count(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if not statement.startswith("BEGIN"):
            counted.append(statement)

    engine = app.extensions["postern"].db.engine
    event.listen(engine, "before_cursor_execute", count)
    result = {}
    browser = place.services.sessions.open_session(place.services.accounts.find(person), "", "")
    with app.test_client() as client:
        with client.session_transaction() as session:
            session["sid"] = browser
        bearer = {"Authorization": f"Bearer {place.tokens[person]}"}
        for what, path, headers in (("page", "/profiles/", {}), ("API", "/api/v1/profiles", bearer)):
            client.get(path, headers=headers)
            counted.clear()
            assert client.get(path, headers=headers).status_code == 200
            result[what] = len(counted)
    engine.dispose()
    return result
