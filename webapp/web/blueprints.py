"""Registers the blueprints, one per subject."""

from __future__ import annotations

from flask import Flask

from webapp.extensions import csrf
from webapp.web import api, health, home, profiles, servers, sessions, setup, tokens


def install(app: Flask) -> None:
    """Register them all. The API takes no cookie, so it needs no CSRF token."""
    csrf.exempt(api.bp)
    for module in (home, setup, sessions, profiles, tokens, servers, api, health):
        app.register_blueprint(module.bp)
