"""One's devices: the list, adding one, its page, its file, its QR code, deleting it."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from urllib.parse import quote

from flask import Blueprint, request, url_for
from flask import Response as FileResponse
from werkzeug.exceptions import NotFound as NoSuchPage
from werkzeug.wrappers import Response

from webapp.domain.names import FILE_NAME
from webapp.domain.states import State
from webapp.errors import N_, FieldProblem, InvalidFields, NotReady
from webapp.services.profiles import ProfileView
from webapp.web import guard, render
from webapp.web.context import reading, reading_afresh, services
from webapp.web.forms import problems_by_field
from webapp.web.pages import translate

bp = Blueprint("profiles", __name__, url_prefix="/profiles")


@dataclass(frozen=True)
class Page:
    """Where a list stands: the addresses around it, and of its own polling."""

    total: int
    gates_url: str
    next_url: str | None
    previous_url: str | None


@bp.get("/")
def index() -> Response:
    """Show the list."""
    return render.show("profiles/index.html", values={}, errors={}, **_list_context())


@bp.get("/gates")
def gates() -> Response:
    """Answer the list's own polling; somebody who opens the address is led to the list."""
    if not render.wants_fragment():
        return render.go(url_for("profiles.index"))
    return render.show("profiles/index.html", "profiles/_gates.html", **_list_context())


@bp.post("/")
def create() -> Response:
    """Add a device from one word."""
    name = request.form.get("name", "")
    try:
        profile = services().profiles.create_profile(guard.person().id, name, guard.actor())
    except InvalidFields as error:
        return render.show(
            "profiles/index.html",
            "profiles/_devices.html",
            status=422,
            values={"name": name},
            errors=problems_by_field(error),
            **_list_context(),
        )
    reading_afresh()
    return render.done(
        url_for("profiles.index"),
        translate(N_("%(name)s was added."), name=profile.name),
        "profiles/_devices.html",
        values={},
        errors={},
        added=profile,
        **_list_context(),
    )


@bp.get("/<int:profile_id>")
def show(profile_id: int) -> Response:
    """Show one device: its state, its file, its QR code, its curl line."""
    profile = services().profiles.show_profile(reading(), guard.person().id, profile_id)
    server = services().servers.current(reading())
    problem = None
    try:
        server.check_complete()
    except NotReady as error:
        problem = translate(error.sentence, **error.values)
    return render.show(
        "profiles/show.html",
        profile=profile,
        is_plain=not server.obfuscation,
        download_problem=problem,
        curl_line=curl_line(profile),
        refresh_s=_refresh_s([profile]),
    )


@bp.get("/<int:profile_id>/status")
def status(profile_id: int) -> Response:
    """Answer the device page's own polling."""
    if not render.wants_fragment():
        return render.go(url_for("profiles.show", profile_id=profile_id))
    profile = services().profiles.show_profile(reading(), guard.person().id, profile_id)
    return render.show("profiles/show.html", "profiles/_status.html", profile=profile)


@bp.get("/<ref>.conf")
def download(ref: str) -> Response:
    """Give the file, and remember which revision the person has now."""
    file = services().profiles.profile_file(reading(), guard.person().id, ref)
    if request.method == "GET" and not file.is_delivered:
        services().profiles.mark_delivered(guard.person().id, file.profile_id, file.revision)
    response = FileResponse(file.text.encode(), content_type="application/octet-stream")
    response.headers["Content-Disposition"] = (
        f"attachment; filename=\"{file.file_name}\"; filename*=UTF-8''{quote(file.file_name)}"
    )
    return response


@bp.get("/<int:profile_id>/qr.svg")
def qr(profile_id: int) -> Response:
    """Draw the file as a QR code."""
    import segno

    file = services().profiles.profile_file(reading(), guard.person().id, str(profile_id))
    try:
        code = segno.make_qr(file.text, error="l")
    except segno.DataOverflowError as error:
        raise NotReady(N_("This file is too large for a QR code. Download it instead.")) from error
    drawing = io.BytesIO()
    code.save(drawing, kind="svg", omitsize=True, border=4, svgclass=None, lineclass=None, xmldecl=False)
    return FileResponse(drawing.getvalue(), content_type="image/svg+xml")


@bp.route("/<int:profile_id>/delete", methods=["GET", "POST"])
def delete(profile_id: int) -> Response:
    """Ask, then delete."""
    owner = guard.person()
    if request.method != "POST":
        profile = services().profiles.show_profile(reading(), owner.id, profile_id)
        return render.show("profiles/delete.html", profile=profile)
    name = services().profiles.delete_profile(owner.id, profile_id, guard.actor())
    reading_afresh()
    return render.done(
        url_for("profiles.index"),
        translate(N_("%(name)s was deleted."), name=name),
        "profiles/_devices.html",
        values={},
        errors={},
        **_list_context(),
    )


