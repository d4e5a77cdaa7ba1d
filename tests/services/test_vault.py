"""Encryption at rest: bound to column and row, whole or an error, and the kept key in DATA_DIR."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapp.errors import DecryptionFailed, SettingsInvalid
from webapp.services.vault import Vault, encryption_key, secret_key
from webapp.settings import Settings

VAULT = Vault("4e8a0d6cb2f19375e0c7a4d8b61f2935")
SECRET = b"the thirty-two bytes of some key"


@given(st.binary(max_size=100), st.text(max_size=20))
def test_what_was_sealed_opens_again(secret: bytes, row: str) -> None:
    assert VAULT.open("t.c", row, VAULT.seal("t.c", row, secret)) == secret


def test_another_process_with_the_same_master_key_opens_it() -> None:
    again = Vault("4e8a0d6cb2f19375e0c7a4d8b61f2935")
    assert again.key_id == VAULT.key_id
    assert again.open("t.c", "row", VAULT.seal("t.c", "row", SECRET)) == SECRET


def test_a_value_sealed_by_the_first_version_opens_for_ever() -> None:
    sealed = bytes.fromhex(
        "01" + VAULT.key_id + "000102030405060708090a0b"
        "5fe442ced0bbd6ef28f44c74fb48bce328033668dc585043"
        "fb95137dbc06506abd308c6bdc1f03351f37d8a0b8cb92e3"
    )
    assert VAULT.open("vpn_profiles.private_key", "row 1", sealed) == SECRET


def test_the_same_secret_is_never_sealed_alike_and_never_in_clear() -> None:
    sealed = {VAULT.seal("t.c", "row", SECRET) for _ in range(100)}
    assert len(sealed) == 100
    assert not any(SECRET in one for one in sealed)


@pytest.mark.parametrize(
    ("purpose", "row"),
    [("t.c", "row 2"), ("t.d", "row 1"), ("u.c", "row 1"), ("t.c\0row 1", ""), ("t.c", ""), ("", "t.c\0row 1")],
)
def test_a_value_moved_to_another_row_or_column_does_not_open(purpose: str, row: str) -> None:
    sealed = VAULT.seal("t.c", "row 1", SECRET)
    with pytest.raises(DecryptionFailed):
        VAULT.open(purpose, row, sealed)


def test_any_changed_byte_is_an_error() -> None:
    sealed = VAULT.seal("t.c", "row", SECRET)
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(DecryptionFailed):
            VAULT.open("t.c", "row", bytes(changed))


def test_any_missing_or_further_byte_is_an_error() -> None:
    sealed = VAULT.seal("t.c", "row", SECRET)
    for piece in (*(sealed[:length] for length in range(len(sealed))), sealed + b"\0"):
        with pytest.raises(DecryptionFailed):
            VAULT.open("t.c", "row", piece)


def test_another_master_key_does_not_open_it() -> None:
    with pytest.raises(DecryptionFailed):
        Vault("4e8a0d6cb2f19375e0c7a4d8b61f2936").open("t.c", "row", VAULT.seal("t.c", "row", SECRET))


def test_the_master_key_stands_in_no_representation() -> None:
    assert repr(VAULT) == f"<Vault {VAULT.key_id}>"
    assert len(VAULT.key_id) == 8


class TestKeptSecrets:
    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        return Settings.from_env({"DATA_DIR": str(tmp_path / "data")})

    def test_the_environment_wins_and_no_file_is_made(self, tmp_path: Path) -> None:
        value = "4e8a0d6cb2f19375e0c7a4d8b61f2935"
        settings = Settings.from_env({"DATA_DIR": str(tmp_path / "data"), "ENCRYPTION_KEY": value})
        assert encryption_key(settings) == value
        assert not (tmp_path / "data").exists()

    def test_it_is_made_once_and_kept_0600_in_a_folder_0700(self, settings: Settings) -> None:
        old = os.umask(0)
        try:
            made = encryption_key(settings)
        finally:
            os.umask(old)
        assert len(made) == 44
        assert encryption_key(settings) == made
        assert secret_key(settings) != made
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in settings.data_dir.iterdir()}
        assert modes == {"encryption_key": 0o600, "secret_key": 0o600}
        assert stat.S_IMODE(settings.data_dir.stat().st_mode) == 0o700

    @pytest.mark.parametrize("content", [b"", b"\n", b"abc", b"\xff" * 50])
    def test_a_damaged_one_is_refused_and_left_as_it_is(self, settings: Settings, content: bytes) -> None:
        settings.data_dir.mkdir(mode=0o700)
        path = settings.data_dir / "encryption_key"
        path.write_bytes(content)
        with pytest.raises(SettingsInvalid, match=r"^ENCRYPTION_KEY: encryption_key in DATA_DIR "):
            encryption_key(settings)
        assert path.read_bytes() == content

    def test_what_a_killed_process_left_is_in_nobodys_way(self, settings: Settings) -> None:
        settings.data_dir.mkdir(mode=0o700)
        (settings.data_dir / f"encryption_key.{os.getpid()}.new").write_bytes(b"half")
        assert len(encryption_key(settings)) == 44

    def test_a_folder_that_cannot_be_made_is_a_sentence(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        settings = Settings.from_env({"DATA_DIR": str(tmp_path / "file" / "data")})
        with pytest.raises(SettingsInvalid, match=r"^SECRET_KEY: secret_key in DATA_DIR cannot be read or made"):
            secret_key(settings)
