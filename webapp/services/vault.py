"""Encryption at rest: a master key outside the database, one derived key per purpose, every value bound to its row."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from typing import Any

from webapp.errors import DecryptionFailed, SettingsInvalid
from webapp.settings import Settings

VERSION = b"\x01"
KEY_ID_BYTES = 4
NONCE_BYTES = 12
_HEAD = len(VERSION) + KEY_ID_BYTES + NONCE_BYTES


class Vault:
    """Seals and opens the secret columns.

    A sealed value is ``version (1) | key id (4) | nonce (12) | AES-256-GCM ciphertext and tag``. The key comes
    from the master key by HKDF-SHA256 with the purpose (``table.column``) as info, so that an agent elsewhere can
    be given one purpose alone; purpose and row are the associated data, so that a value moved to another row,
    column or table does not open.
    """

    def __init__(self, master: str | bytes) -> None:
        raw = master.encode() if isinstance(master, str) else master
        self._master = hashlib.sha256(b"postern master key\0" + raw).digest()
        self.key_id = hashlib.sha256(b"postern key id\0" + self._master).hexdigest()[: 2 * KEY_ID_BYTES]
        self._ciphers: dict[str, Any] = {}

    def seal(self, purpose: str, row: str, secret: bytes) -> bytes:
        """Encrypt the secret for that column and that row."""
        nonce = os.urandom(NONCE_BYTES)
        head = VERSION + bytes.fromhex(self.key_id) + nonce
        sealed: bytes = self._cipher(purpose).encrypt(nonce, secret, _bound_to(purpose, row))
        return head + sealed

    def open(self, purpose: str, row: str, sealed: bytes) -> bytes:
        """Decrypt what ``seal`` made for the same column and row.

        Raises DecryptionFailed for anything else: another key, another row, a changed byte. Never returns less.
        """
        from cryptography.exceptions import InvalidTag

        if len(sealed) < _HEAD or sealed[:1] != VERSION or sealed[1:5].hex() != self.key_id:
            raise DecryptionFailed
        nonce, ciphertext = sealed[5:_HEAD], sealed[_HEAD:]
        try:
            secret: bytes = self._cipher(purpose).decrypt(nonce, ciphertext, _bound_to(purpose, row))
        except InvalidTag as error:
            raise DecryptionFailed from error
        return secret

    def _cipher(self, purpose: str) -> Any:
        cipher = self._ciphers.get(purpose)
        if cipher is None:
            # Imported here: the first page needs no encryption, and its start is counted.
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
            from cryptography.hazmat.primitives.hashes import SHA256
            from cryptography.hazmat.primitives.kdf.hkdf import HKDF

            key = HKDF(SHA256(), 32, salt=None, info=b"postern/1/" + purpose.encode()).derive(self._master)
            cipher = self._ciphers.setdefault(purpose, AESGCM(key))
        return cipher

    def __repr__(self) -> str:
        return f"<Vault {self.key_id}>"


def _bound_to(purpose: str, row: str) -> bytes:
    return f"{purpose}\0{row}".encode()


def encryption_key(settings: Settings) -> str:
    """Return ENCRYPTION_KEY, or the one kept in DATA_DIR, made there (0600) at the first start."""
    return settings.encryption_key or _kept_secret(settings.data_dir, "encryption_key", "ENCRYPTION_KEY")


def secret_key(settings: Settings) -> str:
    """Return SECRET_KEY, or the one kept in DATA_DIR, made there (0600) at the first start."""
    return settings.secret_key or _kept_secret(settings.data_dir, "secret_key", "SECRET_KEY")


def _kept_secret(data_dir: Path, file_name: str, variable: str) -> str:
    """Read the file, or make it. Two processes that start together end with the same secret.

    Raises SettingsInvalid when the folder cannot be used or the file was cut short: a new secret in place of a
    lost one would make every stored key unreadable.
    """
    path = data_dir / file_name
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            # A name of its own: a killed process may have left one, and process ids come again in containers.
            fresh = path.with_name(f"{file_name}.{os.urandom(8).hex()}.new")
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(base64.b64encode(os.urandom(32)) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(fresh, path)  # Fails where another process was first; then its secret is read below.
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsInvalid([f"{variable}: {path.name} in DATA_DIR cannot be read or made ({error})"]) from error
    if len(text) < 43:
        raise SettingsInvalid([f"{variable}: {path.name} in DATA_DIR is damaged; restore it, or set {variable}"])
    return text
