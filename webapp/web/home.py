"""The front door: leads to one's devices, or to the sign-in by way of them."""

from __future__ import annotations

from flask import Blueprint, redirect, url_for
from werkzeug.wrappers import Response

bp = Blueprint("home", __name__)


@bp.get("/")
def index() -> Response:
    """Lead on."""
    return redirect(url_for("profiles.index"), 303)
