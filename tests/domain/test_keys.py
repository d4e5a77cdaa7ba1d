"""Keys: one key, one text; and secret ones that nothing prints."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapp.domain.keys import Key, KeyPair, PresharedKey, PrivateKey, PublicKey

TEXT = "iooU8XWoS7Up5EBO+O5JqpMfiLISaBSSeLGQRgbW3Ds="
RAW = bytes.fromhex("8a8a14f175a84bb529e4404ef8ee49aa931f88b2126814927 8b1904606d6dc3b".replace(" ", ""))
SECRET_TYPES = pytest.mark.parametrize("kind", [PrivateKey, PresharedKey])


@given(st.binary(min_size=32, max_size=32))
def test_every_key_survives_both_encodings(raw: bytes) -> None:
    key = PublicKey(raw)
    assert PublicKey.from_base64(key.to_base64()) == key
    assert PublicKey.from_hex(key.to_hex()) == key
    assert (len(key.to_base64()), len(key.to_hex())) == (44, 64)


def test_the_two_encodings_name_one_key() -> None:
    key = PublicKey.from_base64(TEXT)
    assert (key.raw, key.to_base64(), key.to_hex()) == (RAW, TEXT, RAW.hex())
    assert PublicKey.from_hex(RAW.hex().upper()) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        TEXT[:-1],
        TEXT + "=",
        TEXT + "\n",
        " " + TEXT,
        TEXT[:20] + "\n" + TEXT[20:],
        TEXT.replace("+", "-"),
        TEXT[:-2] + "t=",  # The same 32 bytes, with unused bits set.
        "A" * 40,
        "A" * 47 + "=",
        "й" * 44,
        RAW.hex(),
        "(none)",
    ],
)
def test_anything_else_is_no_base64_key_and_is_not_quoted(text: str) -> None:
    with pytest.raises(ValueError, match=r"^a key is 44 characters of base64$") as caught:
        PrivateKey.from_base64(text)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("text", ["", "ab", "a" * 63, "g" * 64, " " + "a" * 63, "a" * 66, "٣" * 64, TEXT])
def test_anything_else_is_no_hexadecimal_key_and_is_not_quoted(text: str) -> None:
    with pytest.raises(ValueError, match=r"^a key is (64 hexadecimal digits|32 bytes)$"):
        PrivateKey.from_hex(text)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_key_is_32_bytes(length: int) -> None:
    with pytest.raises(ValueError, match=r"^a key is 32 bytes$"):
        PublicKey(bytes(length))


@SECRET_TYPES
def test_a_secret_key_never_prints_itself(kind: type[Key]) -> None:
    key = kind(RAW)
    name = f"<{kind.__name__}>"
    assert [str(key), repr(key), f"{key}", f"{key!r}", "%s" % key, f"{key:>20}"] == [*[name] * 5, name.rjust(20)]  # noqa: UP031
    assert key.to_base64() == TEXT


@SECRET_TYPES
def test_a_secret_key_is_neither_pickled_nor_copied(kind: type[Key]) -> None:
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match=rf"^a {kind.__name__} is not pickled$"):
            attempt(kind(RAW))


def test_a_pair_shows_its_public_half_only() -> None:
    pair = KeyPair(PrivateKey(RAW), PublicKey(RAW))
    assert repr(pair) == f"KeyPair(private=<PrivateKey>, public=PublicKey('{TEXT}'))"


def test_a_public_key_prints() -> None:
    key = PublicKey(RAW)
    assert (str(key), repr(key)) == (TEXT, f"PublicKey('{TEXT}')")


def test_keys_of_two_kinds_are_never_equal() -> None:
    assert PublicKey(RAW) != PrivateKey(RAW)
    assert PresharedKey(RAW) != PrivateKey(RAW)
    assert len({PublicKey(RAW), PublicKey(RAW), PrivateKey(RAW)}) == 2
