"""What templates find: translation, filters, the time, and addresses of static files that change with their content."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from gettext import NullTranslations
from pathlib import Path
from typing import Any

from flask import Flask, current_app

from webapp.web.context import services
from webapp.web.filters import FILTERS


def install(app: Flask) -> None:
    """Set up Jinja."""
    environment = app.jinja_env
    environment.trim_blocks = True
    environment.lstrip_blocks = True
    environment.add_extension("jinja2.ext.i18n")
    environment.filters.update(FILTERS, translated=translate)
    use_translations(app, NullTranslations())
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


def use_translations(app: Flask, translations: NullTranslations) -> None:
    """Speak this language in templates and sentences alike; to be called before the first page is made."""
    app.jinja_env.install_gettext_translations(translations, newstyle=True)  # type: ignore[attr-defined]
    app.extensions["postern.translations"] = translations


def translate(sentence: str, **values: object) -> str:
    """Return the sentence in the person's language with its places filled; today the language is English.

    For what is not a constant in a template: ``_()`` there takes any text for markup, and ``%`` for a place.
    """
    translated: str = current_app.extensions["postern.translations"].gettext(sentence)
    return translated % values if values else translated
