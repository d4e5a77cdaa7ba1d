"""What is there, what is missing, what to type: the checks behind ``postern doctor``."""

from __future__ import annotations

import os
from dataclasses import dataclass

from webapp.errors import AppError
from webapp.services import link, schema
from webapp.services.database import open_database, sqlite_path
from webapp.services.wg import Tools
from webapp.settings import Settings
from webapp.wiring import build_services


@dataclass(frozen=True)
class Finding:
    """One check: what it looked at, whether it is well, what it saw, and the line to type (None: nothing to do)."""

    subject: str
    is_well: bool
    seen: str
    command: str | None = None


def diagnose(settings: Settings) -> list[Finding]:
    """Run every check that this process can make; a trouble is a finding, never an error."""
    findings = check_tools(Tools.find())
    findings.extend(_check_database(settings))
    return findings


def _check_database(settings: Settings) -> list[Finding]:
    subject = "the database"
    path = sqlite_path(settings.database_url)
    if path is not None and not path.exists():
        return [Finding(subject, False, f"{path} does not exist yet", "make run")]
    try:
        db = open_database(settings.database_url)
        found = schema.version(db.engine)
        if found != schema.CURRENT:
            return [Finding(subject, False, schema.mismatch(found), ".venv/bin/postern db upgrade")]
        services = build_services(settings, db)
        with db.read() as session:
            services.servers.check_key(session)
            server = services.servers.current(session)
            report = services.servers.report(session, server.id)
    except AppError as error:
        return [Finding(subject, False, str(error))]
    findings = [Finding(subject, True, f"version {found}, mode {server.mode}")]
    if server.endpoint is None:
        findings.append(Finding("the address that devices connect to", False, "not set", "WG_ENDPOINT=host:port"))
    else:
        findings.append(Finding("the address that devices connect to", True, str(server.endpoint)))
    if server.has_interface:
        seen = "never heard of" if report.seen_at is None else f"last heard {report.seen_at:%Y-%m-%d %H:%M:%S} UTC"
        findings.append(Finding("the agent", report.is_alive, seen, None if report.is_alive else "make run"))
        findings += [Finding(item.title, False, item.sentence, item.command) for item in report.problems]
    return findings


def check_tools(tools: Tools) -> list[Finding]:
    """Look for what a managed interface needs on this machine."""
    findings = [
        _tool("wg or awg (makes keys, speaks to the interface)", tools.awg or tools.wg, "wireguard-tools"),
        _tool("ip (makes the interface)", tools.ip, "iproute2"),
        _tool("nft (lets devices reach the internet)", tools.nft, "nftables"),
    ]
    may = link.may_configure()
    findings.append(
        Finding(
            "the right to make an interface (CAP_NET_ADMIN)",
            may,
            "held" if may else "not held",
            None if may else "sudo make run",
        )
    )
    carrier = tools.amneziawg_go or tools.wireguard_go
    has_tun = os.path.exists("/dev/net/tun")
    if carrier is None:
        findings.append(
            Finding(
                "what carries the tunnel",
                link.can_manage(tools),
                "the kernel's module" if link.can_manage(tools) else "neither a kernel module nor a daemon",
                None if link.can_manage(tools) else "sudo apt install wireguard-go",
            )
        )
    else:
        findings.append(
            Finding(
                "what carries the tunnel",
                has_tun,
                carrier if has_tun else f"{carrier}, but /dev/net/tun is missing",
                None if has_tun else "sudo modprobe tun",
            )
        )
    return findings


def _tool(subject: str, path: str | None, package: str) -> Finding:
    if path is not None:
        return Finding(subject, True, path)
    return Finding(subject, False, "not found on PATH", f"sudo apt install {package}")
