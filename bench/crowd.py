"""Many clients at once, in a process of their own: ``python -m bench.crowd``, a JSON order in, a JSON report out."""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

from bench.http import Client, by_token


def create_at_once(order: dict[str, Any]) -> dict[str, Any]:
    """Create profiles from ``clients`` threads for ``seconds`` and tell times, failures and the addresses given."""
    answers: list[tuple[float, int, str]] = []
    start = threading.Barrier(order["clients"] + 1)
    end = [0.0]

    def work(number: int) -> None:
        client = Client(order["port"], by_token(order["token"]))
        client.request("GET", "/healthz")
        start.wait()
        count = 0
        while time.monotonic() < end[0]:
            body = json.dumps({"name": f"{order['prefix']}-{number}-{count}"}).encode()
            begun = time.monotonic()
            try:
                answer = client.request("POST", "/api/v1/profiles", body)
                status = answer.status
                address = json.loads(answer.body)["ipv4_address"] if status == 201 else answer.body.decode()[:300]
            except (OSError, EOFError) as error:
                status, address = 0, repr(error)
            answers.append((time.monotonic() - begun, status, address))
            count += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(order["clients"])]
    for thread in threads:
        thread.start()
    begun = time.monotonic()
    end[0] = begun + order["seconds"]
    start.wait()
    for thread in threads:
        thread.join()
    elapsed = time.monotonic() - begun
    good = [address for _, status, address in answers if status == 201]
    return {
        "rate": len(good) / elapsed,
        "times": [duration for duration, status, _ in answers if status == 201],
        "failures": [[status, text] for _, status, text in answers if status != 201],
        "addresses": good,
    }


def make_keys(order: dict[str, Any]) -> dict[str, Any]:
    """Run the bare loop of ``wg genkey`` and ``wg pubkey`` in as many threads, and tell its rate."""
    from webapp.services.wg import generate_key_pair

    counts = [0] * order["clients"]
    generate_key_pair(order["wg"])
    end = time.monotonic() + order["seconds"]

    def work(number: int) -> None:
        while time.monotonic() < end:
            generate_key_pair(order["wg"])
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(order["clients"])]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"rate": sum(counts) / (time.monotonic() - begun)}


if __name__ == "__main__":
    given = json.load(sys.stdin)
    json.dump({"create": create_at_once, "keys": make_keys}[given["what"]](given), sys.stdout)
