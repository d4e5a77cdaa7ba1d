"""Key types of WireGuard: 32 bytes, base64 at the edges, and secret ones that never print themselves."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Self

KEY_BYTES = 32
"""Curve25519 keys and preshared keys alike (wg(8), "Key")."""


@dataclass(frozen=True, slots=True)
class Key:
    """32 bytes with named encodings. Use the subclasses; this one only holds what they share."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != KEY_BYTES:
            raise ValueError(f"a key is {KEY_BYTES} bytes")

    @classmethod
    def from_base64(cls, text: str) -> Self:
        """Parse the 44 characters that ``wg`` prints.

        Raises ValueError for anything else, also for base64 whose unused last bits are set: one key, one text.
        The message never quotes the text.
        """
        try:
            raw = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("a key is 44 characters of base64") from None
        if len(raw) != KEY_BYTES or base64.b64encode(raw).decode() != text:
            raise ValueError("a key is 44 characters of base64")
        return cls(raw)

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """Parse 64 hexadecimal digits, the encoding of UAPI. Raises ValueError without quoting the text."""
        try:
            raw = binascii.unhexlify(text)
        except (binascii.Error, ValueError):
            raise ValueError("a key is 64 hexadecimal digits") from None
        return cls(raw)

    def to_base64(self) -> str:
        """Return the 44 characters that files and ``wg`` use."""
        return base64.b64encode(self.raw).decode()

    def to_hex(self) -> str:
        """Return the 64 hexadecimal digits that UAPI uses."""
        return self.raw.hex()


class PublicKey(Key):
    """A Curve25519 public key. It is no secret: it prints."""

    __slots__ = ()

    def __str__(self) -> str:
        return self.to_base64()

    def __repr__(self) -> str:
        return f"PublicKey({self.to_base64()!r})"


class _SecretKey(Key):
    __slots__ = ()

    def __str__(self) -> str:
        return f"<{type(self).__name__}>"

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __reduce__(self) -> str:
        raise TypeError(f"a {type(self).__name__} is not pickled")


class PrivateKey(_SecretKey):
    """A Curve25519 private key. ``str``, ``repr``, ``format`` and pickling never show it; ``to_base64`` does."""

    __slots__ = ()


class PresharedKey(_SecretKey):
    """32 random bytes that both ends mix into the handshake (WireGuard whitepaper, section 5.4). Never printed."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A private key and the public key that belongs to it."""

    private: PrivateKey
    public: PublicKey
