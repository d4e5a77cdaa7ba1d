"""Backups: one private file that is a whole database, taken under writes, and proven before it gets its name."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import select, update

from tests.fakes import Clock
from webapp import cli
from webapp.models import ChangeSeq, VpnProfile
from webapp.services import backup as module
from webapp.services import migrator
from webapp.services.audit import CONSOLE
from webapp.services.backup import BackupRefused, BackupService, check, check_whole, decrypt, encrypt, is_encrypted
from webapp.services.restore import RestoreService
from webapp.services.tombstones import Tombstones
from webapp.services.transfer import open_file, sum_tables
from webapp.services.vault import Vault
from webapp.settings import ROOT
from webapp.wiring import Services

WORDS = "correct horse battery"


def backups_of(services: Services) -> BackupService:
    return BackupService(services.db, services.vault, services.settings.data_dir, services.clock)


@pytest.fixture
def backups(services: Services) -> BackupService:
    services.accounts.create_user("alice", None, is_admin=False)
    services.profiles.create_profile(1, "phone", CONSOLE)
    return backups_of(services)


@pytest.fixture
def plain(backups: BackupService, tmp_path: Path) -> Path:
    backups.make(tmp_path / "plain.db")
    return tmp_path / "plain.db"


def keys_in(path: Path) -> set[str]:
    with open_file(path).connect() as connection:
        return set(connection.scalars(select(VpnProfile.public_key)))


class TestFile:
    def test_it_is_one_private_file_with_everything_in_it(self, each_services: Services, tmp_path: Path) -> None:
        alice = each_services.accounts.create_user("alice", None, is_admin=True).id
        each_services.profiles.create_profile(alice, "phone", CONSOLE)
        gone = each_services.profiles.create_profile(alice, "laptop", CONSOLE)
        each_services.profiles.delete_profile(alice, gone.id, CONSOLE)
        each_services.tokens.create_token(alice, "script", "all", CONSOLE)
        folder = tmp_path / "elsewhere"
        folder.mkdir()
        old = os.umask(0)
        try:
            contents = backups_of(each_services).make(folder / "b.db")
        finally:
            os.umask(old)
        assert [path.name for path in folder.iterdir()] == ["b.db"]
        assert stat.S_IMODE((folder / "b.db").stat().st_mode) == 0o600
        assert contents == check(folder / "b.db", each_services.vault)
        with open_file(folder / "b.db").connect() as copy, each_services.db.read() as session:
            assert sum_tables(copy) == sum_tables(session.connection())
        with closing(sqlite3.connect(folder / "b.db")) as copy:
            assert copy.execute("PRAGMA journal_mode").fetchone() == ("delete",)
            last = copy.execute("SELECT seq FROM sqlite_sequence WHERE name = 'vpn_profiles'").fetchone()
        assert last == (gone.id,), "the id of a deleted profile is not given again after a restore either"

    def test_neither_the_encryption_key_nor_a_private_key_is_inside(
        self, services: Services, plain: Path, environ: dict[str, str]
    ) -> None:
        with services.db.read() as session:
            text = services.profiles.profile_file(session, 1, "phone").text
        private = next(line for line in text.splitlines() if line.startswith("PrivateKey")).split(" = ")[1]
        content = plain.read_bytes()
        assert environ["ENCRYPTION_KEY"].encode() not in content
        assert private.encode() not in content
        assert services.vault.key_id.encode() in content

    def test_five_taken_under_writes_each_hold_what_was_confirmed_before(
        self, each_services: Services, tmp_path: Path
    ) -> None:
        services = each_services
        alice = services.accounts.create_user("alice", None, is_admin=False).id
        answered: list[str] = []
        stop = threading.Event()

        def create(thread: int) -> None:
            number = 0
            while not stop.is_set():
                profile = services.profiles.create_profile(alice, f"{thread} {number}", CONSOLE)
                answered.append(profile.public_key)
                number += 1
                stop.wait(0.01)

        threads = [threading.Thread(target=create, args=(thread,)) for thread in range(3)]
        for thread in threads:
            thread.start()
        taken = []
        try:
            for number in range(5):
                wanted = len(answered) + 5
                while len(answered) < wanted:
                    assert all(thread.is_alive() for thread in threads)
                    stop.wait(0.01)
                before = set(answered)
                backups_of(services).make(tmp_path / f"{number}.db")
                taken.append((tmp_path / f"{number}.db", before))
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        for path, before in taken:
            assert before <= keys_in(path) <= set(answered)
        # From the newest to the oldest: a restore takes out for good what is not in its file.
        restorer = RestoreService(
            services.db, services.vault, Tombstones(tmp_path), services.settings.data_dir, services.clock
        )
        for path, before in reversed(taken):
            with restorer.open(path, None, migrator.upgrade) as opened:
                restorer.restore(opened, path.name)
            with services.db.read() as session:
                stored = session.execute(select(VpnProfile.public_key, VpnProfile.address_index)).all()
            assert {key for key, _ in stored} == keys_in(path) >= before
            assert len({index for _, index in stored}) == len(stored)


class TestRefused:
    def test_an_existing_file_stays_unless_it_is_forced(self, backups: BackupService, tmp_path: Path) -> None:
        file = tmp_path / "b.db"
        file.write_text("precious")
        with pytest.raises(BackupRefused) as caught:
            backups.make(file)
        assert str(caught.value) == f"{file} exists already. Take another name, or --force."
        assert file.read_text() == "precious"
        backups.make(file, force=True)
        assert check_whole(file)

    def test_a_folder_that_is_not_there(self, backups: BackupService, tmp_path: Path) -> None:
        with pytest.raises(BackupRefused) as caught:
            backups.make(tmp_path / "nowhere" / "b.db")
        assert str(caught.value) == (
            "The backup could not be made: No such file or directory. No file was left behind."
        )

    def test_a_short_passphrase(self, backups: BackupService, tmp_path: Path) -> None:
        with pytest.raises(BackupRefused) as caught:
            backups.make(tmp_path / "b.db", passphrase="seven77")
        assert str(caught.value) == "The passphrase is too short: 8 characters or more."

    def test_a_backup_that_does_not_open_gets_no_name(
        self, services: Services, backups: BackupService, tmp_path: Path
    ) -> None:
        with services.db.write() as session:
            session.execute(update(VpnProfile).values(preshared_key=b"moved from another row"))
        with pytest.raises(BackupRefused):
            backups.make(tmp_path / "b.db")
        assert list(tmp_path.glob("b.db*")) == []

    @pytest.mark.parametrize("passphrase", [None, WORDS])
    def test_a_full_disk_leaves_no_file_and_keeps_the_old_one(
        self, services: Services, backups: BackupService, tmp_path: Path, passphrase: str | None
    ) -> None:
        file = tmp_path / "b.db"
        file.write_text("the last good one")
        program = f"""if True:
            import resource, signal
            from datetime import UTC, datetime
            from pathlib import Path
            from webapp.services.backup import BackupRefused, BackupService
            from webapp.services.database import open_database
            from webapp.services.vault import Vault
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            db = open_database({services.settings.database_url!r})
            vault = Vault({services.settings.encryption_key!r})
            backups = BackupService(db, vault, Path({str(services.settings.data_dir)!r}), lambda: datetime.now(UTC))
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
            try:
                backups.make(Path({str(file)!r}), force=True, passphrase={passphrase!r})
            except BackupRefused as error:
                print("refused")
        """
        done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
        assert (done.stdout, done.stderr) == ("refused\n", "")
        assert [path.name for path in tmp_path.glob("b.db*")] == ["b.db"]
        assert file.read_text() == "the last good one"
        assert list(services.settings.data_dir.glob("backup-*")) == []


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of three chunks under the passphrase."""
    folder = tmp_path_factory.mktemp("sealed")
    (folder / "plain").write_bytes(os.urandom(2 * module.CHUNK + 100))
    (folder / "sealed").touch()
    encrypt(folder / "plain", folder / "sealed", WORDS)
    return folder / "sealed"


