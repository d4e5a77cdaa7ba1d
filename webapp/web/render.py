"""One URL, two answers: the only module that knows htmx. A full page for a plain request, a fragment for htmx."""

from __future__ import annotations

from typing import Any

from flask import current_app, flash, redirect, render_template
from htmx_flask import make_response, request
from werkzeug.wrappers import Response


def wants_fragment() -> bool:
    """Whether htmx asked, and will put the answer into the page that is open."""
    return bool(request.htmx)


def show(page: str, fragment: str | None = None, /, *, status: int = 200, **context: Any) -> Response:
    """Render the page, or for htmx its fragment; without a fragment both get the page."""
    template = fragment if fragment is not None and wants_fragment() else page
    response: Response = make_response(render_template(template, **context), status)
    return response


def done(location: str, message: str, fragment: str | None = None, /, **context: Any) -> Response:
    """Answer a POST that worked: the changed fragment for htmx, else a flash and 303 to the location."""
    if fragment is not None and wants_fragment():
        response: Response = make_response(render_template(fragment, **context), 200)
        return response
    if message:
        flash(message, "open")
    return go(location)


def go(location: str) -> Response:
    """Send the browser on by GET; htmx is told to load the whole page."""
    if wants_fragment():
        response: Response = make_response("", 200, redirect=location)
        return response
    return redirect(location, 303)


def message(sentence: str, status: int, kind: str = "blocked") -> Response:
    """Answer htmx with a sentence for the page's message area, under the real status."""
    response: Response = make_response(
        alone("errors/_message.html", sentence=sentence, kind=kind),
        status,
        retarget="#messages",
        reswap="innerHTML",
    )
    return response


def alone(template: str, /, **context: Any) -> str:
    """Render without asking who is there, as context processors do: the database may be what is broken."""
    return current_app.jinja_env.get_template(template).render(context)


def sign_in_again(location: str) -> Response:
    """Tell htmx that the session has ended and where to go."""
    response: Response = make_response("", 401, redirect=location)
    return response
