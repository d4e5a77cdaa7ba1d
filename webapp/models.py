"""The tables and their constraints. No queries and no rules in here: those are the services'."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    CheckConstraint,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, registry
from sqlalchemy.types import BigInteger, Integer, TypeDecorator

BigId = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself only in an INTEGER column; PostgreSQL wants the room of a BIGINT."""


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC, on both databases. A naive one is a programming error (ValueError)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a datetime without a time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Common ground of all tables: constraint names that migrations can rely on."""

    registry = registry(
        metadata=MetaData(
            naming_convention={
                "ix": "ix_%(table_name)s_%(column_0_N_name)s",
                "uq": "uq_%(table_name)s_%(column_0_N_name)s",
                "ck": "ck_%(table_name)s_%(constraint_name)s",
                "fk": "fk_%(table_name)s_%(column_0_N_name)s",
                "pk": "pk_%(table_name)s",
            }
        ),
        type_annotation_map={
            datetime: UtcDateTime,
            dict[str, Any]: JSON,
            list[Any]: JSON,
            bytes: LargeBinary,
        },
    )
    metadata = registry.metadata


class Installation(Base):
    """One row: which encryption key this database belongs to."""

    __tablename__ = "installation"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    encryption_key_id: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime]


class ChangeSeq(Base):
    """One row that goes up in every transaction that changes peers; the agent compares it."""

    __tablename__ = "change_seq"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int] = mapped_column(BigInteger)


class User(Base):
    """A person who may sign in. ``username_key`` is the case-folded name; without a hash no password works."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    username: Mapped[str] = mapped_column(String(64))
    username_key: Mapped[str] = mapped_column(String(192), unique=True)
    password_hash: Mapped[str | None] = mapped_column(String(256))
    role: Mapped[str] = mapped_column(String(16))
    telegram_id: Mapped[int | None] = mapped_column(BigInteger, unique=True)
    profile_limit: Mapped[int | None]
    disabled: Mapped[bool] = mapped_column(default=False)
    session_epoch: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]

    __table_args__ = (CheckConstraint("role IN ('admin', 'user')", name="role"), {"sqlite_autoincrement": True})

    @property
    def is_admin(self) -> bool:
        return self.role == "admin"


class Server(Base):
    """One VPN interface. Lists are stored as the comma-separated text of a file.

    ``private_key`` is sealed and null where this deployment does not make it; ``interface_mode`` is what was
    decided; ``revision`` rises with every change that clients must know.
    """

    __tablename__ = "servers"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    interface: Mapped[str] = mapped_column(String(15), unique=True)
    interface_mode: Mapped[str] = mapped_column(String(8))
    endpoint: Mapped[str | None] = mapped_column(String(270))
    listen_port: Mapped[int]
    public_key: Mapped[str | None] = mapped_column(String(44))
    private_key: Mapped[bytes | None]
    network: Mapped[str] = mapped_column(String(18))
    network6: Mapped[str | None] = mapped_column(String(43))
    dns: Mapped[str] = mapped_column(String(512))
    allowed_ips: Mapped[str] = mapped_column(String(4096))
    mtu: Mapped[int | None]
    persistent_keepalive: Mapped[int]
    obfuscation: Mapped[dict[str, Any]]
    revision: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime]


