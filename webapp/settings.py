"""Settings from the environment and ``.env``: read once, strictly, into one frozen value. No secret has a default."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from webapp.domain.addresses import Pool
from webapp.domain.endpoint import Endpoint
from webapp.domain.keys import PrivateKey, PublicKey
from webapp.domain.names import parse_name
from webapp.domain.obfuscation import Obfuscation
from webapp.errors import InvalidFields, SettingsInvalid

ROOT = Path(__file__).resolve().parent.parent
"""The folder of the checkout: relative paths in settings start here, whatever the current folder is."""

INTERFACE_MODES = ("auto", "manage", "adopt", "off")
WELL_KNOWN_SECRETS = ("change", "secret", "password", "example", "your-", "dev")
WELL_KNOWN_PASSWORDS = frozenset(
    ("password", "password1", "changeme", "change-me", "12345678", "123456789", "qwertyui", "adminadmin", "postern1")
)
SECRET_CHARACTERS = 32
_INTERFACE_NAME = re.compile(r"[a-zA-Z0-9_=+.-]{1,15}")
_HOST_NAME = re.compile(r"(?!-)[a-zA-Z0-9-]{1,63}(?<!-)(\.(?!-)[a-zA-Z0-9-]{1,63}(?<!-))*\.?")

type_T = TypeVar("type_T")
IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network


@dataclass(frozen=True)
class ServerSettings:
    """The ``WG_`` and ``AWG_`` variables. ``None`` means not set: stored or default values are used and editable."""

    interface: str = "awg0"
    endpoint: Endpoint | None = None
    listen_port: int | None = None
    public_key: PublicKey | None = None
    private_key: PrivateKey | None = None
    network: IPv4Network | None = None
    network6: IPv6Network | None = None
    dns: tuple[IPAddress, ...] | None = None
    allowed_ips: tuple[IPNetwork, ...] | None = None
    mtu: int | None = None
    persistent_keepalive: int | None = None
    obfuscation: Obfuscation | None = None


@dataclass(frozen=True)
class Settings:
    """Everything that the environment says, parsed. Secrets are left out of ``repr``."""

    data_dir: Path
    database_url: str = field(repr=False)
    host: str = "127.0.0.1"
    port: int = 8000
    public_url: str = "http://127.0.0.1:8000"
    secret_key: str | None = field(default=None, repr=False)
    encryption_key: str | None = field(default=None, repr=False)
    admin_username: str | None = None
    admin_password: str | None = field(default=None, repr=False)
    interface_mode: str = "auto"
    trusted_proxies: tuple[IPNetwork, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    metrics_token: str | None = field(default=None, repr=False)
    server: ServerSettings = ServerSettings()

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the mapping, or the process's environment over ``.env`` beside ``wsgi.py``.

        An empty value counts as not set, except that an empty secret is a mistake.
        Raises SettingsInvalid with every bad variable at once; nothing was created.
        """
        if environ is None:
            from dotenv import dotenv_values

            stored = {k: v for k, v in dotenv_values(ROOT / ".env").items() if v is not None}
            environ = {**stored, **os.environ}
        return _Reader(environ).settings()

    @property
    def is_sqlite(self) -> bool:
        return self.database_url.startswith("sqlite")

    @property
    def is_https(self) -> bool:
        return self.public_url.startswith("https://")

    @property
    def base_path(self) -> str:
        """The path that the outside sees in front of every URL: empty, or ``/vpn``."""
        return urlsplit(self.public_url).path.rstrip("/")


