"""The first account, by a one-time link; then the one thing that the server cannot know by itself."""

from __future__ import annotations

import socket

from flask import Blueprint, request, url_for
from werkzeug.wrappers import Response

from webapp.errors import InvalidFields
from webapp.services.audit import Actor
from webapp.settings import is_loopback
from webapp.web import guard, render
from webapp.web.context import reading, services
from webapp.web.forms import problems_by_field
from webapp.web.servers import shown
from webapp.web.sessions import start_session

bp = Blueprint("setup", __name__, url_prefix="/setup")


@bp.route("", methods=["GET", "POST"])
def account() -> Response:
    """Show the form to whoever holds the link; make the first admin, sign them in and use the link up."""
    token = request.values.get("token", "")
    if request.method != "POST":
        services().accounts.check_setup_link(token)
        return render.show("setup/account.html", token=token, values={}, errors={})
    username, password = request.form.get("username", ""), request.form.get("password", "")
    try:
        actor = Actor(username, address=request.remote_addr or "")
        person = services().accounts.use_setup_link(token, username, password, actor)
    except InvalidFields as error:
        return render.show(
            "setup/account.html",
            status=422,
            token=token,
            values={"username": username},
            errors=problems_by_field(error),
        )
    start_session(person)
    is_complete = services().servers.current(reading()).endpoint is not None
    return render.go(url_for("profiles.index" if is_complete else "setup.server"))


@bp.route("/server", methods=["GET", "POST"])
def server() -> Response:
    """Ask for the address that devices connect to."""
    current = services().servers.current(reading())
    values = {"endpoint": str(current.endpoint or "")}
    errors: dict[str, str] = {}
    if request.method == "POST":
        values = {"endpoint": request.form.get("endpoint", "")}
        try:
            services().servers.set_endpoint(values["endpoint"], guard.actor())
            return render.go(url_for("profiles.index"))
        except InvalidFields as error:
            errors = problems_by_field(error)
    suggestions = suggest_endpoints(request.host, current.listen_port)
    if not errors and not values["endpoint"] and suggestions:
        values["endpoint"] = suggestions[0]
    return render.show(
        "setup/server.html",
        status=422 if errors else 200,
        values=values,
        errors=errors,
        server=shown(current),
        server_public=suggestions,
    )


def suggest_endpoints(host: str, port: int) -> list[str]:
    """Return likely endpoints: the name that the browser used, then the address of the way out. No packet is sent."""
    hosts = []
    name = host.rsplit(":", 1)[0]
    if not is_loopback(name.strip("[]")):
        hosts.append(name)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1 (RFC 5737): only the routing table is asked.
            address = probe.getsockname()[0]
        except OSError:
            address = ""
    if address and not is_loopback(address) and address not in hosts:
        hosts.append(address)
    return [f"{item}:{port}" for item in hosts]
