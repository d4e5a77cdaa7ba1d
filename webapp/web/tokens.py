"""Personal tokens for scripts: made here, shown once, revoked at once."""

from __future__ import annotations

from flask import Blueprint, request, url_for
from werkzeug.wrappers import Response

from webapp.errors import N_, InvalidFields
from webapp.web import guard, render
from webapp.web.context import services
from webapp.web.forms import problems_by_field
from webapp.web.pages import translate

bp = Blueprint("tokens", __name__, url_prefix="/tokens")


@bp.route("", methods=["GET", "POST"])
def index() -> Response:
    """Show the tokens; make one and show it this once."""
    owner = guard.person()
    fresh, values, errors = None, {}, {}
    if request.method == "POST":
        name, scope = request.form.get("name", ""), request.form.get("scope", "all")
        try:
            fresh = services().tokens.create_token(owner.id, name, scope, guard.actor())
        except InvalidFields as error:
            values, errors = {"name": name, "scope": scope}, problems_by_field(error)
    return render.show(
        "tokens/index.html",
        "tokens/_tokens.html",
        status=422 if errors else 200,
        tokens=services().tokens.list_tokens(owner.id),
        fresh_token=fresh,
        values=values,
        errors=errors,
    )


@bp.post("/<int:token_id>/delete")
def revoke(token_id: int) -> Response:
    """Make a token worthless at once."""
    owner = guard.person()
    name = services().tokens.revoke_token(owner.id, token_id, guard.actor())
    return render.done(
        url_for("tokens.index"),
        translate(N_("%(name)s does not open anything any more."), name=name),
        "tokens/_tokens.html",
        tokens=services().tokens.list_tokens(owner.id),
        fresh_token=None,
        revoked=name,
        values={},
        errors={},
    )
