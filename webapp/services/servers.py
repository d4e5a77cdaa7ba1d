"""The server's row: made before the web answers, kept equal to what the environment pins, edited on the page."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from webapp.domain.addresses import FIRST_INDEX, Pool
from webapp.domain.endpoint import Endpoint
from webapp.domain.keys import PrivateKey, PublicKey
from webapp.domain.obfuscation import Obfuscation, default_mtu
from webapp.domain.obfuscation_presets import generate
from webapp.errors import N_, FieldProblem, InvalidFields, NotPermitted, NotReady, SettingsInvalid
from webapp.models import (
    AddressSequence,
    AgentReport,
    Base,
    ChangeSeq,
    Installation,
    PeerStatus,
    Server,
    VpnProfile,
)
from webapp.services import audit
from webapp.services.allocator import confirm_released
from webapp.services.audit import Actor
from webapp.services.database import Database, ring
from webapp.services.vault import Vault
from webapp.services.wg import KeyMaker, Tools, public_key_of
from webapp.settings import ServerSettings

DEFAULT_NETWORK = IPv4Network("10.8.0.0/24")
DEFAULT_PORT = 51820
DEFAULT_DNS = (IPv4Address("1.1.1.1"), IPv4Address("1.0.0.1"))
DEFAULT_ALLOWED_IPS = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))
DEFAULT_KEEPALIVE = 25
AGENT_SILENT_AFTER = timedelta(seconds=30)
"""The agent reports at least every 10 s; after three silent reports it counts as gone."""
PRIVATE_KEY = "servers.private_key"
_FIRST = select(Server).order_by(Server.id).limit(1)


@dataclass(frozen=True)
class ServerView:
    """The server's row with its texts parsed; ``mtu`` is computed where none was set. No private key."""

    id: int
    name: str
    interface: str
    mode: str
    endpoint: Endpoint | None
    listen_port: int
    public_key: PublicKey | None
    pool: Pool
    dns: tuple[IPv4Address | IPv6Address, ...]
    allowed_ips: tuple[IPv4Network | IPv6Network, ...]
    mtu: int
    persistent_keepalive: int
    obfuscation: Obfuscation
    revision: int

    @property
    def has_interface(self) -> bool:
        """Whether an agent is to carry the peers; false in mode ``off``, where nothing is ever pending."""
        return self.mode != "off"

    def check_complete(self) -> None:
        """Raise NotReady with the sentence that says what a client's file still needs."""
        if self.endpoint is None:
            raise NotReady(N_("The server's address is not set yet. The person who runs it can set it."))
        if self.public_key is None:
            raise NotReady(N_("The server's key is not known yet. It is read when its interface is up."))


@dataclass(frozen=True)
class Problem:
    """One thing that needs the admin: what, why it matters, and the line to type (None where there is none)."""

    title: str
    sentence: str
    command: str | None = None


@dataclass(frozen=True)
class ServerReport:
    """What the agent last said. ``is_alive`` is false when it never spoke or is silent for 30 s."""

    seen_at: datetime | None
    is_alive: bool
    problems: tuple[Problem, ...]
    facts: dict[str, Any]

    @property
    def pending_reason(self) -> str | None:
        """Why peers do not become live right now, for a person; None while the agent is at work."""
        if not self.is_alive:
            return N_("The part of the server that lets devices in is not running.")
        if not self.facts.get("is_up", True) and self.problems:
            return self.problems[0].sentence
        return None


def decide_mode(wanted: str, decided: str | None, *, interface_exists: bool, can_manage: bool) -> str:
    """Return the interface mode to store. ``auto`` decides once: what ``decided`` says stays.

    ``decided`` is None while nothing hangs on the decision; then an existing interface is adopted, else one is
    managed where that is permitted, else the mode is ``off``.
    """
    if wanted != "auto":
        return wanted
    if decided is not None:
        return decided
    if interface_exists:
        return "adopt"
    return "manage" if can_manage else "off"


def view_of(row: Server) -> ServerView:
    """Return the parsed view of a row."""
    obfuscation = Obfuscation.from_dict(row.obfuscation)
    return ServerView(
        id=row.id,
        name=row.name,
        interface=row.interface,
        mode=row.interface_mode,
        endpoint=None if row.endpoint is None else Endpoint.parse(row.endpoint),
        listen_port=row.listen_port,
        public_key=None if row.public_key is None else PublicKey.from_base64(row.public_key),
        pool=Pool(IPv4Network(row.network), None if row.network6 is None else IPv6Network(row.network6)),
        dns=tuple(ip_address(item) for item in _items(row.dns)),
        allowed_ips=tuple(ip_network(item) for item in _items(row.allowed_ips)),
        mtu=default_mtu(obfuscation) if row.mtu is None else row.mtu,
        persistent_keepalive=row.persistent_keepalive,
        obfuscation=obfuscation,
        revision=row.revision,
    )


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _text(items: tuple[object, ...]) -> str:
    return ", ".join(str(item) for item in items)


