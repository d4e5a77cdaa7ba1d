"""Traps on the host that let a device connect and reach nothing: other firewalls, and tools that are too old."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from webapp.domain.obfuscation import GENERATIONS
from webapp.errors import N_, ToolError
from webapp.services.firewall import table_name
from webapp.services.servers import Problem, ServerView
from webapp.services.wg import Tools, run


@dataclass(frozen=True)
class Firewall:
    """A base chain of somebody else that drops what no rule accepts: ``hook`` is ``forward`` or ``input``."""

    family: str
    table: str
    chain: str
    hook: str


def find_traps(tools: Tools, server: ServerView) -> list[Problem]:
    """Look for what would keep devices from getting through, as far as this host can see it.

    A firewall outside this machine cannot be seen. Raises nothing: what cannot be asked is no finding.
    """
    problems: list[Problem] = []
    if tools.nft is not None:
        try:
            chains = json.loads(run([tools.nft, "-j", "list", "chains"], command="nft"))
            rules = run([tools.nft, "list", "ruleset"], command="nft").decode("utf-8", "replace")
        except (ToolError, ValueError):
            return problems
        for firewall in dropping_chains(chains, table_name(server.interface)):
            problem = _firewall_problem(firewall, rules, server)
            if problem is not None:
                problems.append(problem)
    if server.obfuscation and tools.awg is not None:
        problems += _tool_problems(tools.awg, server.obfuscation.generation)
    return problems


def dropping_chains(listing: dict[str, Any], own_table: str) -> list[Firewall]:
    """Return the base chains with the policy ``drop`` from ``nft -j list chains`` (libnftables-json(5)); not ours."""
    found = []
    for item in listing.get("nftables", []):
        chain = item.get("chain", {})
        is_dropping = chain.get("hook") in {"forward", "input"} and chain.get("policy") == "drop"
        if is_dropping and chain.get("table") != own_table:
            found.append(Firewall(chain["family"], chain["table"], chain["name"], chain["hook"]))
    return found


def accepts_interface(rules: str, interface: str, own_table: str) -> bool:
    """Whether any rule outside our own table accepts by the interface's name, in ``nft list ruleset``'s text."""
    table = ""
    for line in rules.splitlines():
        if line.startswith("table "):
            table = line.split()[2]
        elif table != own_table and f'"{interface}"' in line and re.search(r"\baccept\b", line):
            return True
    return False


def accepts_port(rules: str, port: int) -> bool:
    """Whether any rule accepts UDP to that port, as far as the text tells: a port set counts where it names it."""
    return any(
        re.search(rf"\b(udp|th) dport\b.*\b{port}\b.*\baccept\b", line) is not None for line in rules.splitlines()
    )


def _firewall_problem(firewall: Firewall, rules: str, server: ServerView) -> Problem | None:
    where = f"{firewall.family} {firewall.table} {firewall.chain}"
    name, port = server.interface, server.listen_port
    has_ufw = "ufw" in rules
    if firewall.hook == "forward":
        if accepts_interface(rules, name, table_name(name)):
            return None
        if "DOCKER-USER" in rules:
            command = f"iptables -I DOCKER-USER -i {name} -j ACCEPT; iptables -I DOCKER-USER -o {name} -j ACCEPT"
        elif has_ufw:
            command = f"ufw route allow in on {name}; ufw route allow out on {name}"
        else:
            command = (
                f'nft insert rule {where} iifname "{name}" accept; nft insert rule {where} oifname "{name}" accept'
            )
        sentence = N_("Another firewall on this host drops what is passed on (%(where)s). Let it through:")
        return Problem(N_("Devices connect but reach only this server"), sentence % {"where": where}, command)
    if accepts_port(rules, port):
        return None
    command = f"ufw allow {port}/udp" if has_ufw else f"nft insert rule {where} udp dport {port} accept"
    sentence = N_("A firewall on this host drops what comes in (%(where)s), and no rule lets UDP %(port)s in.")
    return Problem(N_("Devices cannot reach this server"), sentence % {"where": where, "port": port}, command)


def _tool_problems(awg: str, wanted: str) -> list[Problem]:
    try:
        version = run([awg, "--version"], command="awg").decode("ascii", "replace")
    except ToolError:
        return []
    carried = tool_generation(version)
    if carried is None or GENERATIONS.index(carried) >= GENERATIONS.index(wanted):
        return []
    sentence = N_("The parameters are of AmneziaWG %(wanted)s, but awg here speaks only %(carried)s. Update it.")
    return [Problem(N_("awg is too old"), sentence % {"wanted": wanted, "carried": carried})]


def tool_generation(version: str) -> str | None:
    """Return the highest generation that ``awg --version`` stands for, or None for a text that tells nothing.

    The releases of amneziawg-tools: 1.0 up to 2024 and 20250706, 1.5 in 20250704, 2.0 from 20250901, then 3.0
    and 3.1 by their own numbers.
    """
    found = re.search(r"v(\d+)\.(\d+)\.(\d{8})", version)
    if found is None:
        return None
    major, minor, date = int(found[1]), int(found[2]), found[3]
    if major >= 3:
        return "3.0" if (major, minor) == (3, 0) else "3.1"
    if date >= "20250901":
        return "2.0"
    return "1.5" if date == "20250704" else "1.0"
