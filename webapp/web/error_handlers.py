"""ONE table from error to status, and one way to say it: a page, a fragment, or problem JSON (RFC 9457)."""

from __future__ import annotations

import logging
from http import HTTPStatus

from flask import Flask, jsonify, redirect, request, url_for
from flask_wtf.csrf import CSRFError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from webapp import errors
from webapp.errors import N_, AppError, DatabaseUnusable, InvalidFields, NotSignedIn, Throttled
from webapp.web import render
from webapp.web.pages import translate

log = logging.getLogger(__name__)

STATUSES: tuple[tuple[type[AppError], int], ...] = (
    (errors.NotFound, 404),
    (errors.NotSignedIn, 401),
    (errors.NotPermitted, 403),
    (errors.SignInFailed, 422),
    (errors.Throttled, 429),
    (errors.LinkDead, 410),
    (errors.NameTaken, 409),
    (errors.InvalidFields, 422),
    (errors.PoolExhausted, 409),
    (errors.LimitReached, 409),
    (errors.NotReady, 409),
    (errors.DatabaseUnusable, 503),
    (errors.ToolError, 503),
    (errors.DecryptionFailed, 500),
    (errors.AppError, 500),
)
"""The first class that fits decides. A form that shows its own fields answers 422 itself."""

SENTENCES = {
    400: N_("This request could not be understood."),
    404: N_("This page does not exist, or it belongs to somebody else."),
    405: N_("This address does not take that kind of request."),
    413: N_("This is too much at once. Nothing was stored."),
    414: N_("This address is too long."),
    415: N_("This kind of content is not taken here."),
    500: AppError.sentence,
}
TITLES = {
    400: N_("Not understood"),
    401: N_("Please sign in"),
    403: N_("Not for you"),
    404: N_("No gate here"),
    409: N_("Not now"),
    410: N_("This link is used up"),
    413: N_("Too much"),
    422: N_("Not saved"),
    429: N_("Too many tries"),
    500: N_("Something broke"),
    503: N_("Back in a minute"),
}


def install(app: Flask) -> None:
    """Answer every error, deliberate or not."""
    app.register_error_handler(AppError, _deliberate)
    app.register_error_handler(CSRFError, _wrong_csrf)
    app.register_error_handler(DBAPIError, _database)
    app.register_error_handler(PoolTimeout, _database)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, _unexpected)


def status_of(error: AppError) -> int:
    """Return the status that the table gives to an error."""
    return next(status for kind, status in STATUSES if isinstance(error, kind))


def wants_page() -> bool:
    """Whether the answer goes to a person's browser: it names HTML, and the address is not the API's."""
    return not request.path.startswith("/api/") and "text/html" in request.headers.get("Accept", "")


def _deliberate(error: AppError) -> Response:
    status = status_of(error)
    if status >= 500:
        log.error("%s %s: %s", request.method, request.path, error, exc_info=error.__cause__)
    if isinstance(error, NotSignedIn):
        return _not_signed_in(error)
    sentence = translate(error.sentence, **error.values)
    fields = error.problems if isinstance(error, InvalidFields) else ()
    if fields:
        sentence = " ".join(translate(problem.sentence, **problem.values) for problem in fields)
    response = _answer(status, sentence, fields)
    if isinstance(error, Throttled):
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response


def _not_signed_in(error: NotSignedIn) -> Response:
    if render.wants_fragment():
        return render.sign_in_again(url_for("sessions.login"))
    if wants_page():
        is_get = request.method in {"GET", "HEAD"}
        return redirect(
            url_for("sessions.login", next=request.script_root + request.full_path.rstrip("?") if is_get else None), 303
        )
    response = _answer(401, translate(error.sentence))
    response.headers["WWW-Authenticate"] = 'Bearer realm="Postern"'
    return response


def _wrong_csrf(error: CSRFError) -> Response:
    return _answer(403, translate(N_("This page is too old. Load it again, then try once more.")))


def _database(error: Exception) -> Response:
    log.error("%s %s: the database cannot be used: %s", request.method, request.path, type(error).__name__)
    return _answer(503, translate(DatabaseUnusable.sentence))


def _http(error: HTTPException) -> Response:
    if error.code is None or error.code < 400:
        return error.get_response()  # A redirect that Werkzeug made.
    is_ours = error.code == 400 and error.description != type(error).description
    sentence = error.description if is_ours and error.description else SENTENCES.get(error.code, SENTENCES[400])
    response = _answer(error.code, translate(sentence))
    for name, value in error.get_headers():
        if name.lower() in {"allow", "retry-after"}:
            response.headers[name] = value
    return response


def _unexpected(error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    return _answer(500, translate(AppError.sentence))


def _answer(status: int, sentence: str, fields: tuple[errors.FieldProblem, ...] = ()) -> Response:
    if render.wants_fragment():
        return render.message(sentence, status)
    if wants_page():
        title = translate(TITLES.get(status, TITLES[500 if status >= 500 else 400]))
        page = render.alone("errors/error.html", status=status, title=title, sentence=sentence)
        return Response(page, status, content_type="text/html; charset=utf-8")
    problem: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": sentence,
    }
    if fields:
        problem["errors"] = [
            {"field": item.field, "detail": translate(item.sentence, **item.values)} for item in fields
        ]
    response: Response = jsonify(problem)
    response.status_code = status
    response.headers["Content-Type"] = "application/problem+json"
    return response
