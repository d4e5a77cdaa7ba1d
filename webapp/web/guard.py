"""Who may come in: deny by default. The two lists below are all that a nobody, or a token, can reach."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from flask import Flask, Request, request, session
from flask_login import AnonymousUserMixin, UserMixin, current_user
from werkzeug.exceptions import BadRequest

from webapp.errors import N_, NotPermitted, NotSignedIn
from webapp.extensions import db, login_manager
from webapp.services.accounts import Person
from webapp.services.audit import Actor
from webapp.settings import Settings, is_loopback
from webapp.web.context import services

PUBLIC = frozenset(
    {
        "static",
        "health.alive",
        "health.ready",
        "health.metrics",  # Asks for its own token.
        "home.index",
        "setup.account",  # Asks for a one-time link.
        "sessions.login",
        "api.openapi",
    }
)
"""Endpoints for nobody. Everything else needs a person."""
BY_TOKEN = frozenset({"profiles.download", "profiles.qr"})
"""Pages' endpoints that a token opens as well; the API's own open by a token only."""
ADMIN_BLUEPRINTS = frozenset({"servers"})
ADMIN = frozenset({"setup.server"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
READING = frozenset({"read", "manage", "all"})
CHANGING = frozenset({"manage", "all"})


@dataclass(frozen=True)
class SignedInUser(UserMixin):  # type: ignore[misc]
    """The person behind a request. ``session_id`` is None and ``scope`` is set for one who came by a token."""

    person: Person
    session_id: int | None = None
    scope: str | None = None

    @property
    def username(self) -> str:
        return self.person.username

    @property
    def is_admin(self) -> bool:
        return self.person.is_admin

    def get_id(self) -> str:
        return str(self.person.id)


class Nobody(AnonymousUserMixin):  # type: ignore[misc]
    """A request without a person."""

    username = ""
    is_admin = False


def install(app: Flask) -> None:
    """Ask before every request."""
    login_manager.anonymous_user = Nobody
    login_manager.request_loader(_find_person)
    login_manager.session_protection = None  # Ours is a row in the database; Flask-Login keeps nothing in the cookie.
    # Flask runs these in the order of their registration; CSRFProtect's check came before them.
    app.before_request(_check_host)
    app.before_request(_check_origin)
    app.before_request(_check_person)


def bearer_token(incoming: Request) -> str | None:
    """Return the token of ``Authorization: Bearer …``, or None."""
    kind, _, token = incoming.headers.get("Authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" and token.strip() else None


def person() -> Person:
    """Return the person of this request; the guard has made sure of one."""
    who: Person = current_user.person
    return who


def actor() -> Actor:
    """Return who acts in this request, for the audit."""
    who = person()
    return Actor(who.username, who.id, request.remote_addr or "")


def _find_person(incoming: Request) -> SignedInUser | None:
    is_api = incoming.blueprint == "api"
    token = bearer_token(incoming)
    if token is not None:
        if not is_api and incoming.endpoint not in BY_TOKEN:
            return None
        holder = services().tokens.find(db.session(), token)
        return None if holder is None else SignedInUser(holder.person, scope=holder.scope)
    cookie = session.get("sid")
    if is_api or not isinstance(cookie, str):
        return None
    found = services().sessions.find(db.session(), cookie)
    return None if found is None else SignedInUser(found.person, session_id=found.session_id)


def _check_host() -> None:
    """Refuse a host name that this server does not go by: a link made from it would lead elsewhere."""
    if request.endpoint in {"health.alive", "health.ready"}:
        return
    host = urlsplit(f"//{request.host}").hostname or ""
    if not _is_known_host(host, services().settings):
        raise BadRequest(N_("This server does not go by that name. The one who runs it can add it to ALLOWED_HOSTS."))


def _is_known_host(host: str, settings: Settings) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return is_loopback(host) or host in {urlsplit(settings.public_url).hostname, *settings.allowed_hosts}
    return True  # An address cannot be made to point here by somebody else's name server.


def _check_origin() -> None:
    """Refuse an unsafe request that another site made the browser send (the CSRF token is checked besides)."""
    if request.method in SAFE_METHODS or request.blueprint == "api":
        return
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
        raise NotPermitted(N_("Another site sent this. Nothing was changed."))
    origin = request.headers.get("Origin")
    if origin is None:
        return
    public = urlsplit(services().settings.public_url)
    if origin not in {f"{public.scheme}://{public.netloc}", f"{request.scheme}://{request.host}"}:
        raise NotPermitted(N_("Another site sent this. Nothing was changed."))


def _check_person() -> None:
    endpoint = request.endpoint
    if endpoint is None or endpoint in PUBLIC:
        return  # No such page: the error handler answers.
    if not current_user.is_authenticated:
        raise NotSignedIn
    scope = current_user.scope
    if scope is not None and scope not in (READING if request.method in SAFE_METHODS else CHANGING):
        raise NotPermitted(N_("This token may not do this."))
    if (request.blueprint in ADMIN_BLUEPRINTS or endpoint in ADMIN) and not current_user.is_admin:
        raise NotPermitted
