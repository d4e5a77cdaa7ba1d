"""Fills a database with profiles quickly: valid rows, keys sealed by the vault, in one transaction."""

from __future__ import annotations

import base64
import os
import sqlite3
from collections.abc import Iterator

from bench.deployment import Deployment
from webapp.services.profiles import PRESHARED_KEY, PRIVATE_KEY

COLUMNS = (
    "user_id, server_id, name, name_key, file_name, private_key, public_key, preshared_key, address_index,"
    " ipv4_address, ipv6_address, enabled, expires_at, notes, created_at, delivered_revision"
)
CREATED = "2026-01-01 00:00:00.000000"


def fill(place: Deployment, owner: str, count: int, *, with_status: bool = True) -> None:
    """Give the person so many profiles more, as if each had been created; the agent has seen them all."""
    with place.services.db.read() as session:
        server = place.services.servers.current(session)
    connection = sqlite3.connect(place.file, isolation_level=None)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("BEGIN IMMEDIATE")
    (index,) = connection.execute("SELECT next_index FROM address_sequences").fetchone()

    def rows() -> Iterator[tuple[object, ...]]:
        for number in range(index, index + count):
            public = base64.b64encode(os.urandom(32)).decode()
            yield (
                place.ids[owner], server.id, f"device {number}", f"device {number}", f"device-{number}",
                place.services.vault.seal(PRIVATE_KEY, public, os.urandom(32)), public,
                place.services.vault.seal(PRESHARED_KEY, public, os.urandom(32)),
                number, str(server.pool.ipv4(number)), None, True, None, "", CREATED, server.revision,
            )  # fmt: skip

    places = ", ".join("?" * len(COLUMNS.split(",")))
    connection.executemany(f"INSERT INTO vpn_profiles ({COLUMNS}) VALUES ({places})", rows())
    if with_status:
        connection.execute(
            "INSERT INTO peer_status (profile_id, public_key, confirmed_at, latest_handshake, endpoint, rx_bytes,"
            " tx_bytes, counter_rx, counter_tx, updated_at)"
            " SELECT id, public_key, ?, ?, '198.51.100.7:40000', 1000, 2000, 1000, 2000, ?"
            " FROM vpn_profiles WHERE address_index >= ?",
            (CREATED, CREATED, CREATED, index),
        )
    connection.execute("UPDATE address_sequences SET next_index = next_index + ?", (count,))
    connection.execute("UPDATE change_seq SET value = value + 1")
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
