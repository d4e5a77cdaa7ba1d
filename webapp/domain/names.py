"""Names that people give: what is allowed, when two are the same, and the safe file name made from one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from webapp.errors import N_, FieldProblem, InvalidFields

NAME_CHARACTERS = 64
NOTES_CHARACTERS = 1000
KEY_CHARACTERS = 192
"""What a key's column takes: a few letters are eighteen in their compatible form."""
FILE_NAME_CHARACTERS = 15
"""``wg-quick`` makes the interface's name from the file's, and Linux takes 15 bytes (wg-quick(8))."""
FILE_NAME = re.compile(r"[a-zA-Z0-9_=+.-]{1,15}")
_BIDIRECTIONAL = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_BREAKS = frozenset("\u2028\u2029")


def parse_name(text: str, field: str = "name") -> str:
    """Return the name in NFC without surrounding blanks: 1 to 64 characters.

    Raises InvalidFields at ``field`` for an empty or over-long name, for control and bidirectional characters,
    ``/``, a leading dot, and for digits only (a reference of digits is an id).
    """
    name = unicodedata.normalize("NFC", text).strip()
    sentence = None
    if not name:
        sentence = N_("Please type a name.")
    elif len(name) > NAME_CHARACTERS or len(name_key(name)) > KEY_CHARACTERS:
        sentence = N_("This name is too long: 64 characters at most.")
    elif any(not _is_printable(character) for character in text.strip()):
        sentence = N_("This name holds a character that cannot be shown.")
    elif "/" in name:
        sentence = N_("A name cannot hold a slash.")
    elif name.startswith("."):
        sentence = N_("A name cannot begin with a dot.")
    elif name.isdecimal():
        sentence = N_("A name needs more than digits.")
    if sentence is not None:
        raise InvalidFields([FieldProblem(field, sentence)])
    return name


def parse_notes(text: str, field: str = "notes") -> str:
    """Return a note of up to 1000 characters with plain line ends; empty for none.

    Raises InvalidFields at ``field`` for a longer one, and for control and bidirectional characters.
    """
    notes = unicodedata.normalize("NFC", text.replace("\r\n", "\n")).strip()
    if len(notes) > NOTES_CHARACTERS:
        raise InvalidFields([FieldProblem(field, N_("Use 1000 characters or fewer."))])
    if any(not _is_printable(character) for character in notes if character != "\n"):
        raise InvalidFields([FieldProblem(field, N_("This text holds a character that cannot be shown."))])
    return notes


def _is_printable(character: str) -> bool:
    # Surrogates cannot be stored, private and unassigned code points are left to the fonts.
    return (
        unicodedata.category(character) not in {"Cc", "Cs"}
        and character not in _BIDIRECTIONAL
        and character not in _BREAKS
    )


def name_key(name: str) -> str:
    """Return what two names share when they count as the same: case and compatible forms do not matter."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def next_name(name: str, is_taken: Callable[[str], bool], *, may_keep: bool = False) -> str:
    """Return a free name like "phone 2" for a taken one; the name itself if 99 tries find none.

    With ``may_keep`` a name that is free already is returned as it is.
    """
    if may_keep and not is_taken(name):
        return name
    stem = re.sub(r" \d+$", "", name)[: NAME_CHARACTERS - 3]
    return next((try_ for n in range(2, 100) if not is_taken(try_ := f"{stem} {n}")), name)


def safe_file_name(name: str, is_taken: Callable[[str], bool], randbelow: Callable[[int], int]) -> str:
    """Return a file name (without ``.conf``) made from the name: 1 to 15 safe characters, not taken.

    Letters with marks lose them, what is not ASCII then is left out, what is unsafe becomes one hyphen; what
    leaves nothing is "device".
    Where that is taken, "-2" to "-9" are tried, then random endings, so that the cost does not grow with the
    number of names that begin alike. ``randbelow`` is like ``secrets.randbelow``.
    """
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    stem = re.sub(r"[^a-zA-Z0-9_=+.-]+", "-", ascii_name).strip("-.")[:FILE_NAME_CHARACTERS].strip("-.")
    stem = stem or "device"
    candidate, number = stem, 1
    while is_taken(candidate):
        number += 1
        suffix = f"-{number}" if number < 10 else f"-{randbelow(0x10000):04x}"
        candidate = stem[: FILE_NAME_CHARACTERS - len(suffix)].rstrip("-.") + suffix
    return candidate
