"""Builds the services once, for whoever needs them: the web's application, the command line, the agent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from webapp.services import vault as vault_service
from webapp.services.accounts import AccountService, Argon2Hasher
from webapp.services.database import Database
from webapp.services.profiles import ProfileService
from webapp.services.servers import ServerService
from webapp.services.sessions import SessionService
from webapp.services.tokens import TokenService
from webapp.services.tombstones import Tombstones
from webapp.services.vault import Vault
from webapp.services.wg import KeyMaker, Tools
from webapp.settings import Settings


def utc_now() -> datetime:
    """Return the time that everything is stored in."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Services:
    """The verbs of the program, each with what it needs."""

    settings: Settings
    db: Database
    vault: Vault
    tools: Tools
    accounts: AccountService
    sessions: SessionService
    tokens: TokenService
    servers: ServerService
    profiles: ProfileService
    clock: Callable[[], datetime] = utc_now


def build_services(
    settings: Settings, db: Database, tools: Tools | None = None, *, clock: Callable[[], datetime] = utc_now
) -> Services:
    """Wire the services to one database. Tools are looked for on PATH unless they are given.

    Raises SettingsInvalid when the kept secrets in DATA_DIR cannot be read or made.
    """
    tools = tools or Tools.find()
    vault = Vault(vault_service.encryption_key(settings))
    keys = KeyMaker(tools)
    servers = ServerService(db, vault, settings.server, keys, clock)
    return Services(
        settings=settings,
        db=db,
        vault=vault,
        tools=tools,
        accounts=AccountService(db, Argon2Hasher(), clock),
        sessions=SessionService(db, clock),
        tokens=TokenService(db, clock),
        servers=servers,
        profiles=ProfileService(db, vault, keys, servers, Tombstones(settings.data_dir), clock),
        clock=clock,
    )
