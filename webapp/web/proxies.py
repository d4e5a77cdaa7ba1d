"""Who is really asking: forwarded headers are believed from listed proxies only, and the sub-path is taken off."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from webapp.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

FORWARDED = (
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PORT",
    "HTTP_X_FORWARDED_PREFIX",
    "HTTP_FORWARDED",
)


def install(app: Flask, settings: Settings) -> None:
    """Put the two layers around the application."""
    app.wsgi_app = _SubPath(_BelievedProxies(app.wsgi_app, settings), settings.base_path)  # type: ignore[method-assign]


class _BelievedProxies:
    def __init__(self, app: WSGIApplication, settings: Settings) -> None:
        self.plain = app
        self.proxied = ProxyFix(app, x_for=1, x_proto=1, x_host=1)
        self.trusted = settings.trusted_proxies

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if self._is_trusted(environ.get("REMOTE_ADDR", "")):
            return self.proxied(environ, start_response)
        for name in FORWARDED:
            environ.pop(name, None)
        return self.plain(environ, start_response)

    def _is_trusted(self, remote: str) -> bool:
        try:
            address: Any = ip_address(remote)
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self.trusted)


class _SubPath:
    """Serves under PUBLIC_URL's path, whether the proxy in front keeps that path or takes it off."""

    def __init__(self, app: WSGIApplication, base_path: str) -> None:
        self.app = app
        self.base_path = base_path

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if self.base_path:
            path = environ.get("PATH_INFO", "")
            if path == self.base_path or path.startswith(self.base_path + "/"):
                environ["PATH_INFO"] = path[len(self.base_path) :] or "/"
            environ["SCRIPT_NAME"] = self.base_path
        return self.app(environ, start_response)
