"""The API for scripts: JSON in, JSON out, by token only."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Response, jsonify, request, url_for
from werkzeug.exceptions import BadRequest

from webapp.errors import N_, FieldProblem, InvalidFields
from webapp.services.profiles import LARGEST_PAGE, PAGE, ProfileView
from webapp.web import guard
from webapp.web.context import reading, services
from webapp.web.openapi import describe
from webapp.web.pages import translate
from webapp.web.profiles import moment

bp = Blueprint("api", __name__, url_prefix="/api/v1")
CREATE_FIELDS: dict[str, Any] = {"name": str}
CHANGE_FIELDS: dict[str, Any] = {"name": str, "enabled": bool, "expires_at": (str, type(None)), "notes": str}


@bp.get("/profiles")
def list_profiles() -> Response:
    """List the person's profiles, oldest first."""
    limit, after = _number("limit", PAGE, 1, LARGEST_PAGE), _number("after", 0, 0, 2**63 - 1)
    page = services().profiles.list_profiles(reading(), guard.person().id, limit=limit, after=after)
    following = None
    if page.next_id is not None:
        path = url_for("api.list_profiles", limit=limit, after=page.next_id)
        following = services().settings.public_url + path.removeprefix(services().settings.base_path)
    return jsonify(items=[as_json(item) for item in page.items], next=following)


@bp.post("/profiles")
def create_profile() -> tuple[Response, int, dict[str, str]]:
    """Create a profile from a name."""
    fields = _fields(CREATE_FIELDS)
    if "name" not in fields:
        raise InvalidFields([FieldProblem("name", N_("Please type a name."))])
    profile = services().profiles.create_profile(guard.person().id, fields["name"], guard.actor())
    return jsonify(as_json(profile)), 201, {"Location": url_for("api.show_profile", profile_id=profile.id)}


@bp.get("/profiles/<int:profile_id>")
def show_profile(profile_id: int) -> Response:
    """Show one of the person's profiles."""
    return jsonify(as_json(services().profiles.show_profile(reading(), guard.person().id, profile_id)))


@bp.patch("/profiles/<int:profile_id>")
def change_profile(profile_id: int) -> Response:
    """Change what is given of a profile."""
    fields = _fields(CHANGE_FIELDS)
    if "expires_at" in fields and fields["expires_at"] is not None:
        fields["expires_at"] = _moment(fields["expires_at"])
    profile = services().profiles.change_profile(guard.person().id, profile_id, guard.actor(), **fields)
    return jsonify(as_json(profile))


@bp.delete("/profiles/<int:profile_id>")
def delete_profile(profile_id: int) -> tuple[str, int]:
    """Delete one of the person's profiles."""
    services().profiles.delete_profile(guard.person().id, profile_id, guard.actor())
    return "", 204


@bp.get("/openapi.json")
def openapi() -> Response:
    """Describe this API (OpenAPI 3.1)."""
    return jsonify(describe(services().settings.public_url))


def as_json(profile: ProfileView) -> dict[str, Any]:
    """Return what the API shows of a profile: never a private key."""
    return {
        "id": profile.id,
        "name": profile.name,
        "file_name": f"{profile.file_name}.conf",
        "ipv4_address": profile.ipv4_address,
        "ipv6_address": profile.ipv6_address,
        "public_key": profile.public_key,
        "enabled": profile.enabled,
        "state": str(profile.state),
        "pending_reason": None if profile.pending_reason is None else translate(profile.pending_reason),
        "outdated": profile.outdated,
        "created_at": moment(profile.created_at),
        "expires_at": moment(profile.expires_at),
        "latest_handshake": moment(profile.latest_handshake),
        "rx_bytes": profile.rx_bytes,
        "tx_bytes": profile.tx_bytes,
        "notes": profile.notes,
    }


def _fields(allowed: dict[str, Any]) -> dict[str, Any]:
    """Return the request's JSON object. Raises BadRequest for what is none, InvalidFields for a foreign field."""
    try:
        body = request.get_json(force=True)
    except RecursionError as error:
        raise BadRequest from error
    if not isinstance(body, dict):
        raise BadRequest(N_("The body must be a JSON object."))
    problems = []
    for name, value in body.items():
        if name not in allowed:
            problems.append(FieldProblem(name, N_("This field cannot be set.")))
        elif not isinstance(value, allowed[name]):
            problems.append(FieldProblem(name, N_("This field has the wrong type.")))
    if problems:
        raise InvalidFields(problems)
    return body


def _number(name: str, default: int, low: int, high: int) -> int:
    text = request.args.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and low <= int(text) <= high):
        sentence = N_("Give a whole number from %(low)s to %(high)s.")
        raise InvalidFields([FieldProblem(name, sentence, {"low": low, "high": high})])
    return int(text)


def _moment(text: str) -> datetime:
    try:
        value = datetime.fromisoformat(text)
        if value.tzinfo is None:
            raise ValueError("no time zone")
        value = value.astimezone(UTC)
        if not 2000 <= value.year <= 9000:
            raise ValueError("a year that not every database and calendar holds")
        return value
    except (ValueError, OverflowError) as error:
        sentence = N_("Give a moment with its time zone, such as 2027-01-31T12:00:00Z.")
        raise InvalidFields([FieldProblem("expires_at", sentence)]) from error