class TestPassphrase:
    @pytest.mark.parametrize("size", [0, 1, module.CHUNK - 1, module.CHUNK, module.CHUNK + 1, 3 * module.CHUNK])
    def test_what_goes_in_comes_out_whatever_its_size(self, tmp_path: Path, size: int) -> None:
        plain, sealed, again = (tmp_path / name for name in ("plain", "sealed", "again"))
        plain.write_bytes(os.urandom(size))
        sealed.touch()
        encrypt(plain, sealed, WORDS)
        assert is_encrypted(sealed)
        assert not is_encrypted(plain)
        decrypt(sealed, again, WORDS)
        assert again.read_bytes() == plain.read_bytes()
        assert stat.S_IMODE(again.stat().st_mode) == 0o600

    CHANGES: dict[str, Callable[[bytes], bytes]] = {  # noqa: RUF012 - a table of cases
        "a changed salt": lambda content: _flipped(content, len(module.MAGIC) + 3),
        "a changed first chunk": lambda content: _flipped(content, 100),
        "a changed middle chunk": lambda content: _flipped(content, module.CHUNK + 100),
        "a changed last byte": lambda content: _flipped(content, len(content) - 1),
        "a missing last byte": lambda content: content[:-1],
        "a missing last chunk": lambda content: content[: _HEAD + 2 * _SEALED],
        "only the first chunk": lambda content: content[: _HEAD + _SEALED],
        "no chunk": lambda content: content[:_HEAD],
        "half a salt": lambda content: content[: _HEAD - 8],
        "one byte more": lambda content: content + b"\0",
        "the last chunk twice": lambda content: content + content[_HEAD + 2 * _SEALED :],
        "two chunks in another order": lambda content: (
            content[:_HEAD]
            + content[_HEAD + _SEALED : _HEAD + 2 * _SEALED]
            + content[_HEAD : _HEAD + _SEALED]
            + content[_HEAD + 2 * _SEALED :]
        ),
    }

    @pytest.mark.parametrize("change", CHANGES)
    def test_any_change_is_noticed(self, sealed: Path, tmp_path: Path, change: str) -> None:
        (tmp_path / "changed").write_bytes(self.CHANGES[change](sealed.read_bytes()))
        with pytest.raises(BackupRefused) as caught:
            decrypt(tmp_path / "changed", tmp_path / "plain", WORDS)
        assert str(caught.value) in {
            "The passphrase is wrong, or the file is damaged. Nothing was changed.",
            "This file was cut short or damaged. Nothing was changed.",
        }

    def test_another_passphrase(self, sealed: Path, tmp_path: Path) -> None:
        with pytest.raises(BackupRefused) as caught:
            decrypt(sealed, tmp_path / "plain", WORDS + "x")
        assert str(caught.value) == "The passphrase is wrong, or the file is damaged. Nothing was changed."

    def test_a_letter_that_two_keyboards_write_differently_is_the_same(self, tmp_path: Path) -> None:
        (tmp_path / "plain").write_bytes(b"x")
        (tmp_path / "sealed").touch()
        encrypt(tmp_path / "plain", tmp_path / "sealed", "caf\u00e9 au lait")
        decrypt(tmp_path / "sealed", tmp_path / "again", "cafe\u0301 au lait")
        assert (tmp_path / "again").read_bytes() == b"x"

    def test_a_backup_under_a_passphrase_shows_nothing_and_leaves_nothing(
        self, services: Services, backups: BackupService, tmp_path: Path
    ) -> None:
        backups.make(tmp_path / "sealed", passphrase=WORDS)
        content = (tmp_path / "sealed").read_bytes()
        assert content.startswith(module.MAGIC)
        assert b"alice" not in content
        assert stat.S_IMODE((tmp_path / "sealed").stat().st_mode) == 0o600
        assert list(services.settings.data_dir.glob("backup-*")) == []
        decrypt(tmp_path / "sealed", tmp_path / "plain", WORDS)
        assert check(tmp_path / "plain", services.vault).rows["users"] == 1


