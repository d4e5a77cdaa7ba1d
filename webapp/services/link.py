"""The network interface itself: making it, its addresses and MTU, and forwarding. Peers are ``wg``'s."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_interface
from pathlib import Path
from typing import Any

from webapp.errors import N_, ToolError, ToolMissing, ToolRefused
from webapp.services.wg import Tools, run

CAP_NET_ADMIN = 12
"""linux/capability.h"""
SYSCTL = Path("/proc/sys/net")


def may_configure() -> bool:
    """Whether this process holds CAP_NET_ADMIN, by the kernel's own word (proc(5), CapEff)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> CAP_NET_ADMIN & 1)
    return False


def exists(name: str) -> bool:
    """Whether the network namespace of this process has such an interface."""
    return (Path("/sys/class/net") / name).exists()


class Link:
    """One WireGuard interface, made by kernel type or by its userspace daemon."""

    def __init__(self, tools: Tools, name: str, *, obfuscated: bool) -> None:
        self.tools = tools
        self.name = name
        self.obfuscated = obfuscated

    @property
    def command(self) -> str:
        """The tool that speaks to this interface: ``awg`` where parameters need it or it is all there is.

        Raises ToolMissing.
        """
        command = self.tools.awg if self.obfuscated else self.tools.wg or self.tools.awg
        if command is None:
            raise ToolMissing(command="awg" if self.obfuscated else "wg")
        return command

    def create(self) -> str:
        """Make the interface and return what made it: the kernel's type or the daemon's name.

        The daemon gets a session of its own, because the tunnel must outlive this process. Raises ToolError with
        the reason of the last way that was tried; there is no interface then.
        """
        kind = "amneziawg" if self.command == self.tools.awg else "wireguard"
        try:
            run([self.tools.ip, "link", "add", "dev", self.name, "type", kind], command="ip")
        except ToolRefused:
            daemon = self.tools.amneziawg_go if kind == "amneziawg" else self.tools.wireguard_go
            if daemon is None:
                raise ToolMissing(
                    N_("The kernel has no %(kind)s module and %(command)s is not installed."),
                    kind=kind,
                    command=f"{kind}-go",
                ) from None
            run([daemon, self.name], detach=True)
            if not exists(self.name):
                raise ToolRefused(command=os.path.basename(daemon), reason="no interface appeared") from None
            return os.path.basename(daemon)
        return f"kernel {kind}"

    def delete(self) -> None:
        """Remove the interface; its daemon ends with it."""
        run([self.tools.ip, "link", "delete", "dev", self.name], command="ip")

    def settle(self, addresses: list[IPv4Interface | IPv6Interface], mtu: int) -> bool:
        """Give the interface exactly these addresses and this MTU, and switch it on; say whether anything changed.

        Link-local addresses are the kernel's own and stay.
        """
        state = self._show()
        present = {
            ip_interface(f"{item['local']}/{item['prefixlen']}")
            for item in state.get("addr_info", [])
            if item.get("scope") != "link"
        }
        wanted: set[Any] = set(addresses)
        changed = False
        for address in sorted(present - wanted, key=str):
            self._ip("address", "delete", str(address), "dev", self.name)
            changed = True
        for address in sorted(wanted - present, key=str):
            # "nodad": nobody else can hold an address on a tunnel, and it must work at once.
            nodad = ["nodad"] if address.version == 6 else []
            self._ip("address", "replace", str(address), "dev", self.name, *nodad)
            changed = True
        if state.get("mtu") != mtu or "UP" not in state.get("flags", []):
            self._ip("link", "set", "dev", self.name, "mtu", str(mtu), "up")
            changed = True
        return changed

    def _show(self) -> dict[str, Any]:
        try:
            found: list[dict[str, Any]] = json.loads(self._ip("-json", "address", "show", "dev", self.name))
            return found[0]
        except (ValueError, IndexError) as error:
            raise ToolRefused(command="ip", reason="its output cannot be understood") from error

    def _ip(self, *words: str) -> bytes:
        return run([self.tools.ip, *words], command="ip")


def can_manage(tools: Tools) -> bool:
    """Whether an interface could be made here: the right, the tools, and a kernel type or a daemon with ``tun``."""
    if not may_configure() or tools.ip is None or (tools.wg or tools.awg) is None:
        return False
    if (tools.wireguard_go or tools.amneziawg_go) is not None and os.path.exists("/dev/net/tun"):
        return True
    # Only asking tells whether the kernel knows the type; the scratch interface lives for a moment.
    scratch = f"pst{os.getpid()}"[:15]
    try:
        run([tools.ip, "link", "add", "dev", scratch, "type", "wireguard" if tools.wg else "amneziawg"])
        run([tools.ip, "link", "delete", "dev", scratch])
    except ToolError:
        return False
    return True


def ensure_forwarding(has_ipv6: bool) -> list[str]:
    """Let the kernel pass packets on between interfaces; return the families that could not be switched on.

    IPv6 forwarding makes the kernel ignore router advertisements (ip-sysctl, accept_ra): where a default route
    came from one, it is left off and "accept_ra DEVICE" is returned for each such interface, because the host
    would lose its own network.
    Raises nothing.
    """
    refused = []
    if not _switch_on(SYSCTL / "ipv4/ip_forward"):
        refused.append("ipv4")
    if has_ipv6:
        forwarding = SYSCTL / "ipv6/conf/all/forwarding"
        listeners = _listeners_to_routers() if _read(forwarding) != "1" else []
        if listeners:
            refused += [f"accept_ra {device}" for device in listeners]
        elif not _switch_on(forwarding):
            refused.append("ipv6")
    return refused


def _switch_on(path: Path) -> bool:
    if _read(path) == "1":
        return True
    try:
        path.write_text("1\n", encoding="ascii")
    except OSError:
        return False
    return _read(path) == "1"


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return None


RTF_ADDRCONF = 0x00040000
"""linux/ipv6_route.h: this route was learned from a router advertisement."""


def _listeners_to_routers() -> list[str]:
    """Return the interfaces that learned an IPv6 default route and will not listen once forwarding is on."""
    try:
        lines = Path("/proc/net/ipv6_route").read_text(encoding="ascii").splitlines()
    except OSError:
        return []
    found = set()
    for line in lines:
        words = line.split()
        is_default = words[0] == "0" * 32 and words[1] == "00"
        is_learned = is_default and bool(int(words[8], 16) & RTF_ADDRCONF)
        if is_learned and _read(SYSCTL / "ipv6/conf" / words[9] / "accept_ra") == "1":
            found.add(words[9])
    return sorted(found)


def overlapping(tools: Tools, name: str, networks: Sequence[IPv4Network | IPv6Network]) -> str | None:
    """Return "DEVICE ADDRESS" of another interface whose network overlaps one of these, or None. Raises ToolError."""
    try:
        listing = json.loads(run([tools.ip, "-json", "address", "show"], command="ip"))
    except ValueError as error:
        raise ToolRefused(command="ip", reason="its output cannot be understood") from error
    for device in listing:
        for item in device.get("addr_info", []):
            other = ip_interface(f"{item['local']}/{item['prefixlen']}").network
            if device.get("ifname") != name and any(
                network.version == other.version and network.overlaps(other) for network in networks
            ):
                return f"{device['ifname']} {item['local']}/{item['prefixlen']}"
    return None