class VpnProfile(Base):
    """One device's profile. ``private_key`` is sealed, and null when the person keeps it."""

    __tablename__ = "vpn_profiles"
    __table_args__ = (
        UniqueConstraint("user_id", "name_key"),
        UniqueConstraint("user_id", "file_name"),
        UniqueConstraint("server_id", "address_index"),
        UniqueConstraint("server_id", "ipv4_address"),
        UniqueConstraint("server_id", "ipv6_address"),
        # A page of a person's list is read from it, without sorting the rest.
        Index("ix_vpn_profiles_user_id_id", "user_id", "id"),
        # A deleted profile's id is never given to another one.
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    server_id: Mapped[int] = mapped_column(ForeignKey("servers.id"))
    name: Mapped[str] = mapped_column(String(64))
    name_key: Mapped[str] = mapped_column(String(192))
    file_name: Mapped[str] = mapped_column(String(15))
    private_key: Mapped[bytes | None]
    public_key: Mapped[str] = mapped_column(String(44), unique=True)
    preshared_key: Mapped[bytes]
    address_index: Mapped[int] = mapped_column(BigInteger)
    ipv4_address: Mapped[str] = mapped_column(String(15))
    ipv6_address: Mapped[str | None] = mapped_column(String(39))
    enabled: Mapped[bool] = mapped_column(default=True)
    expires_at: Mapped[datetime | None]
    notes: Mapped[str] = mapped_column(String(1000), default="")
    created_at: Mapped[datetime]
    delivered_revision: Mapped[int | None]


class PeerStatus(Base):
    """What the agent last saw of a profile's peer.

    ``confirmed_at`` is set while the peer with this ``public_key`` stands on the interface, else null.
    ``rx_bytes`` and ``tx_bytes`` are totals in the server's direction (rx: received from the device); the
    ``counter_*`` columns hold the interface's own counters at the last look, so that a reset is noticed.
    """

    __tablename__ = "peer_status"

    profile_id: Mapped[int] = mapped_column(
        ForeignKey("vpn_profiles.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    public_key: Mapped[str] = mapped_column(String(44))
    confirmed_at: Mapped[datetime | None]
    latest_handshake: Mapped[datetime | None]
    endpoint: Mapped[str | None] = mapped_column(String(64))
    rx_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    tx_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    counter_rx: Mapped[int] = mapped_column(BigInteger, default=0)
    counter_tx: Mapped[int] = mapped_column(BigInteger, default=0)
    updated_at: Mapped[datetime]


class AddressSequence(Base):
    """The next index of a server's pool that was never given out."""

    __tablename__ = "address_sequences"

    server_id: Mapped[int] = mapped_column(ForeignKey("servers.id"), primary_key=True, autoincrement=False)
    next_index: Mapped[int] = mapped_column(BigInteger)


class ReleasedAddress(Base):
    """An address that was given back, and the order to remove its key until ``confirmed_absent_at`` is set.

    Until ``kept_until`` its profile can be brought back; the address is given to somebody else before that only
    when no other is free.
    """

    __tablename__ = "released_addresses"
    __table_args__ = (
        UniqueConstraint("server_id", "address_index"),
        Index("ix_released_addresses_free", "server_id", "confirmed_absent_at"),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    server_id: Mapped[int] = mapped_column(ForeignKey("servers.id"))
    address_index: Mapped[int] = mapped_column(BigInteger)
    public_key: Mapped[str] = mapped_column(String(44))
    released_at: Mapped[datetime]
    confirmed_absent_at: Mapped[datetime | None]
    kept_until: Mapped[datetime | None]


class DeletedProfile(Base):
    """A deleted profile that can still be brought back: everything it needs, under the id it had."""

    __tablename__ = "deleted_profiles"

    id: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=False)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    server_id: Mapped[int] = mapped_column(ForeignKey("servers.id"))
    name: Mapped[str] = mapped_column(String(64))
    private_key: Mapped[bytes | None]
    public_key: Mapped[str] = mapped_column(String(44), unique=True)
    preshared_key: Mapped[bytes]
    address_index: Mapped[int] = mapped_column(BigInteger)
    ipv4_address: Mapped[str] = mapped_column(String(15))
    enabled: Mapped[bool]
    expires_at: Mapped[datetime | None]
    notes: Mapped[str] = mapped_column(String(1000), default="")
    created_at: Mapped[datetime]
    delivered_revision: Mapped[int | None]
    rx_bytes: Mapped[int] = mapped_column(BigInteger)
    tx_bytes: Mapped[int] = mapped_column(BigInteger)
    latest_handshake: Mapped[datetime | None]
    deleted_at: Mapped[datetime] = mapped_column(index=True)


class RevokedKey(Base):
    """A public key that must never be let in again, whatever an older backup says.

    ``confirmed_absent_at`` is null while it may still stand on the interface: it is removed until it is not seen.
    """

    __tablename__ = "revoked_keys"

    public_key: Mapped[str] = mapped_column(String(44), primary_key=True)
    server_id: Mapped[int] = mapped_column(ForeignKey("servers.id"))
    revoked_at: Mapped[datetime]
    confirmed_absent_at: Mapped[datetime | None] = mapped_column(index=True)


class AgentReport(Base):
    """What the agent of a server last said: when it was alive, what stands, and what it could not do."""

    __tablename__ = "agent_reports"

    server_id: Mapped[int] = mapped_column(ForeignKey("servers.id"), primary_key=True, autoincrement=False)
    seen_at: Mapped[datetime]
    problems: Mapped[list[Any]]
    facts: Mapped[dict[str, Any]]


class AgentRequest(Base):
    """A question from web to agent, and its answer (null until answered)."""

    __tablename__ = "agent_requests"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    server_id: Mapped[int] = mapped_column(ForeignKey("servers.id"))
    kind: Mapped[str] = mapped_column(String(32))
    question: Mapped[dict[str, Any]]
    answer: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]
    answered_at: Mapped[datetime | None]


class SignInSession(Base):
    """One signed-in browser. The cookie holds a random id; only its SHA-256 is stored."""

    __tablename__ = "sessions"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    id_hash: Mapped[str] = mapped_column(String(64), unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    epoch: Mapped[int]
    created_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    address: Mapped[str] = mapped_column(String(64))
    user_agent: Mapped[str] = mapped_column(String(200))


class ApiToken(Base):
    """A personal token for scripts. Only its SHA-256 is stored; ``prefix`` is what the person recognises."""

    __tablename__ = "api_tokens"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(64))
    prefix: Mapped[str] = mapped_column(String(16))
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    scope: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]

    __table_args__ = (CheckConstraint("scope IN ('all', 'read', 'manage')", name="scope"),)


class SetupLink(Base):
    """A one-time link to make the first account; only the SHA-256 of its token is stored."""

    __tablename__ = "setup_links"

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class ThrottleCounter(Base):
    """How many wrong tries a key (account, or account and address) had since ``window_start``."""

    __tablename__ = "throttle_counters"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    window_start: Mapped[datetime]
    count: Mapped[int]


class AuditEvent(Base):
    """Who did what, from where, to which thing, and how it ended. Names are kept as they were then."""

    __tablename__ = "audit_events"
    __table_args__ = (Index("ix_audit_events_at", "at"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    at: Mapped[datetime]
    actor: Mapped[str] = mapped_column(String(80))
    actor_user_id: Mapped[int | None] = mapped_column(BigInteger)
    address: Mapped[str] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(String(48))
    subject: Mapped[str] = mapped_column(String(160))
    outcome: Mapped[str] = mapped_column(String(16))
