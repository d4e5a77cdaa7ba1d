"""Sign in, sign out."""

from __future__ import annotations

from flask import Blueprint, request, session, url_for
from flask_login import current_user
from werkzeug.wrappers import Response

from webapp.errors import SignInFailed, Throttled
from webapp.services.accounts import Person
from webapp.web import guard, render
from webapp.web.context import services
from webapp.web.forms import local_path
from webapp.web.pages import translate

bp = Blueprint("sessions", __name__)


@bp.route("/login", methods=["GET", "POST"])
def login() -> Response:
    """Show the form; check name and password, start a new session, and lead back."""
    back = local_path(request.values.get("next", ""))
    if request.method != "POST":
        if current_user.is_authenticated:
            return render.go(back or url_for("profiles.index"))
        return _form(back, "", 200)
    username = request.form.get("username", "")
    try:
        person = services().accounts.authenticate(username, request.form.get("password", ""), request.remote_addr or "")
    except SignInFailed as error:
        return _form(back, username, 422, translate(error.sentence))
    except Throttled as error:
        response = _form(back, username, 429, translate(error.sentence, **error.values))
        response.headers["Retry-After"] = str(error.retry_after_s)
        return response
    start_session(person)
    return render.go(back or url_for("profiles.index"))


@bp.post("/logout")
def logout() -> Response:
    """End the session, here and in the database."""
    if current_user.session_id is not None:
        services().sessions.close_session(current_user.session_id, guard.actor())
    session.clear()
    return render.go(url_for("sessions.login"))


def start_session(person: Person) -> None:
    """Give the browser a session of its own: a new id and a new CSRF token, whatever it held before."""
    session.clear()
    session.permanent = True
    session["sid"] = services().sessions.open_session(
        person, request.remote_addr or "", request.headers.get("User-Agent", "")
    )


def _form(back: str | None, username: str, status: int, problem: str | None = None) -> Response:
    return render.show(
        "sessions/login.html",
        status=status,
        values={"username": username},
        errors={},
        problem=problem,
        next=back or "",
    )
