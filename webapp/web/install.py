"""Puts the web layer around an application: who may come in, what every answer carries, and the subjects."""

from __future__ import annotations

from flask import Flask

from webapp.extensions import csrf
from webapp.settings import Settings
from webapp.web import (
    api,
    error_handlers,
    guard,
    headers,
    health,
    home,
    pages,
    profiles,
    proxies,
    servers,
    sessions,
    setup,
    tokens,
)


def install_web(app: Flask, settings: Settings) -> None:
    """Register everything, one blueprint per subject. The API takes no cookie, so it needs no CSRF token."""
    proxies.install(app, settings)
    guard.install(app)
    headers.install(app)
    pages.install(app)
    error_handlers.install(app)
    csrf.exempt(api.bp)
    for module in (home, setup, sessions, profiles, tokens, servers, api, health):
        app.register_blueprint(module.bp)
