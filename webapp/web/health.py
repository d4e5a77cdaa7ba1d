"""For machines that watch: alive, ready, and figures for those who hold the token."""

from __future__ import annotations

import hmac

from flask import Blueprint, Response, jsonify, request

from webapp.domain.states import CONNECTED_FOR
from webapp.errors import NotFound, NotSignedIn
from webapp.services import schema
from webapp.web.context import reading, services
from webapp.web.guard import bearer_token

bp = Blueprint("health", __name__)


@bp.get("/healthz")
def alive() -> Response:
    """Answer while the process runs."""
    return jsonify(status="ok")


@bp.get("/readyz")
def ready() -> tuple[Response, int]:
    """Answer 200 when the database is reachable and its tables are this code's, else 503."""
    is_ready = schema.is_current(services().db.engine)
    return jsonify(status="ok" if is_ready else "wrong version of the tables"), 200 if is_ready else 503


@bp.get("/metrics")
def metrics() -> Response:
    """Give Prometheus what the database knows, read at this moment."""
    wanted = services().settings.metrics_token
    if wanted is None:
        raise NotFound
    if not hmac.compare_digest((bearer_token(request) or "").encode(), wanted.encode()):
        raise NotSignedIn
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    service, session = services().servers, reading()
    server = service.current(session)
    report = service.report(session, server.id)
    total, connected = service.count_profiles(session, server.id, services().clock() - CONNECTED_FOR)
    registry = CollectorRegistry()
    figures = {
        "postern_profiles": ("Profiles that are stored.", total),
        "postern_profiles_connected": ("Profiles that shook hands within three minutes.", connected),
        "postern_agent_up": ("Whether the agent reported within 30 s.", int(report.is_alive)),
        "postern_problems": ("Things that need the admin.", len(report.problems)),
        "postern_server_revision": ("The revision that files carry.", server.revision),
    }
    for name, (text, value) in figures.items():
        Gauge(name, text, registry=registry).set(value)
    return Response(generate_latest(registry), content_type="text/plain; version=0.0.4; charset=utf-8")