class _Reader:
    """Reads variables one by one and collects what is wrong with them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.problems: list[str] = []

    def settings(self) -> Settings:
        host = self.parse("HOST", _host, "127.0.0.1")
        port = self.parse("PORT", _port, 8000)
        data_dir = self.parse("DATA_DIR", _path, ROOT / "instance")
        default_url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        settings = Settings(
            data_dir=data_dir,
            database_url=self.parse("DATABASE_URL", _database_url, f"sqlite:///{data_dir / 'postern.db'}"),
            host=host,
            port=port,
            public_url=self.parse("PUBLIC_URL", _public_url, default_url),
            secret_key=self.secret("SECRET_KEY"),
            encryption_key=self.secret("ENCRYPTION_KEY"),
            admin_username=self.parse("ADMIN_USERNAME", _name, None),
            admin_password=self.file_or_text("ADMIN_PASSWORD", keeps_blanks=True),
            interface_mode=self.parse("INTERFACE_MODE", _mode, "auto"),
            trusted_proxies=self.parse("TRUSTED_PROXIES", _list(_network), ()),
            allowed_hosts=self.parse("ALLOWED_HOSTS", _list(_host), ()),
            metrics_token=self.secret("METRICS_TOKEN", characters=16),
            server=self.server(),
        )
        self.check_together(settings)
        if self.problems:
            raise SettingsInvalid(sorted(self.problems))
        return settings

    def server(self) -> ServerSettings:
        return ServerSettings(
            interface=self.parse("WG_INTERFACE", _interface, "awg0"),
            endpoint=self.parse("WG_ENDPOINT", Endpoint.parse, None),
            listen_port=self.parse("WG_LISTEN_PORT", _port, None),
            public_key=self.parse("WG_SERVER_PUBLIC_KEY", PublicKey.from_base64, None),
            private_key=self.parse(
                "WG_SERVER_PRIVATE_KEY",
                PrivateKey.from_base64,
                None,
                self.private_key(),
            ),
            network=self.parse("WG_NETWORK", _network4, None),
            network6=self.parse("WG_NETWORK6", _network6, None),
            dns=self.parse("WG_DNS", _list(_address), None),
            allowed_ips=self.parse("WG_ALLOWED_IPS", _list(_network), None),
            mtu=self.parse("WG_MTU", _number(1280, 1420), None),
            persistent_keepalive=self.parse("WG_PERSISTENT_KEEPALIVE", _number(0, 65535), None),
            obfuscation=self.obfuscation(),
        )

    def obfuscation(self) -> Obfuscation | None:
        try:
            return Obfuscation.from_environment(self.environ)
        except InvalidFields as error:
            self.problems.extend(f"{problem.field}: {problem}" for problem in error.problems)
            return None

    def check_together(self, settings: Settings) -> None:
        """The rules that look at more than one variable."""
        server = settings.server
        if not is_loopback(settings.host) and self.text("PUBLIC_URL") is None:
            self.problems.append(
                f"PUBLIC_URL: HOST={settings.host} can be reached from outside; say the https:// address that"
                " people type (or http:// in words, if plain HTTP is really meant)"
            )
        if (self.text("ADMIN_USERNAME") is None) != (settings.admin_password is None):
            self.problems.append("ADMIN_USERNAME, ADMIN_PASSWORD: set both or neither")
        if settings.admin_password is not None and not 8 <= len(settings.admin_password) <= 256:
            self.problems.append("ADMIN_PASSWORD: 8 to 256 characters")
        elif settings.admin_password is not None and settings.admin_password.lower() in WELL_KNOWN_PASSWORDS:
            self.problems.append("ADMIN_PASSWORD: is the first that anybody would try; four random words work well")
        if server.network is not None or server.network6 is not None:
            try:
                Pool(server.network or IPv4Network("10.8.0.0/24"), server.network6)
            except ValueError as error:
                self.problems.append(f"WG_NETWORK, WG_NETWORK6: {error}")
        if server.obfuscation is not None and server.mtu is not None:
            self.problems.extend(f"WG_MTU: {problem}" for problem in server.obfuscation.problems(mtu=server.mtu))

    def private_key(self) -> str | None:
        """The key's text; an empty file is a mistake, because a new key would lock every device out."""
        value = self.file_or_text("WG_SERVER_PRIVATE_KEY")
        is_told = any(problem.startswith("WG_SERVER_PRIVATE_KEY_FILE:") for problem in self.problems)
        if value is None and self.text("WG_SERVER_PRIVATE_KEY_FILE") is not None and not is_told:
            self.problems.append("WG_SERVER_PRIVATE_KEY: its file is empty")
        return value

    def text(self, name: str, *, keeps_blanks: bool = False) -> str | None:
        value = self.environ.get(name, "")
        if not keeps_blanks or not value.strip():
            value = value.strip()
        if any(ord(character) < 32 or ord(character) == 127 for character in value):
            self.problems.append(f"{name}: holds a control character")
            return None
        return value or None

    def file_or_text(self, name: str, *, keeps_blanks: bool = False) -> str | None:
        """The variable, or the content of the file that ``NAME_FILE`` names; both at once is a mistake."""
        path = self.text(f"{name}_FILE")
        if path is None:
            return self.text(name, keeps_blanks=keeps_blanks)
        if self.text(name) is not None:
            self.problems.append(f"{name}, {name}_FILE: set one of them")
        try:
            content = Path(path).read_text(encoding="utf-8")
            return (content.rstrip("\r\n") if keeps_blanks and content.strip() else content.strip()) or None
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            self.problems.append(f"{name}_FILE: the file cannot be read ({reason})")
            return None

    def secret(self, name: str, *, characters: int = SECRET_CHARACTERS) -> str | None:
        value = self.file_or_text(name)
        if value is None:
            if name in self.environ or f"{name}_FILE" in self.environ:
                self.problems.append(f"{name}: is empty; leave it out, or give {characters} random characters")
            return None
        if len(value) < characters:
            self.problems.append(f"{name}: is too short; {characters} random characters or more")
        elif len(set(value)) < 8 or value.lower().startswith(WELL_KNOWN_SECRETS):
            self.problems.append(f"{name}: is easy to guess; make one with: openssl rand -hex 32")
        return value

    def parse(self, name: str, convert: Callable[[str], type_T], default: type_T, text: str | None = None) -> type_T:
        value = text if text is not None else self.text(name)
        if value is None:
            return default
        try:
            return convert(value)
        except ValueError as error:
            self.problems.append(f"{name}: {error}")
            return default


