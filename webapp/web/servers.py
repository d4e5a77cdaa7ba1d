"""The admin's page of the server: what needs doing, what it is, and the address that devices connect to."""

from __future__ import annotations

from dataclasses import replace

from flask import Blueprint, request, url_for
from werkzeug.wrappers import Response

from webapp.domain.states import CONNECTED_FOR
from webapp.errors import N_, InvalidFields
from webapp.services.servers import Problem, ServerReport, ServerView
from webapp.web import guard, render
from webapp.web.context import reading, services
from webapp.web.forms import problems_by_field
from webapp.web.pages import translate

bp = Blueprint("servers", __name__, url_prefix="/server")


@bp.route("", methods=["GET", "POST"])
def show() -> Response:
    """Show the server; store a new endpoint."""
    errors: dict[str, str] = {}
    values = None
    if request.method == "POST":
        values = {"endpoint": request.form.get("endpoint", "")}
        try:
            services().servers.set_endpoint(values["endpoint"], guard.actor())
            return render.done(url_for("servers.show"), translate(N_("Saved.")))
        except InvalidFields as error:
            errors = problems_by_field(error)
    service, session = services().servers, reading()
    server = service.current(session)
    report = service.report(session, server.id)
    total, connected = service.count_profiles(session, server.id, services().clock() - CONNECTED_FOR)
    return render.show(
        "servers/show.html",
        status=422 if errors else 200,
        server=shown(server),
        problems=[
            replace(item, title=translate(item.title), sentence=translate(item.sentence))
            for item in problems_of(server, report)
        ],
        agent_seen_at=report.seen_at,
        agent_alive=report.is_alive,
        pinned={"endpoint"} if service.pinned.endpoint is not None else set(),
        profiles_total=total,
        connected_now=connected,
        values=values,
        errors=errors,
    )


def problems_of(server: ServerView, report: ServerReport) -> list[Problem]:
    """Return what needs the admin, the most pressing first."""
    problems = []
    if server.has_interface and not report.is_alive:
        problems.append(
            Problem(N_("The agent is not running"), N_("New devices wait until it is back. Start it:"), "make run")
        )
    problems += report.problems if report.is_alive else ()
    if server.endpoint is None:
        sentence = N_("Devices cannot get a file before they know where to connect. Set it below.")
        problems.append(Problem(N_("The address of this server is not set"), sentence))
    if not server.has_interface:
        sentence = N_("Profiles are handed out, but nothing here lets them in. See what is missing, type:")
        problems.append(Problem(N_("There is no tunnel on this machine"), sentence, ".venv/bin/postern doctor"))
    return problems


def shown(server: ServerView) -> dict[str, object]:
    """Return what pages say of the server."""
    return {
        "name": server.name,
        "interface": server.interface,
        "endpoint": "" if server.endpoint is None else str(server.endpoint),
        "listen_port": server.listen_port,
        "ipv4_network": server.pool.network,
        "ipv6_network": server.pool.network6,
        "dns": ", ".join(str(address) for address in server.dns),
        "mtu": server.mtu,
        "generation": server.obfuscation.generation,
        "public_key": server.public_key,
        "mode": server.mode,
    }
