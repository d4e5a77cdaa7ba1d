"""The verbs on profiles: create, list, show, change, delete, and the file that a device is given."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from ipaddress import IPv4Interface, IPv6Interface
from typing import Any

from sqlalchemy import Select, bindparam, delete, exists, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from webapp.domain.keys import PresharedKey, PrivateKey
from webapp.domain.names import name_key, next_name, parse_name, parse_notes, safe_file_name
from webapp.domain.states import State, profile_state
from webapp.domain.wgconf import ClientConfig, generate_config
from webapp.errors import N_, LimitReached, NameTaken, NotFound, NotReady, ToolRefused
from webapp.models import DeletedProfile, PeerStatus, RevokedKey, User, VpnProfile
from webapp.services import audit
from webapp.services.allocator import KEPT_FOR, get_next_available_ip, release_address, take_back
from webapp.services.audit import Actor
from webapp.services.database import Database, ring
from webapp.services.servers import ServerService, ServerView
from webapp.services.tombstones import Tombstones
from webapp.services.vault import Vault
from webapp.services.wg import KeyMaker, generate_preshared_key

PRIVATE_KEY = "vpn_profiles.private_key"
PRESHARED_KEY = "vpn_profiles.preshared_key"
PAGE = 50
LARGEST_PAGE = 500
LARGEST_ID = 2**63 - 1
KEPT_COLUMNS = (
    "id",
    "user_id",
    "server_id",
    "name",
    "private_key",
    "public_key",
    "preshared_key",
    "address_index",
    "ipv4_address",
    "enabled",
    "expires_at",
    "notes",
    "created_at",
    "delivered_revision",
)
"""What a deleted profile keeps for the day in which it can be brought back."""
# Built once: putting a statement together costs four times what running it does (docs/benchmarks.md).
# The row is locked (nothing on SQLite, which has one writer): two at once must not both find room.
_LIMIT = select(User.profile_limit).where(User.id == bindparam("user_id")).with_for_update()
_IS_NAME_TAKEN = select(
    exists().where(
        VpnProfile.user_id == bindparam("user_id"),
        VpnProfile.name_key == bindparam("name_key"),
        VpnProfile.id != bindparam("but"),
    )
)
_IS_FILE_NAME_TAKEN = select(
    exists().where(VpnProfile.user_id == bindparam("user_id"), VpnProfile.file_name == bindparam("file_name"))
)
UNCHANGED: Any = object()
"""Stands for a field that a change leaves alone, where None has a meaning of its own."""


@dataclass(frozen=True)
class ProfileView:
    """A profile as pages and API show it. Never a private key.

    ``rx_bytes`` and ``tx_bytes`` are the server's: received from and sent to the device. ``outdated``: the
    server changed since this file was last downloaded. ``user_id`` is whose it is. ``pending_reason`` is why a
    pending one cannot become ready right now, None while it only takes a moment.
    """

    id: int
    user_id: int
    name: str
    file_name: str
    state: State
    enabled: bool
    outdated: bool
    ipv4_address: str
    ipv6_address: str | None
    public_key: str
    created_at: datetime
    expires_at: datetime | None
    latest_handshake: datetime | None
    rx_bytes: int
    tx_bytes: int
    notes: str
    pending_reason: str | None = None


@dataclass(frozen=True)
class DeletedView:
    """A deleted profile that can be brought back until ``kept_until``."""

    id: int
    name: str
    deleted_at: datetime
    kept_until: datetime


@dataclass(frozen=True)
class ProfilePage:
    """Some profiles, and the id to continue from (None: there are no more)."""

    items: Sequence[ProfileView]
    next_id: int | None


@dataclass(frozen=True)
class ProfileFile:
    """A client's file: its name with ``.conf``, its text, and the server's revision that it carries.

    ``is_delivered``: the person downloaded this revision before.
    """

    profile_id: int
    file_name: str
    text: str
    revision: int
    is_delivered: bool


class ProfileService:
    """The verbs on profiles. A profile is always fetched for its person: somebody else's is NotFound."""

    def __init__(
        self,
        db: Database,
        vault: Vault,
        keys: KeyMaker,
        servers: ServerService,
        tombstones: Tombstones,
        clock: Callable[[], datetime],
    ) -> None:
        self.db = db
        self.tombstones = tombstones
        self.vault = vault
        self.keys = keys
        self.servers = servers
        self.clock = clock

    def create_profile(self, user_id: int, name: str, actor: Actor) -> ProfileView:
        """Store a new profile with keys and an address of its own, and wake the agent.

        Raises InvalidFields, NameTaken, LimitReached, PoolExhausted, ToolRefused (``wg`` made a key that exists)
        or DatabaseUnusable; nothing was stored and no address was taken then.
        """
        name = parse_name(name)
        # Keys come from a process of their own: never while the write lock is held. What is refused then has cost
        # a pair of keys; asking first would cost every good name more.
        pair, preshared = self.keys.generate_key_pair(), generate_preshared_key()
        public = str(pair.public)
        now = self.clock()

        def work(session: Session) -> ProfileView:
            self._check_name_and_limit(session, user_id, name)
            server = self.servers.current(session)
            taken = self.servers.taken_indexes(session, server)
            lease = get_next_available_ip(session, server.id, server.pool, now)
            while lease.index in taken:
                lease = get_next_available_ip(session, server.id, server.pool, now)
            row = VpnProfile(
                user_id=user_id,
                server_id=server.id,
                name=name,
                name_key=name_key(name),
                file_name=self._free_file_name(session, user_id, name),
                private_key=self.vault.seal(PRIVATE_KEY, public, pair.private.raw),
                public_key=public,
                preshared_key=self.vault.seal(PRESHARED_KEY, public, preshared.raw),
                address_index=lease.index,
                ipv4_address=str(lease.ipv4),
                ipv6_address=None if lease.ipv6 is None else str(lease.ipv6),
                enabled=True,
                notes="",
                created_at=now,
            )
            ring(session)
            session.add(row)
            audit.record(session, actor, "profile.create", name, now)
            session.flush()
            return _view(row, None, server, is_disabled=False, now=now)

        try:
            return self.db.transact(work)
        except IntegrityError as error:
            # Names and addresses were looked at in the transaction: what is left is a key that exists already.
            raise ToolRefused(command="wg", reason="it made a key that is in use already") from error

    def _check_name_and_limit(self, session: Session, user_id: int, name: str) -> None:
        self._check_limit(session, user_id)
        self._check_name(session, user_id, name)

    def _check_limit(self, session: Session, user_id: int) -> None:
        found = session.execute(_LIMIT, {"user_id": user_id}).one_or_none()
        if found is None:
            raise NotFound
        if found.profile_limit is not None:
            count = self.count_profiles(session, user_id)
            if count >= found.profile_limit:
                raise LimitReached(None, count=count, limit=found.profile_limit)

    def _check_name(self, session: Session, user_id: int, name: str, but: int = 0) -> None:
        is_taken = self._is_taken(session, user_id, but)
        if is_taken(name):
            raise NameTaken(
                "name",
                N_("You already have a “%(name)s”. Try “%(other)s”."),
                name=name,
                other=next_name(name, is_taken),
            )

    def _is_taken(self, session: Session, user_id: int, but: int = 0) -> Callable[[str], bool]:
        """Return the question whether a name is one of the person's other profiles than ``but``."""

        def is_taken(candidate: str) -> bool:
            values = {"user_id": user_id, "name_key": name_key(candidate), "but": but}
            return bool(session.scalar(_IS_NAME_TAKEN, values))

        return is_taken

    def _free_file_name(self, session: Session, user_id: int, name: str) -> str:
        def is_taken(candidate: str) -> bool:
            return bool(session.scalar(_IS_FILE_NAME_TAKEN, {"user_id": user_id, "file_name": candidate}))

        return safe_file_name(name, is_taken, secrets.randbelow)

    def count_profiles(self, session: Session, user_id: int) -> int:
        """Return how many profiles the person has."""
        return session.scalar(select(func.count()).where(VpnProfile.user_id == user_id)) or 0

    def list_profiles(
        self,
        session: Session,
        user_id: int | None,
        *,
        limit: int = PAGE,
        after: int = 0,
        before: int | None = None,
    ) -> ProfilePage:
        """Return a page of the person's profiles (None: everybody's), in two queries whatever the number.

        With ``before`` they come newest first, from ids below it (0: from the newest); else oldest first, from
        ids above ``after``.
        """
        now = self.clock()
        server = self.servers.current(session)
        query = _with_status()
        if user_id is not None:
            query = query.where(VpnProfile.user_id == user_id)
        if before is None:
            query = query.where(VpnProfile.id > after).order_by(VpnProfile.id)
        else:
            query = query.order_by(VpnProfile.id.desc())
            if before > 0:
                query = query.where(VpnProfile.id < before)
        limit = min(limit, LARGEST_PAGE)
        rows = session.execute(query.limit(limit + 1)).all()
        views = [_view(row, status, server, is_disabled=off, now=now) for row, status, off in rows]
        views = self._with_reasons(session, server, views)
        if len(views) <= limit:
            return ProfilePage(views, None)
        return ProfilePage(views[:limit], views[limit - 1].id)

    def show_profile(self, session: Session, user_id: int, profile_id: int) -> ProfileView:
        """Return one of the person's profiles. Raises NotFound."""
        if not 0 < profile_id <= LARGEST_ID:
            raise NotFound
        query = _with_status().where(VpnProfile.user_id == user_id, VpnProfile.id == profile_id)
        found = session.execute(query).one_or_none()
        if found is None:
            raise NotFound
        row, status, is_disabled = found
        server = self.servers.current(session)
        view = _view(row, status, server, is_disabled=is_disabled, now=self.clock())
        return self._with_reasons(session, server, [view])[0]

    def _with_reasons(self, session: Session, server: ServerView, views: list[ProfileView]) -> list[ProfileView]:
        """Say of the pending ones what stands in their way, by the agent's last report."""
        if not any(view.state == State.PENDING for view in views):
            return views
        reason = self.servers.report(session, server.id).pending_reason
        return [replace(view, pending_reason=reason) if view.state == State.PENDING else view for view in views]

    def find_profile(self, session: Session, user_id: int, ref: str) -> ProfileView:
        """Return the person's profile by its id (digits) or its name. Raises NotFound."""
        if ref.isascii() and ref.isdecimal() and len(ref) < 20:
            return self.show_profile(session, user_id, int(ref))
        found = session.scalar(
            select(VpnProfile.id).where(VpnProfile.user_id == user_id, VpnProfile.name_key == name_key(ref))
        )
        if found is None:
            raise NotFound
        return self.show_profile(session, user_id, found)

    def profile_file(self, session: Session, user_id: int, ref: str) -> ProfileFile:
        """Render the client's file of a profile (see ``find_profile`` for ``ref``).

        Raises NotFound, NotReady (something that the file needs is not known yet) or DecryptionFailed.
        """
        profile = self.find_profile(session, user_id, ref)
        server = self.servers.current(session)
        server.check_complete()
        row = session.scalars(select(VpnProfile).where(VpnProfile.id == profile.id)).one()
        if row.private_key is None:
            raise NotReady(N_("This profile's key is kept on its device; the server has no file of it."))
        assert server.public_key is not None and server.endpoint is not None  # noqa: S101, PT018
        addresses: list[IPv4Interface | IPv6Interface] = [IPv4Interface(f"{row.ipv4_address}/32")]
        if row.ipv6_address is not None:
            addresses.append(IPv6Interface(f"{row.ipv6_address}/128"))
        text = generate_config(
            ClientConfig(
                private_key=PrivateKey(self.vault.open(PRIVATE_KEY, row.public_key, row.private_key)),
                addresses=tuple(addresses),
                dns=server.dns,
                mtu=server.mtu,
                obfuscation=server.obfuscation,
                server_public_key=server.public_key,
                preshared_key=PresharedKey(self.vault.open(PRESHARED_KEY, row.public_key, row.preshared_key)),
                endpoint=server.endpoint,
                allowed_ips=server.allowed_ips,
                persistent_keepalive=server.persistent_keepalive,
            )
        )
        is_delivered = row.delivered_revision == server.revision
        return ProfileFile(row.id, f"{row.file_name}.conf", text, server.revision, is_delivered)

    def mark_delivered(self, user_id: int, profile_id: int, revision: int) -> None:
        """Remember which revision of the server's data the person has now; no write when it is known."""
        is_new = VpnProfile.delivered_revision.is_(None) | (VpnProfile.delivered_revision < revision)
        which = (VpnProfile.id == profile_id, VpnProfile.user_id == user_id, is_new)
        with self.db.write() as session:
            session.execute(update(VpnProfile).where(*which).values(delivered_revision=revision))

    def change_profile(
        self,
        user_id: int,
        profile_id: int,
        actor: Actor,
        *,
        name: str = UNCHANGED,
        enabled: bool = UNCHANGED,
        expires_at: datetime | None = UNCHANGED,
        notes: str = UNCHANGED,
    ) -> ProfileView:
        """Change what is given of one of the person's profiles, and wake the agent.

        The file name follows a new name. Raises NotFound, InvalidFields or NameTaken; nothing was changed then.
        """
        now = self.clock()
        if name is not UNCHANGED:
            name = parse_name(name)
        if notes is not UNCHANGED:
            notes = parse_notes(notes)

        def work(session: Session) -> ProfileView:
            row = self._own_row(session, user_id, profile_id)
            if name is not UNCHANGED and name != row.name:
                self._check_name(session, user_id, name, but=row.id)
                row.name, row.name_key, row.file_name = name, name_key(name), ""
                row.file_name = self._free_file_name(session, user_id, name)
            if enabled is not UNCHANGED:
                row.enabled = enabled
            if expires_at is not UNCHANGED:
                row.expires_at = expires_at
            if notes is not UNCHANGED:
                row.notes = notes
            ring(session)
            audit.record(session, actor, "profile.change", row.name, now)
            session.flush()
            return self.show_profile(session, user_id, profile_id)

        return self.db.transact(work)

    def delete_profile(self, user_id: int, profile_id: int, actor: Actor) -> str:
        """Delete one of the person's profiles, order its key off the interface, and return its name.

        Raises NotFound; nothing was changed then.
        """
        now = self.clock()

        def work(session: Session) -> tuple[str, str]:
            row = self._own_row(session, user_id, profile_id)
            status = session.get(PeerStatus, row.id)
            is_gone = not self.servers.current(session).has_interface
            release_address(
                session,
                row.server_id,
                row.address_index,
                row.public_key,
                now,
                confirmed=is_gone,
                kept_until=now + KEPT_FOR,
            )
            session.add(
                RevokedKey(
                    public_key=row.public_key,
                    server_id=row.server_id,
                    revoked_at=now,
                    confirmed_absent_at=now if is_gone else None,
                )
            )
            kept = {column: getattr(row, column) for column in KEPT_COLUMNS}
            session.add(
                DeletedProfile(
                    **kept,
                    rx_bytes=0 if status is None else status.rx_bytes,
                    tx_bytes=0 if status is None else status.tx_bytes,
                    latest_handshake=None if status is None else status.latest_handshake,
                    deleted_at=now,
                )
            )
            if status is not None:
                session.delete(status)
                session.flush()
            session.delete(row)
            ring(session)
            audit.record(session, actor, "profile.delete", row.name, now)
            return row.name, row.public_key

        name, public_key = self.db.transact(work)
        self.tombstones.revoke(public_key)
        return name

    def restorable_profiles(self, session: Session, user_id: int) -> Sequence[DeletedView]:
        """Return the person's deleted profiles that can still be brought back, the newest first, at most 20."""
        rows = session.scalars(
            select(DeletedProfile)
            .where(DeletedProfile.user_id == user_id, DeletedProfile.deleted_at > self.clock() - KEPT_FOR)
            .order_by(DeletedProfile.deleted_at.desc(), DeletedProfile.id.desc())
            .limit(20)
        )
        return [DeletedView(row.id, row.name, row.deleted_at, row.deleted_at + KEPT_FOR) for row in rows]

    def restore_profile(self, user_id: int, profile_id: int, actor: Actor) -> ProfileView:
        """Bring a deleted profile back: same id, address and key; another name where its own was taken since.

        Raises NotFound when it is not the person's, a day has passed, or its address was needed for somebody else.
        Raises LimitReached. Nothing was changed then.
        """
        now = self.clock()
        if not 0 < profile_id <= LARGEST_ID:
            raise NotFound

        def work(session: Session) -> tuple[ProfileView, str]:
            kept = session.scalar(
                select(DeletedProfile).where(
                    DeletedProfile.id == profile_id,
                    DeletedProfile.user_id == user_id,
                    DeletedProfile.deleted_at > now - KEPT_FOR,
                )
            )
            if kept is None or not take_back(session, kept.server_id, kept.address_index, kept.public_key):
                raise NotFound
            self._check_limit(session, user_id)
            server = self.servers.current(session)
            if not server.pool.holds(kept.address_index, kept.ipv4_address):
                raise NotFound  # The pool changed: the file on the device would name another address.
            name = next_name(kept.name, self._is_taken(session, user_id), may_keep=True)
            ipv6 = server.pool.ipv6(kept.address_index)
            values = {column: getattr(kept, column) for column in KEPT_COLUMNS} | {"name": name}
            row = VpnProfile(
                **values,
                name_key=name_key(name),
                file_name=self._free_file_name(session, user_id, name),
                ipv6_address=None if ipv6 is None else str(ipv6),
            )
            status = PeerStatus(
                profile_id=kept.id,
                public_key=kept.public_key,
                latest_handshake=kept.latest_handshake,
                rx_bytes=kept.rx_bytes,
                tx_bytes=kept.tx_bytes,
                counter_rx=0,
                counter_tx=0,
                updated_at=now,
            )
            session.delete(kept)
            session.add(row)
            session.flush()
            session.add(status)
            session.execute(delete(RevokedKey).where(RevokedKey.public_key == row.public_key))
            ring(session)
            audit.record(session, actor, "profile.restore", name, now)
            return _view(row, status, server, is_disabled=False, now=now), row.public_key

        view, public_key = self.db.transact(work)
        self.tombstones.bring_back(public_key)
        return view

    def forget_deleted(self) -> None:
        """Remove deleted profiles whose day is over, keys and all; a chore of the agent."""
        with self.db.write() as session:
            session.execute(
                delete(DeletedProfile)
                .where(DeletedProfile.deleted_at <= self.clock() - KEPT_FOR)
                .execution_options(synchronize_session=False)
            )

    def _own_row(self, session: Session, user_id: int, profile_id: int) -> VpnProfile:
        if not 0 < profile_id <= LARGEST_ID:
            raise NotFound
        row = session.scalar(select(VpnProfile).where(VpnProfile.id == profile_id, VpnProfile.user_id == user_id))
        if row is None:
            raise NotFound
        return row