def is_loopback(host: str) -> bool:
    """Whether nobody outside this machine can reach a server bound to that name or address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _name(value: str) -> str:
    try:
        return parse_name(value, "ADMIN_USERNAME")
    except InvalidFields as error:
        raise ValueError(str(error.problems[0])) from None


def _number(low: int, high: int) -> Callable[[str], int]:
    def convert(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,10}", value) or not low <= int(value) <= high:
            raise ValueError(f"{value!r} is not a whole number from {low} to {high}")
        return int(value)

    return convert


_port = _number(1, 65535)


def _list(convert: Callable[[str], type_T]) -> Callable[[str], tuple[type_T, ...]]:
    def split(value: str) -> tuple[type_T, ...]:
        items = tuple(convert(item.strip()) for item in value.split(",") if item.strip())
        if not items:
            raise ValueError(f"{value!r} names nothing")
        return items

    return split


def _address(value: str) -> IPAddress:
    if "%" in value:
        raise ValueError(f"{value!r} has a zone, which means something on one machine only")
    return ip_address(value)


def _network(value: str) -> IPNetwork:
    return ip_network(value)


def _network4(value: str) -> IPv4Network:
    return IPv4Network(value)


def _network6(value: str) -> IPv6Network:
    return IPv6Network(value)


def _path(value: str) -> Path:
    if any(character in value for character in "%?#"):
        raise ValueError("a folder whose name holds %, ? or # cannot stand in a database URL")
    try:
        return ROOT / Path(value).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{value!r}: there is no such home folder") from error


def _mode(value: str) -> str:
    if value not in INTERFACE_MODES:
        raise ValueError(f"{value!r} is none of {', '.join(INTERFACE_MODES)}")
    return value


def _interface(value: str) -> str:
    if not _INTERFACE_NAME.fullmatch(value) or value in {".", ".."}:
        raise ValueError(f"{value!r} is not an interface name (1 to 15 of a-z A-Z 0-9 _ = + . -)")
    return value


def _host(value: str) -> str:
    try:
        return str(ip_address(value.strip("[]")))
    except ValueError:
        if len(value) > 253 or not _HOST_NAME.fullmatch(value):
            raise ValueError(f"{value!r} is neither a host name nor an address") from None
        return value.lower()


def _database_url(value: str) -> str:
    if value.startswith("sqlite:///") and len(value) > len("sqlite:///"):
        name = value.removeprefix("sqlite:///")
        if ":memory:" in name:
            raise ValueError("a database in memory would be another one for each process")
        return f"sqlite:///{ROOT / name}"
    if value.startswith(("postgresql://", "postgres://", "postgresql+psycopg://")):
        url = "postgresql+psycopg://" + value.split("://", 1)[1]
        try:
            make_url(url)
        except (ArgumentError, ValueError):
            raise ValueError("is no database URL: postgresql+psycopg://user:password@host:5432/name") from None
        return url
    raise ValueError("begins with neither sqlite:///FILE nor postgresql://")


def _public_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{value!r} is not an http:// or https:// address")
    if any(mark in value for mark in "@?# \\") or parts.port == 0:
        raise ValueError("holds more than scheme, host, port and path")
    # Written anew from its parts: scheme and host in small letters, as browsers send them in Origin.
    host = _host(parts.hostname)
    port = "" if parts.port in {None, {"http": 80, "https": 443}[parts.scheme]} else f":{parts.port}"
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}{parts.path.rstrip('/')}"
