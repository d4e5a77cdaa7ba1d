"""The ``postern`` command: stdout is for scripts, stderr for people, and an exit code tells how it ended."""

from __future__ import annotations

import io
import logging
import os
import signal
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import update

from webapp.agent import lead
from webapp.cli import main
from webapp.models import Server
from webapp.services import schema
from webapp.services.database import open_database

PASSWORD = "four random words"


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, and what it wrote."""

    code: int
    out: str
    err: str


class Shell:
    """Calls the command in this process, with the environment of a person."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, data: Path) -> None:
        self.capsys = capsys
        self.monkeypatch = monkeypatch
        self.data = data

    def run(self, *words: str, stdin: str = "") -> Ended:
        self.monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        self.capsys.readouterr()
        try:
            code = main(words)
        except SystemExit as end:
            code = int(str(end.code))
        out, err = self.capsys.readouterr()
        return Ended(code, out, err)

    def set(self, name: str, value: str) -> None:
        self.monkeypatch.setenv(name, value)


@pytest.fixture
def bare(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Shell]:
    """A shell before ``db upgrade``. What a command changes of this process is put back."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    mask = os.umask(0o022)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    root = logging.getLogger()
    loggers, level = list(root.handlers), root.level
    yield Shell(capsys, monkeypatch, tmp_path / "data")
    os.umask(mask)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    root.handlers[:] = loggers
    root.setLevel(level)


@pytest.fixture
def shell(bare: Shell) -> Shell:
    """A shell after ``db upgrade``, with a person named alice."""
    assert bare.run("db", "upgrade").code == 0
    assert bare.run("user", "create", "alice", "--no-password").code == 0
    return bare


class TestUpgrade:
    def test_it_makes_all_that_is_missing_and_then_nothing(self, bare: Shell) -> None:
        bare.set("ADMIN_USERNAME", "nora")
        bare.set("ADMIN_PASSWORD", PASSWORD)
        assert bare.run("db", "upgrade") == Ended(
            0,
            "",
            f"The database is at version {schema.CURRENT} now.\n"
            "The server is made: awg0, mode off, plain WireGuard.\n"
            "The first admin is nora.\n",
        )
        assert bare.run("db", "upgrade") == Ended(0, "", "")
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in bare.data.iterdir()}
        assert set(modes.values()) == {0o600}, modes
        assert stat.S_IMODE(bare.data.stat().st_mode) == 0o700

    def test_bad_settings_are_all_named_and_nothing_is_made(self, bare: Shell) -> None:
        bare.set("PORT", "none")
        bare.set("WG_MTU", "1")
        assert bare.run("db", "upgrade") == Ended(
            2,
            "",
            "The settings cannot be used:\n"
            "  PORT: 'none' is not a whole number from 1 to 65535\n"
            "  WG_MTU: '1' is not a whole number from 1280 to 1420\n",
        )
        assert not bare.data.exists()

    @pytest.mark.parametrize(
        "words",
        [
            ("user", "create", "bob", "--no-password"),
            ("profile", "create", "--user", "alice", "phone"),
            ("profile", "list"),
            ("token", "create", "--user", "alice"),
            ("agent", "--once"),
            ("setup-link",),
        ],
        ids=" ".join,
    )
    def test_before_it_every_command_says_what_to_type(self, bare: Shell, words: tuple[str, ...]) -> None:
        assert bare.run(*words) == Ended(
            2,
            "",
            "The settings cannot be used:\n"
            "  DATABASE_URL: this database has no tables yet; type: postern db upgrade (make run does it)\n",
        )

    def test_another_encryption_key_is_refused_by_every_command(self, shell: Shell) -> None:
        shell.set("ENCRYPTION_KEY", "0123456789abcdef0123456789abcdef")
        for words in (("db", "upgrade"), ("profile", "list"), ("agent", "--once"), ("setup-link",)):
            ended = shell.run(*words)
            assert (ended.code, ended.out) == (2, "")
            assert ended.err.startswith("The settings cannot be used:\n  ENCRYPTION_KEY: is not the key that this")

    def test_a_file_that_is_no_database_is_a_sentence(self, bare: Shell) -> None:
        bare.data.mkdir(mode=0o700)
        (bare.data / "postern.db").write_bytes(b"this is no database " * 1000)
        ended = bare.run("db", "upgrade")
        assert (ended.code, ended.out) == (1, "")
        assert ended.err.startswith("The database cannot be used right now.")
        assert "Traceback" not in ended.err

    def test_after_a_half_done_one_every_command_says_what_to_type(self, bare: Shell) -> None:
        bare.set("INTERFACE_MODE", "manage")
        bare.set("WG_SERVER_PUBLIC_KEY", "iooU8XWoS7Up5EBO+O5JqpMfiLISaBSSeLGQRgbW3Ds=")
        assert bare.run("db", "upgrade").code == 2
        assert bare.run("user", "create", "alice", "--no-password").code == 0
        ended = bare.run("profile", "create", "--user", "alice", "phone")
        assert (ended.code, ended.out) == (2, "")


class TestUser:
    def test_a_password_comes_from_standard_input(self, shell: Shell) -> None:
        ended = shell.run("user", "create", "bob", "--password-stdin", stdin=PASSWORD + "\n")
        assert ended == Ended(0, "", "bob can sign in now.\n")

    def test_without_a_password_it_says_so(self, shell: Shell) -> None:
        assert shell.run("user", "create", "bob", "--no-password") == Ended(
            0, "", "bob was made, without a password.\n"
        )

    @pytest.mark.parametrize(
        ("name", "password", "err"),
        [
            ("alice", PASSWORD, "username: There is already somebody named alice.\n"),
            (
                "a/b",
                "short",
                "username: A name cannot hold a slash.\n"
                "password: Use 8 characters or more. Four random words work well.\n",
            ),
            ("bob", "", "password: Use 8 characters or more. Four random words work well.\n"),
        ],
    )
    def test_bad_fields_are_told_line_by_line(self, shell: Shell, name: str, password: str, err: str) -> None:
        assert shell.run("user", "create", name, "--password-stdin", stdin=password + "\n") == Ended(1, "", err)


class TestProfile:
    def test_create_prints_the_file_and_nothing_else(self, shell: Shell) -> None:
        ended = shell.run("profile", "create", "--user", "ALICE", "phone")
        assert (ended.code, ended.err) == (0, "")
        assert ended.out.startswith("[Interface]\nPrivateKey = ")
        assert ended.out.endswith("PersistentKeepalive = 25\n")
        assert "Endpoint = 198.51.100.1:51820\n" in ended.out

    def test_its_file_is_up_to_date_until_the_server_changes(self, shell: Shell) -> None:
        shell.run("profile", "create", "--user", "alice", "phone")
        assert shell.run("profile", "list") == Ended(0, "1\talice\tphone\t10.8.0.2\tready\n", "")

    def test_without_an_endpoint_nothing_is_made(self, shell: Shell) -> None:
        db = open_database(f"sqlite:///{shell.data / 'postern.db'}")
        with db.write() as session:
            session.execute(update(Server).values(endpoint=None))
        db.close()
        assert shell.run("profile", "create", "--user", "alice", "phone") == Ended(
            1, "", "The server's address is not set yet. The person who runs it can set it.\n"
        )
        assert shell.run("profile", "list").out == ""

    @pytest.mark.parametrize(
        ("words", "err"),
        [
            (("--user", "bob", "phone"), "There is nobody named bob.\n"),
            (("--user", "alice", "7"), "name: A name needs more than digits.\n"),
        ],
    )
    def test_a_refusal_is_a_sentence(self, shell: Shell, words: tuple[str, ...], err: str) -> None:
        assert shell.run("profile", "create", *words) == Ended(1, "", err)

    def test_a_taken_name_offers_another(self, shell: Shell) -> None:
        shell.run("profile", "create", "--user", "alice", "phone")
        assert shell.run("profile", "create", "--user", "alice", "Phone") == Ended(
            1, "", "name: You already have a “Phone”. Try “Phone 2”.\n"
        )

    def test_the_list_is_of_all_or_of_one(self, shell: Shell) -> None:
        shell.run("user", "create", "bob", "--no-password")
        for user, name in (("alice", "phone"), ("bob", "tablet"), ("alice", "laptop")):
            shell.run("profile", "create", "--user", user, name)
        rows = [
            "1\talice\tphone\t10.8.0.2\tready\n",
            "2\tbob\ttablet\t10.8.0.3\tready\n",
            "3\talice\tlaptop\t10.8.0.4\tready\n",
        ]
        assert shell.run("profile", "list") == Ended(0, "".join(rows), "")
        assert shell.run("profile", "list", "--user", "alice") == Ended(0, rows[0] + rows[2], "")
        assert shell.run("profile", "list", "--user", "nobody") == Ended(1, "", "There is nobody named nobody.\n")

    def test_a_name_that_is_no_unicode_is_nobodys(self, shell: Shell) -> None:
        assert shell.run("profile", "list", "--user", "\udcff") == Ended(1, "", "There is nobody named ?.\n")


class TestToken:
    def test_create_prints_the_token_on_the_last_line(self, shell: Shell) -> None:
        ended = shell.run("token", "create", "--user", "alice")
        assert (ended.code, ended.err) == (0, "Keep this token safe: it is shown this once.\n")
        assert ended.out.startswith("postern_")
        assert ended.out.count("\n") == 1

    def test_an_unknown_scope_is_wrong_words(self, shell: Shell) -> None:
        assert shell.run("token", "create", "--user", "alice", "--scope", "root").code == 2

    def test_an_unknown_person_has_none(self, shell: Shell) -> None:
        assert shell.run("token", "create", "--user", "bob") == Ended(1, "", "There is nobody named bob.\n")


class TestSetupLink:
    def test_it_is_printed_while_there_is_no_user(self, bare: Shell) -> None:
        bare.run("db", "upgrade")
        first, second = (bare.run("setup-link") for _ in range(2))
        assert (first.code, first.err) == (0, "")
        assert first.out.startswith("http://127.0.0.1:8000/setup?token=")
        assert first.out != second.out

    def test_afterwards_there_is_none(self, shell: Shell) -> None:
        assert shell.run("setup-link") == Ended(1, "", "There is a user already; sign in instead.\n")
        assert shell.run("setup-link", "--quiet") == Ended(0, "", "")


class TestAgent:
    def test_once_looks_and_stops(self, shell: Shell) -> None:
        ended = shell.run("agent", "--once")
        assert (ended.code, ended.out) == (0, "")

    def test_where_another_leads_it_does_nothing(self, shell: Shell) -> None:
        held = lead(shell.data)
        assert held is not None
        with held:
            assert shell.run("agent", "--once") == Ended(0, "", "Another agent leads on this machine.\n")


class TestDoctor:
    def test_it_says_what_to_type_before_anything_was_made(self, bare: Shell) -> None:
        ended = bare.run("doctor")
        assert ended.code == 1
        assert f"MISSING the database: {bare.data}/postern.db does not exist yet\n        type: make run\n" in ended.out
        assert not (bare.data / "postern.db").exists()

    def test_it_sees_the_database_and_the_address(self, shell: Shell) -> None:
        ended = shell.run("doctor")
        assert f"ok      the database: version {schema.CURRENT}, mode off\n" in ended.out
        assert "ok      the address that devices connect to: 198.51.100.1:51820\n" in ended.out

    def test_a_broken_database_is_a_finding(self, bare: Shell) -> None:
        bare.data.mkdir(mode=0o700)
        (bare.data / "postern.db").write_bytes(b"this is no database " * 1000)
        assert "MISSING the database: The database cannot be used right now." in bare.run("doctor").out


class TestWords:
    COMMANDS = ("user", "profile", "token", "agent", "db", "backup", "restore", "doctor", "setup-link")

    def test_help_lists_every_command(self, bare: Shell) -> None:
        ended = bare.run("--help")
        assert ended.code == 0
        assert [name for name in self.COMMANDS if name not in ended.out] == []