def _with_status() -> Select[VpnProfile, PeerStatus, bool]:
    return (
        select(VpnProfile, PeerStatus, User.disabled)
        .join(User, User.id == VpnProfile.user_id)
        .outerjoin(PeerStatus, PeerStatus.profile_id == VpnProfile.id)
    )


def _view(
    row: VpnProfile, status: PeerStatus | None, server: ServerView, *, is_disabled: bool, now: datetime
) -> ProfileView:
    is_current = status is not None and status.public_key == row.public_key
    return ProfileView(
        id=row.id,
        user_id=row.user_id,
        name=row.name,
        file_name=row.file_name,
        state=profile_state(
            enabled=row.enabled and not is_disabled,
            expires_at=row.expires_at,
            confirmed=is_current and status is not None and status.confirmed_at is not None,
            has_interface=server.has_interface,
            latest_handshake=None if status is None else status.latest_handshake,
            now=now,
        ),
        enabled=row.enabled,
        outdated=row.delivered_revision is not None and row.delivered_revision < server.revision,
        ipv4_address=row.ipv4_address,
        ipv6_address=row.ipv6_address,
        public_key=row.public_key,
        created_at=row.created_at,
        expires_at=row.expires_at,
        latest_handshake=None if status is None else status.latest_handshake,
        rx_bytes=0 if status is None else status.rx_bytes,
        tx_bytes=0 if status is None else status.tx_bytes,
        notes=row.notes,
    )