_HEAD = len(module.MAGIC) + module.SALT_BYTES
_SEALED = module.CHUNK + 16


def _flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


class TestCheck:
    def test_any_file_that_is_none_of_ours(self, tmp_path: Path) -> None:
        for content in (b"", b"SQLite", b"PK\x03\x04" * 1000):
            (tmp_path / "file").write_bytes(content)
            with pytest.raises(BackupRefused) as caught:
                check_whole(tmp_path / "file")
            assert str(caught.value) == "This file is no backup of Postern. Nothing was changed."

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        for ask in (check_whole, is_encrypted):
            with pytest.raises(BackupRefused) as caught:
                ask(tmp_path / "nothing")
            assert str(caught.value) == f"{tmp_path / 'nothing'} cannot be read: No such file or directory."

    def test_another_programs_database(self, tmp_path: Path) -> None:
        with closing(sqlite3.connect(tmp_path / "shop.db")) as shop:
            shop.execute("CREATE TABLE orders (x)")
        with pytest.raises(BackupRefused) as caught:
            check_whole(tmp_path / "shop.db")
        assert str(caught.value) == "This is the database of another program. Nothing was changed."

    @pytest.mark.parametrize("left", [16, 99, 100, 4096, 50_000, -4096, -1])
    def test_one_that_was_cut_short_anywhere(self, plain: Path, tmp_path: Path, left: int) -> None:
        (tmp_path / "cut.db").write_bytes(plain.read_bytes()[:left])
        with pytest.raises(BackupRefused) as caught:
            check_whole(tmp_path / "cut.db")
        assert str(caught.value) == "This file was cut short. Nothing was changed."

    def test_torn_pages(self, plain: Path, tmp_path: Path) -> None:
        content = plain.read_bytes()
        (tmp_path / "torn.db").write_bytes(content[:8192] + os.urandom(len(content) - 8192))
        with pytest.raises(BackupRefused) as caught:
            check_whole(tmp_path / "torn.db")
        assert str(caught.value) == "This file is damaged. Nothing was changed."

    def test_a_key_that_differs_from_its_index(self, services: Services, plain: Path) -> None:
        (key,) = keys_in(plain)
        content = plain.read_bytes()
        place = content.index(key.encode())
        plain.write_bytes(_flipped(content, place))
        with pytest.raises(BackupRefused) as caught:
            check(plain, services.vault)
        assert str(caught.value) == "This file is damaged. Nothing was changed."

    @pytest.mark.parametrize(
        "damage",
        [
            "UPDATE vpn_profiles SET preshared_key = x'00'",
            "UPDATE servers SET private_key = NULL, public_key = 'x', private_key = x'01'",
            "UPDATE audit_events SET at = 'yesterday'",
            "UPDATE vpn_profiles SET user_id = 77",
        ],
    )
    def test_values_that_cannot_be_ours(self, services: Services, plain: Path, damage: str) -> None:
        with closing(sqlite3.connect(plain)) as file:
            file.execute(damage)
            file.commit()
        with pytest.raises(BackupRefused) as caught:
            check(plain, services.vault)
        assert str(caught.value) == "This file is damaged. Nothing was changed."

    def test_another_encryption_key_is_named(self, plain: Path, services: Services) -> None:
        other = Vault("0123456789abcdef0123456789abcdef")
        with pytest.raises(BackupRefused) as caught:
            check(plain, other)
        assert str(caught.value) == (
            f"This backup was made with the ENCRYPTION_KEY {services.vault.key_id}, and this installation has"
            f" {other.key_id}. Nothing was changed."
            " Bring back that key (or its file DATA_DIR/encryption_key) first."
        )

    def test_an_installation_that_was_never_made(self, plain: Path, services: Services) -> None:
        with closing(sqlite3.connect(plain)) as file:
            file.execute("DELETE FROM installation")
            file.commit()
        with pytest.raises(BackupRefused) as caught:
            check(plain, services.vault)
        assert str(caught.value) == "This backup holds no installation. Nothing was changed."


