"""Configuration files of WireGuard and AmneziaWG, written from types. ``wgconf_parser`` reads them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

from webapp.domain.endpoint import Endpoint
from webapp.domain.keys import PresharedKey, PrivateKey, PublicKey
from webapp.domain.obfuscation import Obfuscation
from webapp.domain.wgconf_parser import ConfigInvalid, InterfaceSection, PeerSection, WgConfig, parse_config

__all__ = [
    "ClientConfig",
    "ConfigInvalid",
    "Endpoint",
    "InterfaceSection",
    "PeerSection",
    "ServerPeer",
    "WgConfig",
    "generate_config",
    "parse_config",
    "render_interface",
    "render_peers",
]


@dataclass(frozen=True)
class ClientConfig:
    """All that one device needs. There is no name in it: names are never written into a file."""

    private_key: PrivateKey
    addresses: tuple[IPv4Interface | IPv6Interface, ...]
    dns: tuple[IPv4Address | IPv6Address | str, ...]
    """Servers, and search domains as text; empty leaves the device's own."""
    mtu: int
    obfuscation: Obfuscation
    server_public_key: PublicKey
    preshared_key: PresharedKey | None
    endpoint: Endpoint
    allowed_ips: tuple[IPv4Network | IPv6Network, ...]
    persistent_keepalive: int
    """Seconds; 0 for none."""


@dataclass(frozen=True)
class ServerPeer:
    """One device as the server's interface knows it."""

    public_key: PublicKey
    preshared_key: PresharedKey | None
    allowed_ips: tuple[IPv4Network | IPv6Network, ...]


def generate_config(config: ClientConfig) -> str:
    """Return the file for the device, in the one spelling that all apps read.

    AmneziaVPN finds DNS only with exactly one space at each side of ``=``; keys without a value, hooks and a
    byte order mark make one app or the other refuse the file. No DNS and no keepalive mean no line.
    Raises ValueError if the text, read again, does not say what ``config`` says, or no file could say it
    (no address, no allowed network, an MTU that cannot be).
    """
    lines = [
        "[Interface]",
        f"PrivateKey = {config.private_key.to_base64()}",
        f"Address = {_joined(config.addresses)}",
    ]
    if config.dns:
        lines.append(f"DNS = {_joined(config.dns)}")
    lines += [f"MTU = {config.mtu}", *config.obfuscation.lines()]
    lines += ["", "[Peer]", f"PublicKey = {config.server_public_key.to_base64()}"]
    if config.preshared_key:
        lines.append(f"PresharedKey = {config.preshared_key.to_base64()}")
    lines.append(f"Endpoint = {config.endpoint}")
    lines.append(f"AllowedIPs = {_joined(config.allowed_ips)}")
    if config.persistent_keepalive:
        lines.append(f"PersistentKeepalive = {config.persistent_keepalive}")
    text = "\n".join(lines) + "\n"
    _check(text, config)
    return text


def _joined(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))


def _check(text: str, config: ClientConfig) -> None:
    """Read the text again: search domains are text, and a zone of an IPv6 address can hide a line break."""
    meant = WgConfig(
        InterfaceSection(
            private_key=config.private_key,
            addresses=config.addresses,
            dns=config.dns,
            mtu=config.mtu,
            obfuscation=config.obfuscation,
        ),
        (
            PeerSection(
                public_key=config.server_public_key,
                preshared_key=config.preshared_key,
                endpoint=config.endpoint,
                allowed_ips=config.allowed_ips,
                persistent_keepalive=config.persistent_keepalive,
            ),
        ),
    )
    try:
        said = parse_config(text)
    except ConfigInvalid as error:
        raise ValueError(f"the rendered file cannot be read: {error}") from error
    if said != meant:
        raise ValueError("the rendered file does not say what was meant")


def render_interface(private_key: PrivateKey, listen_port: int, obfuscation: Obfuscation) -> str:
    """Return the [Interface] section for ``wg addconf`` and ``syncconf``: by stdin, as it holds the key.

    Address, MTU and DNS are ``wg-quick``'s words; ``wg`` refuses them.
    """
    lines = ["[Interface]", f"PrivateKey = {private_key.to_base64()}", f"ListenPort = {listen_port:d}"]
    return "\n".join([*lines, *obfuscation.lines()]) + "\n"


def render_peers(peers: Iterable[ServerPeer]) -> str:
    """Return the [Peer] sections for ``wg addconf`` and ``syncconf``; empty for no peers.

    Ten thousand of them are usual, so the text is not read again: bytes of keys and networks become digits
    and base64, which leave no room for anything else.
    """
    return "".join(map(_render_peer, peers))


def _render_peer(peer: ServerPeer) -> str:
    text = f"\n[Peer]\nPublicKey = {peer.public_key.to_base64()}\n"
    if peer.preshared_key:
        text += f"PresharedKey = {peer.preshared_key.to_base64()}\n"
    if peer.allowed_ips:
        text += f"AllowedIPs = {', '.join(map(_network_text, peer.allowed_ips))}\n"
    return text


def _network_text(network: IPv4Network | IPv6Network) -> str:
    """Return the network from its bytes: ten times faster than ``str`` for IPv6, and without an IPv6 zone."""
    packed = network.network_address.packed
    if network.version == 4:
        return "%d.%d.%d.%d/%d" % (*packed, network.prefixlen)  # noqa: UP031 - a format string costs twice as much.
    return f"{packed.hex(':', 2)}/{network.prefixlen}"