class ServerService:
    """The verbs on the server's row."""

    def __init__(
        self, db: Database, vault: Vault, pinned: ServerSettings, keys: KeyMaker, clock: Callable[[], datetime]
    ) -> None:
        self.db = db
        self.vault = vault
        self.pinned = pinned
        self.keys = keys
        self.clock = clock

    def current(self, session: Session) -> ServerView:
        """Return the server of this deployment. There is one from the first ``db upgrade`` on.

        Raises SettingsInvalid where that command did not end well.
        """
        row = session.scalars(_FIRST).one_or_none()
        if row is None:
            raise SettingsInvalid(["DATABASE_URL: this database has no server yet; type: postern db upgrade"])
        return view_of(row)

    def taken_indexes(self, session: Session, server: ServerView) -> frozenset[int]:
        """Return the indexes whose addresses strangers hold on an adopted interface, as the agent last saw it."""
        if server.mode != "adopt":
            return frozenset()
        return frozenset(self.report(session, server.id).facts.get("taken_indexes", ()))

    def prepare(
        self, wanted_mode: str, tools: Tools, *, interface_exists: bool, can_manage: bool
    ) -> tuple[ServerView, bool]:
        """Make the server's row, or bring it up to what the environment pins; part of ``db upgrade``.

        Returns the server and whether it is new. The keys and the parameters of a new one are made here.
        Raises SettingsInvalid (wrong ENCRYPTION_KEY, a pool that no longer holds given addresses, a pinned value
        that contradicts another); nothing was changed then.
        """
        # The pair is made before the transaction: no process runs while the write lock is held.
        fresh_pair = self.keys.generate_key_pair()
        with self.db.write() as session:
            now = self.clock()
            self._check_installation(session, now)
            row = session.scalar(select(Server).order_by(Server.id).limit(1))
            is_new = row is None
            has_profiles = session.scalar(select(VpnProfile.id).limit(1)) is not None
            if row is None:
                decided = None
            else:
                decided = row.interface_mode
                if decided == "off" and not has_profiles:
                    decided = None  # Nothing hangs on it yet: what was installed since is used.
            mode = decide_mode(wanted_mode, decided, interface_exists=interface_exists, can_manage=can_manage)
            if row is None:
                row = self._new_row(mode, now)
                session.add(row)
                session.flush()
                session.add(AddressSequence(server_id=row.id, next_index=FIRST_INDEX))
            may_generate = is_new or (row.interface_mode == "off" and mode == "manage" and not has_profiles)
            before = _what_clients_know(row)
            if mode == "adopt" and row.interface_mode != "adopt":
                # The key is the interface's own; the agent reads it there.
                row.public_key = row.private_key = None
            row.interface_mode = mode
            self._apply_keys(row, mode, fresh_pair.private)
            self._apply_pinned(session, row, has_profiles)
            if self.pinned.obfuscation is not None:
                row.obfuscation = self.pinned.obfuscation.to_dict()
            elif may_generate and mode == "manage" and tools.awg is not None:
                row.obfuscation = generate("2.0", randbelow=secrets.randbelow).to_dict()
            if mode == "off":
                confirm_released(session, row.id, now)
            if not is_new and _what_clients_know(row) != before:
                row.revision += 1
                ring(session)
            session.flush()
            return view_of(row), is_new

    def _check_installation(self, session: Session, now: datetime) -> None:
        installation = session.get(Installation, 1)
        if installation is None:
            session.add(Installation(id=1, encryption_key_id=self.vault.key_id, created_at=now))
            session.add(ChangeSeq(id=1, value=1))
        else:
            self._check_key_id(installation.encryption_key_id)

    def check_key(self, session: Session) -> None:
        """Raise SettingsInvalid when ENCRYPTION_KEY is not the one that the database was made with."""
        # A column of the table: asking for the object would set up all mappers before the first answer.
        key_id = session.scalar(select(Base.metadata.tables[Installation.__tablename__].c.encryption_key_id))
        if key_id is not None:
            self._check_key_id(key_id)

    def _check_key_id(self, key_id: str) -> None:
        if key_id != self.vault.key_id:
            raise SettingsInvalid(
                [
                    "ENCRYPTION_KEY: is not the key that this database was made with;"
                    " nothing was changed. Bring back the old key (or DATA_DIR/encryption_key)"
                ]
            )

    def _new_row(self, mode: str, now: datetime) -> Server:
        return Server(
            name=self.pinned.interface,
            interface=self.pinned.interface,
            interface_mode=mode,
            listen_port=DEFAULT_PORT,
            network=str(DEFAULT_NETWORK),
            dns=_text(DEFAULT_DNS),
            allowed_ips=_text(DEFAULT_ALLOWED_IPS),
            persistent_keepalive=DEFAULT_KEEPALIVE,
            obfuscation={},
            revision=1,
            created_at=now,
        )

    def _apply_keys(self, row: Server, mode: str, fresh: PrivateKey) -> None:
        pinned = self.pinned
        private = pinned.private_key
        if private is None and row.private_key is None and mode != "adopt" and pinned.public_key is None:
            private = fresh
        if private is not None:
            public = public_key_of(private)
            if pinned.public_key not in (None, public):
                raise SettingsInvalid(["WG_SERVER_PUBLIC_KEY, WG_SERVER_PRIVATE_KEY: do not belong together"])
            if row.public_key != str(public):
                row.public_key = str(public)
                row.private_key = self.vault.seal(PRIVATE_KEY, str(public), private.raw)
        elif pinned.public_key is not None and row.public_key != str(pinned.public_key):
            row.public_key, row.private_key = str(pinned.public_key), None
        if mode == "manage" and row.private_key is None:
            raise SettingsInvalid(["WG_SERVER_PUBLIC_KEY: mode manage needs WG_SERVER_PRIVATE_KEY as well"])

    def _apply_pinned(self, session: Session, row: Server, has_profiles: bool) -> None:
        pinned = self.pinned
        row.interface = pinned.interface
        if pinned.endpoint is not None:
            row.endpoint = str(pinned.endpoint)
        if pinned.listen_port is not None:
            row.listen_port = pinned.listen_port
        if pinned.dns is not None:
            row.dns = _text(pinned.dns)
        if pinned.allowed_ips is not None:
            row.allowed_ips = _text(pinned.allowed_ips)
        if pinned.persistent_keepalive is not None:
            row.persistent_keepalive = pinned.persistent_keepalive
        row.mtu = pinned.mtu
        old = view_of(row).pool
        new = Pool(pinned.network or old.network, pinned.network6 or old.network6)
        if new != old:
            if has_profiles:
                self._move_profiles(session, row, old, new)
            row.network, row.network6 = str(new.network), None if new.network6 is None else str(new.network6)

    def _move_profiles(self, session: Session, row: Server, old: Pool, new: Pool) -> None:
        """Let a pool grow, or get IPv6, around the addresses that were given; refuse what would change one."""
        keeps_addresses = new.network.network_address == old.network.network_address and (
            old.network6 is None or new.network6 == old.network6
        )
        lost = select(VpnProfile.name, VpnProfile.ipv4_address).where(VpnProfile.server_id == row.id)
        if keeps_addresses:
            lost = lost.where(VpnProfile.address_index > new.last_index)
        given = session.execute(lost.order_by(VpnProfile.id).limit(10)).all()
        if given:
            names = ", ".join(f"{name} has {address}" for name, address in given)
            raise SettingsInvalid(
                [
                    f"WG_NETWORK, WG_NETWORK6: {_pool_text(new)} does not hold addresses that were given from"
                    f" {_pool_text(old)}: {names}"
                ]
            )
        if new.network6 != old.network6:
            for profile in session.scalars(select(VpnProfile).where(VpnProfile.server_id == row.id)):
                profile.ipv6_address = str(new.ipv6(profile.address_index))
            row.revision += 1
            ring(session)

    def set_endpoint(self, text: str, actor: Actor) -> None:
        """Store the address that devices connect to.

        Raises InvalidFields for what is no endpoint, NotPermitted where WG_ENDPOINT pins it. A change asks all
        profiles to be downloaded again.
        """
        if self.pinned.endpoint is not None:
            raise NotPermitted(N_("This is set outside, by WG_ENDPOINT. Change it there."))
        with self.db.write() as session:
            row = session.scalars(select(Server).order_by(Server.id).limit(1)).one()
            value = text.strip()
            if value and ":" not in value.rsplit("]", 1)[-1]:
                value = f"{value}:{row.listen_port}"
            try:
                endpoint = Endpoint.parse(value)
            except ValueError as error:
                raise InvalidFields([FieldProblem("endpoint", str(error))]) from error
            if row.endpoint == str(endpoint):
                return
            row.endpoint = str(endpoint)
            row.revision += 1
            ring(session)
            audit.record(session, actor, "server.change", f"endpoint {endpoint}", self.clock())

    def report(self, session: Session, server_id: int) -> ServerReport:
        """Return what the agent last said of the server."""
        row = session.get(AgentReport, server_id)
        if row is None:
            return ServerReport(None, False, (), {})
        is_alive = self.clock() - row.seen_at < AGENT_SILENT_AFTER
        return ServerReport(row.seen_at, is_alive, tuple(Problem(*item) for item in row.problems), row.facts)

    def count_profiles(self, session: Session, server_id: int, connected_since: datetime) -> tuple[int, int]:
        """Return how many profiles the server has, and how many shook hands since that moment."""
        total = session.scalar(select(func.count()).where(VpnProfile.server_id == server_id)) or 0
        connected = (
            session.scalar(
                select(func.count())
                .select_from(PeerStatus)
                .join(VpnProfile, VpnProfile.id == PeerStatus.profile_id)
                .where(VpnProfile.server_id == server_id, PeerStatus.latest_handshake > connected_since)
            )
            or 0
        )
        return total, connected


def _what_clients_know(row: Server) -> tuple[object, ...]:
    """Return the columns that stand in a client's file: when one changes, the file is out of date."""
    return (
        row.endpoint,
        row.public_key,
        row.dns,
        row.allowed_ips,
        row.mtu,
        row.persistent_keepalive,
        dict(row.obfuscation),
    )


def _pool_text(pool: Pool) -> str:
    return f"{pool.network}" if pool.network6 is None else f"{pool.network}, {pool.network6}"
