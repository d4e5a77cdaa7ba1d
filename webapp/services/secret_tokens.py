"""Random secrets that are shown once and stored as a hash: cookies, personal tokens, one-time links."""

from __future__ import annotations

import hashlib
import secrets

TOKEN_BYTES = 24
"""192 bits: no guess, and no need for a slow hash."""


def make_token(prefix: str = "") -> str:
    """Return a fresh token: the prefix and 32 URL-safe characters."""
    return prefix + secrets.token_urlsafe(TOKEN_BYTES)


def hash_token(token: str) -> str:
    """Return what is stored in place of a token: its SHA-256 in hexadecimal digits."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