@bp.route("/<int:profile_id>/change", methods=["GET", "POST"])
def change(profile_id: int) -> Response:
    """Rename a device, give it a last day, note something about it."""
    owner = guard.person()
    profile = services().profiles.show_profile(reading(), owner.id, profile_id)
    values = {"name": profile.name, "expires_on": _last_day(profile.expires_at), "notes": profile.notes}
    errors: dict[str, str] = {}
    if request.method == "POST":
        values = {name: request.form.get(name, "") for name in values}
        try:
            changed = services().profiles.change_profile(
                owner.id,
                profile_id,
                guard.actor(),
                name=values["name"],
                expires_at=_end_of_day(values["expires_on"]),
                notes=values["notes"],
            )
            saved = translate(N_("%(name)s was changed."), name=changed.name)
            return render.done(url_for("profiles.show", profile_id=profile_id), saved)
        except InvalidFields as error:
            errors = problems_by_field(error)
    return render.show(
        "profiles/change.html",
        status=422 if errors else 200,
        profile=profile,
        values=values,
        errors=errors,
        today=services().clock().date().isoformat(),
    )


@bp.post("/<int:profile_id>/switch")
def switch(profile_id: int) -> Response:
    """Turn a device off, or on again."""
    is_on = request.form.get("enabled") == "yes"
    profile = services().profiles.change_profile(guard.person().id, profile_id, guard.actor(), enabled=is_on)
    sentence = N_("%(name)s is on.") if is_on else N_("%(name)s is off.")
    return render.done(url_for("profiles.show", profile_id=profile_id), translate(sentence, name=profile.name))


@bp.post("/<int:profile_id>/restore")
def restore(profile_id: int) -> Response:
    """Bring a deleted device back, with its address and key."""
    profile = services().profiles.restore_profile(guard.person().id, profile_id, guard.actor())
    reading_afresh()
    return render.done(
        url_for("profiles.index"),
        translate(N_("%(name)s is back. Its file works again."), name=profile.name),
        "profiles/_devices.html",
        values={},
        errors={},
        **_list_context(),
    )


def _last_day(expires_at: datetime | None) -> str:
    return "" if expires_at is None else (expires_at - timedelta(microseconds=1)).date().isoformat()


def _end_of_day(text: str) -> datetime | None:
    """Return the first moment after a day in UTC, or None for no text. Raises InvalidFields."""
    if not text.strip():
        return None
    try:
        day = date.fromisoformat(text.strip())
        if not 2000 <= day.year <= 9000:
            raise ValueError("a year that not every database and calendar holds")
        return datetime.combine(day, time.min, UTC) + timedelta(days=1)
    except (ValueError, OverflowError) as error:
        sentence = N_("Give a day such as 2027-01-31, or nothing.")
        raise InvalidFields([FieldProblem("expires_on", sentence)]) from error


def curl_line(profile: ProfileView) -> str:
    """Return the line that fetches the file in a script, ready to copy; the token stays the person's to fill in."""
    address = f"{services().settings.public_url}/profiles/{quote(profile.name)}.conf"
    is_safe = FILE_NAME.fullmatch(profile.name) is not None and quote(profile.name) == profile.name
    output = "-fsSO" if is_safe else f"-fsS -o {profile.file_name}.conf"
    return f'curl {output} -H "Authorization: Bearer $TOKEN" {address}'


def _list_context() -> dict[str, Any]:
    owner = guard.person()
    before = request.args.get("before", "0")
    if not (before.isascii() and before.isdecimal() and len(before) < 19):
        raise NoSuchPage
    page = services().profiles.list_profiles(reading(), owner.id, before=int(before))
    limit = services().accounts.profile_limit(reading(), owner.id)
    server = services().servers.current(reading())
    total = len(page.items)
    if limit is not None:
        total = services().profiles.count_profiles(reading(), owner.id)
    return {
        "profiles": page.items,
        "sums": Counter(str(item.state) for item in page.items),
        "page": Page(
            total=total,
            gates_url=url_for("profiles.gates", before=before if before != "0" else None),
            next_url=None if page.next_id is None else url_for("profiles.index", before=page.next_id),
            previous_url=None if before == "0" else url_for("profiles.index"),
        ),
        "limit": limit,
        "restorable": services().profiles.restorable_profiles(reading(), owner.id) if before == "0" else (),
        "notice": _notice(server.endpoint is None),
        "refresh_s": _refresh_s(page.items),
    }


def _notice(is_endpoint_missing: bool) -> str | None:
    if not is_endpoint_missing:
        return None
    return translate(N_("The server's address is not set yet: devices can be added, but have no file."))


def _refresh_s(profiles: Sequence[ProfileView]) -> int | None:
    """After how many seconds a browser without JavaScript loads the page again; None where no moment is awaited."""
    is_soon = any(profile.state == State.PENDING and profile.pending_reason is None for profile in profiles)
    return 3 if is_soon else None


def moment(value: datetime | None) -> str | None:
    """Return a moment as RFC 3339 text in UTC, or None."""
    return None if value is None else value.isoformat(timespec="seconds").replace("+00:00", "Z")
