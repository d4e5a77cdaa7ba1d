"""Postern. ``create_app`` is the composition root of the web process; the imports stand inside it, so that the
command line and the agent, which live in this package too, do not pay for Flask."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from webapp.services.wg import Tools
    from webapp.settings import Settings


def create_app(settings: Settings, tools: Tools | None = None) -> Flask:
    """Return the application for these settings; ``tools`` stands in for what is found on PATH.

    Raises SettingsInvalid when the kept secrets cannot be had or the database is of another version, and
    DatabaseUnusable when it does not answer; nothing listens then.
    """
    # What imports make is there to stay: looking for garbage among it finds none and takes a tenth of the start.
    gc.disable()
    try:
        return _compose(settings, tools)
    finally:
        gc.enable()


def _compose(settings: Settings, tools: Tools | None) -> Flask:
    from flask import Flask

    from webapp import extensions
    from webapp.errors import SettingsInvalid
    from webapp.services import schema, vault
    from webapp.services.database import Database, configure_engine, engine_options, prepare_file
    from webapp.web.install import install_web
    from webapp.wiring import build_services

    prepare_file(settings.database_url)
    app = Flask("webapp", root_path=None, static_folder="../static", template_folder="../templates")
    app.config.update(
        SECRET_KEY=vault.secret_key(settings),
        SQLALCHEMY_DATABASE_URI=settings.database_url,
        SQLALCHEMY_ENGINE_OPTIONS=engine_options(settings.database_url),
        SESSION_COOKIE_NAME="__Host-postern" if settings.is_https else "postern",
        SESSION_COOKIE_SECURE=settings.is_https,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_PATH="/",
        PERMANENT_SESSION_LIFETIME=30 * 24 * 3600,
        SESSION_REFRESH_EACH_REQUEST=False,
        MAX_CONTENT_LENGTH=64 * 1024,
        MAX_FORM_MEMORY_SIZE=64 * 1024,
        MAX_FORM_PARTS=50,
        WTF_CSRF_TIME_LIMIT=None,
        WTF_CSRF_SSL_STRICT=False,  # The guard checks Origin and Sec-Fetch-Site, over plain HTTP too.
        SEND_FILE_MAX_AGE_DEFAULT=365 * 24 * 3600,  # Every static URL carries the digest of its content.
    )
    for extension in (extensions.db, extensions.csrf, extensions.htmx, extensions.login_manager):
        extension.init_app(app)
    with app.app_context():
        engine = extensions.db.engine
    configure_engine(engine)
    found = schema.version(engine)
    if found != schema.CURRENT:
        raise SettingsInvalid([schema.mismatch(found)])
    services = build_services(settings, Database(engine), tools)
    with services.db.read() as session:
        services.servers.check_key(session)
    app.extensions["postern"] = services
    install_web(app, settings)
    return app
