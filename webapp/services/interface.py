"""The interface of mode ``manage``: made, given its key, port, parameters, addresses and way out, and kept so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from webapp.domain.keys import PrivateKey
from webapp.domain.wgconf import render_interface
from webapp.errors import N_, DecryptionFailed, ToolError, ToolForbidden, ToolMissing, ToolRefused
from webapp.services import firewall, link
from webapp.services.link import Link
from webapp.services.servers import Problem, ServerView
from webapp.services.wg import Tools, WireGuardCommand

PACKAGES = {
    "wg": "apt install wireguard-tools",
    "ip": "apt install iproute2",
    "nft": "apt install nftables",
    "wireguard-go": "apt install wireguard-go",
}
"""What to type on Debian for a command that is missing; AmneziaWG's own are in no registry."""


@dataclass
class ManagedInterface:
    """Keeps one interface as its server's row says. ``private_key`` is asked for when it is needed.

    ``made_by`` tells what carries the interface ("kernel wireguard", "wireguard-go"), None when it was there.
    """

    tools: Tools
    private_key: Callable[[], PrivateKey]
    made_by: str | None = None
    settled: tuple[object, ...] | None = None

    def ensure(self, server: ServerView) -> list[Problem]:
        """Make what is missing and mend what differs; peers are left as they are.

        Returns what does not stop the tunnel but needs the admin (forwarding, translation). Raises ToolError
        when the interface itself cannot be had, DecryptionFailed when its key cannot be read.
        """
        device = Link(self.tools, server.interface, obfuscated=bool(server.obfuscation))
        if self.tools.ip is not None and not self.is_settled(server):
            self._check_overlap(server)
        if not link.exists(server.interface):
            self.settled = None
            self.made_by = device.create()
        if not self.is_settled(server):
            self.configure(server)
        pool = server.pool
        device.settle([address for address in (pool.server_ipv4, pool.server_ipv6) if address], server.mtu)
        problems = self._ensure_way_out(server)
        self.settled = _to_settle(server)
        return problems

    def is_settled(self, server: ServerView) -> bool:
        """Whether the interface was given what the server's row says now."""
        return self.settled == _to_settle(server)

    def _check_overlap(self, server: ServerView) -> None:
        """Refuse a pool that the host itself lives in: its own network would be led into the tunnel."""
        networks = [network for network in (server.pool.network, server.pool.network6) if network is not None]
        other = link.overlapping(self.tools, server.interface, networks)
        if other is not None:
            sentence = N_(
                "The devices' network %(pool)s overlaps the host's own (%(other)s). Choose another WG_NETWORK."
            )
            raise ToolRefused(sentence, pool=", ".join(map(str, networks)), other=other)

    def configure(self, server: ServerView) -> None:
        """Give the interface its key, port and parameters. Raises as ``ensure``.

        An interface of that name that is no WireGuard interface is refused by the command and left as it is.
        """
        text = render_interface(self.private_key(), server.listen_port, server.obfuscation)
        self.wg(server).configure(text)

    def wg(self, server: ServerView) -> WireGuardCommand:
        """Return the command that speaks to the server's interface. Raises ToolMissing."""
        device = Link(self.tools, server.interface, obfuscated=bool(server.obfuscation))
        return WireGuardCommand(device.command, server.interface)

    def _ensure_way_out(self, server: ServerView) -> list[Problem]:
        problems = []
        for family in link.ensure_forwarding(server.pool.network6 is not None):
            problems.append(_forwarding_problem(family))
        try:
            if not self.is_settled(server) or not firewall.is_loaded(self.tools, server.interface):
                firewall.load(self.tools, server.interface, server.pool)
        except ToolError as error:
            problems.append(problem_of(error, N_("Devices connect but reach only this server")))
        return problems


def _to_settle(server: ServerView) -> tuple[object, ...]:
    return (server.interface, server.public_key, server.listen_port, server.obfuscation, server.pool, server.mtu)


def problem_of(error: ToolError | DecryptionFailed, title: str) -> Problem:
    """Return the problem that an error of a command is to the admin, with the line to type where one is known."""
    command = PACKAGES.get(str(error.values.get("command"))) if isinstance(error, ToolMissing) else None
    if isinstance(error, ToolForbidden):
        command = "sudo make run"
    return Problem(title, str(error), command)


def _forwarding_problem(family: str) -> Problem:
    if family.startswith("accept_ra "):
        device = family.removeprefix("accept_ra ").replace(".", "/")
        return Problem(
            N_("IPv6 is not passed on"),
            N_("This host gets its own IPv6 from router advertisements and would lose it. Type this first:"),
            f"sysctl -w net.ipv6.conf.{device}.accept_ra=2",
        )
    if family == "ipv6":
        return Problem(
            N_("IPv6 is not passed on"),
            N_("The host does not forward IPv6. Type this on the server:"),
            "sysctl -w net.ipv6.conf.all.forwarding=1",
        )
    return Problem(
        N_("Nothing is passed on"),
        N_("The host does not forward IPv4. Type this on the server:"),
        "sysctl -w net.ipv4.ip_forward=1",
    )