class TestScheduled:
    def names(self, services: Services) -> list[str]:
        return sorted(path.name for path in (services.settings.data_dir / "backups").iterdir())

    def test_one_a_day_and_the_newest_seven_are_kept(
        self, services: Services, backups: BackupService, clock: Clock
    ) -> None:
        for _ in range(10):
            assert backups.run_scheduled() is None
            clock.advance(minutes=10)
            assert backups.run_scheduled() is None
            clock.advance(days=1)
        names = self.names(services)
        assert names[0] == "postern-20260307-053607.db"
        assert [name[8:16] for name in names] == [f"202603{day:02}" for day in range(7, 14)]
        folder = services.settings.data_dir / "backups"
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE((folder / name).stat().st_mode) for name in names} == {0o600}

    def test_files_of_others_in_the_folder_are_left_alone_and_our_torn_ones_are_not(
        self, services: Services, backups: BackupService
    ) -> None:
        folder = services.settings.data_dir / "backups"
        folder.mkdir()
        for name in ("mine.db", "postern-20200101-000000.db.1234abcd.tmp"):
            (folder / name).touch()
        assert backups.run_scheduled() is None
        assert self.names(services) == ["mine.db", "postern-20260304-050607.db"]

    def test_no_room_is_said_and_nothing_is_written(
        self, services: Services, backups: BackupService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "ROOM_LEFT", 2**62)
        problem = backups.run_scheduled()
        assert problem is not None
        assert problem.title == "The daily backup could not be made"
        assert problem.sentence.startswith("The disk has no room for it (")
        assert self.names(services) == []

    def test_whatever_fails_is_said_and_the_old_ones_stay(
        self, services: Services, backups: BackupService, clock: Clock
    ) -> None:
        assert backups.run_scheduled() is None
        with services.db.write() as session:
            session.execute(update(VpnProfile).values(preshared_key=b"broken"))
        clock.advance(days=1)
        problem = backups.run_scheduled()
        assert problem is not None
        assert problem.sentence == "This file is damaged. Nothing was changed."
        assert self.names(services) == ["postern-20260304-050607.db"]

    def test_a_file_in_the_place_of_the_folder_is_said(self, services: Services, backups: BackupService) -> None:
        (services.settings.data_dir / "backups").touch()
        problem = backups.run_scheduled()
        assert problem is not None
        assert problem.sentence == "File exists"


class TestCommand:
    @pytest.fixture(autouse=True)
    def variables(self, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, backups: BackupService) -> None:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)

    def test_it_says_what_is_missing_from_the_file(
        self, services: Services, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.main(["backup", str(tmp_path / "b.db")]) == 0
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err == (
            "Written and verified: 1 people, 1 profiles, 0 tokens.\n"
            f"The encryption key is NOT in it. It needs key {services.vault.key_id}: ENCRYPTION_KEY in the settings.\n"
            "Keep a copy of that key, in another place than the backup: without it the backup is of no use.\n"
        )

    def test_what_is_refused_is_1_and_changes_nothing(
        self, services: Services, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "b.db").write_text("precious")
        assert cli.main(["backup", str(tmp_path / "b.db")]) == 1
        assert "exists already" in capsys.readouterr().err
        with services.db.read() as session:
            assert session.scalar(select(ChangeSeq.value)) == 2
