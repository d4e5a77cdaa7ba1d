"""What forms share: the sentences at their fields, and where a sign-in may lead back to."""

from __future__ import annotations

from webapp.errors import InvalidFields
from webapp.web.pages import translate


def problems_by_field(error: InvalidFields) -> dict[str, str]:
    """Return the translated sentence for each field that has one."""
    return {item.field: translate(item.sentence, **item.values) for item in error.problems}


def local_path(text: str) -> str | None:
    """Return the text if it is a path on this very site, else None: one leading slash, nothing that browsers bend."""
    is_local = text.startswith("/") and not text.startswith(("//", "/\\"))
    has_oddities = "\\" in text or any(ord(character) <= 32 or ord(character) == 127 for character in text)
    return text if is_local and not has_oddities and len(text) <= 500 else None
