"""What templates find: translation, filters, the time, and addresses of static files that change with their content."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from flask import Flask

from webapp.web.context import services
from webapp.web.filters import FILTERS


def install(app: Flask) -> None:
    """Set up Jinja."""
    environment = app.jinja_env
    environment.trim_blocks = True
    environment.lstrip_blocks = True
    environment.add_extension("jinja2.ext.i18n")
    environment.install_null_translations(newstyle=True)  # type: ignore[attr-defined]
    environment.filters.update(FILTERS)
    app.context_processor(_always)
    folder = Path(app.static_folder or "")

    @lru_cache(maxsize=64)
    def digest(filename: str) -> str:
        try:
            return hashlib.sha256((folder / filename).read_bytes()).hexdigest()[:12]
        except OSError:
            return ""

    @app.url_defaults
    def add_digest(endpoint: str, values: dict[str, Any]) -> None:
        if endpoint == "static" and "filename" in values:
            values.setdefault("v", digest(values["filename"]))


def _always() -> dict[str, Any]:
    return {"now": services().clock(), "public_url": services().settings.public_url}


def translate(sentence: str, **values: object) -> str:
    """Return the sentence in the person's language with its places filled; today the language is English."""
    return sentence % values if values else sentence
