"""The headers that every answer carries."""

from __future__ import annotations

from flask import Flask, Response, request

from webapp.web.context import services

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HSTS = "max-age=31536000"


def install(app: Flask) -> None:
    """Add them after every request, errors included."""
    app.after_request(_add_headers)


def _add_headers(response: Response) -> Response:
    headers = response.headers
    headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("Referrer-Policy", "same-origin")
    headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
    headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
    if services().settings.is_https:
        headers.setdefault("Strict-Transport-Security", HSTS)
    if request.endpoint != "static":
        # The same address answers a page, a fragment or a problem, for this person only.
        response.vary.update(("Accept", "Cookie", "HX-Request"))
        headers["Cache-Control"] = "no-store"
    return response
