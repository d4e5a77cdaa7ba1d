"""Eight processes at once on one SQLite file: no address and no key twice, and whatever was answered exists."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from sqlalchemy import func, select, update

from webapp.models import AddressSequence, AuditEvent, ReleasedAddress, Server, VpnProfile
from webapp.services.audit import CONSOLE
from webapp.settings import ROOT
from webapp.wiring import Services

PROCESSES = 8
WORKER = """if True:
    import json, sys
    from webapp.errors import AppError
    from webapp.services.audit import Actor
    from webapp.services.database import open_database
    from webapp.services.wg import Tools
    from webapp.settings import Settings
    from webapp.wiring import build_services

    user_id, number, times = map(int, sys.argv[1:])
    settings = Settings.from_env()
    services = build_services(settings, open_database(settings.database_url), Tools())
    print("ready", flush=True)
    sys.stdin.readline()
    for n in range(times):
        try:
            made = services.profiles.create_profile(user_id, f"p {number} {n}", Actor("race"))
            answer = [made.id, made.ipv4_address, made.public_key]
        except AppError as error:
            answer = type(error).__name__
        print(json.dumps(answer), flush=True)
    services.db.close()
"""


def race(environ: dict[str, str], user_id: int, times: int, *, processes: int = PROCESSES) -> list[object]:
    """Let processes create profiles from the same moment on; return every answer."""
    children = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(user_id), str(number), str(times)],
            cwd=ROOT,
            env={**environ, "PATH": os.environ["PATH"]},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    answers: list[object] = []
    try:
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        for child in children:
            output, _ = child.communicate(timeout=60)
            assert child.returncode == 0
            answers += [json.loads(line) for line in output.splitlines()]
    finally:
        for child in children:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()
    return answers


@pytest.fixture
def network(services: Services) -> str:
    """Room for 200 and more."""
    with services.db.write() as session:
        session.execute(update(Server).values(network="10.8.0.0/16"))
    return "10.8.0.0/16"


def test_eight_processes_make_200_profiles_without_a_double(
    services: Services, environ: dict[str, str], network: str
) -> None:
    alice = services.accounts.create_user("alice", None).id
    answers = race(environ, alice, 25)
    assert len(answers) == 200
    assert all(isinstance(answer, list) for answer in answers), answers
    with services.db.read() as session:
        rows = session.execute(select(VpnProfile.id, VpnProfile.ipv4_address, VpnProfile.public_key)).all()
        stored = {tuple(row) for row in rows}
        assert session.scalar(select(AddressSequence.next_index)) == 202
        events = session.scalar(select(func.count()).where(AuditEvent.action == "profile.create"))
    assert {tuple(answer) for answer in answers if isinstance(answer, list)} == stored
    assert [len({row[column] for row in stored}) for column in range(3)] == [200, 200, 200]
    assert events == 200
    assert sorted(int(address.split(".")[3]) for _, address, _ in stored) == list(range(2, 202))


def test_of_twenty_who_want_the_last_address_one_gets_it(services: Services, environ: dict[str, str]) -> None:
    with services.db.write() as session:
        session.execute(update(Server).values(network="10.8.0.0/30"))
    alice = services.accounts.create_user("alice", None).id
    answers = race(environ, alice, 5, processes=4)
    winners = [answer for answer in answers if isinstance(answer, list)]
    assert len(winners) == 1
    assert [answer for answer in answers if answer not in winners] == ["PoolExhausted"] * 19
    with services.db.read() as session:
        assert [one.ipv4_address for one in session.scalars(select(VpnProfile))] == ["10.8.0.2"]
        assert session.scalars(select(ReleasedAddress)).all() == []
        assert session.scalar(select(AddressSequence.next_index)) == 3
        assert session.scalar(select(func.count()).where(AuditEvent.action == "profile.create")) == 1


def test_a_process_killed_in_the_middle_leaves_whole_profiles_only(
    services: Services, environ: dict[str, str], network: str
) -> None:
    alice = services.accounts.create_user("alice", None).id
    child = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(alice), "0", "100000"],
        cwd=ROOT,
        env={**environ, "PATH": os.environ["PATH"]},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.stdin.write("go\n")
    child.stdin.flush()
    answered = [json.loads(child.stdout.readline()) for _ in range(20)]
    child.kill()
    answered += [json.loads(line) for line in child.stdout.read().splitlines() if line.endswith("]")]
    child.wait()
    child.stdin.close()
    child.stdout.close()
    with services.db.read() as session:
        stored = [
            tuple(row) for row in session.execute(select(VpnProfile.id, VpnProfile.ipv4_address, VpnProfile.public_key))
        ]
        assert session.scalar(select(AddressSequence.next_index)) == len(stored) + 2
        assert session.scalar(select(func.count()).where(AuditEvent.action == "profile.create")) == len(stored)
    assert {tuple(answer) for answer in answered} <= set(stored)
    assert len(stored) - len(answered) in (0, 1)
    services.profiles.create_profile(alice, "after", CONSOLE)
