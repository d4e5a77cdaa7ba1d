"""Address translation for what leaves the tunnel, in one nftables table that nobody else uses."""

from __future__ import annotations

import re

from webapp.domain.addresses import Pool
from webapp.services.wg import Tools, run


def table_name(interface: str) -> str:
    """Return the table's name: nftables takes letters, digits and underscores."""
    return "postern_" + re.sub(r"[^a-zA-Z0-9_]", "_", interface)


def ruleset(interface: str, pool: Pool) -> str:
    """Return the whole table as ``nft -f`` reads it; loading it replaces the old one in one step.

    What comes from the pool and leaves by another interface gets the host's own address. The largest TCP
    segment follows the tunnel's MTU: without that, "connected, but no page loads" on networks that drop ICMP.
    """
    table = f"inet {table_name(interface)}"
    sources = [f'    ip saddr {pool.network} oifname != "{interface}" masquerade']
    if pool.network6 is not None:
        sources.append(f'    ip6 saddr {pool.network6} oifname != "{interface}" masquerade')
    clamp = "tcp flags syn tcp option maxseg size set rt mtu"
    return "\n".join(
        [
            f"add table {table}",
            f"delete table {table}",
            f"table {table} {{",
            "  chain postrouting {",
            "    type nat hook postrouting priority srcnat; policy accept;",
            *sources,
            "  }",
            "  chain forward {",
            "    type filter hook forward priority mangle; policy accept;",
            f'    oifname "{interface}" {clamp}',
            f'    iifname "{interface}" {clamp}',
            "  }",
            "}",
            "",
        ]
    )


def is_loaded(tools: Tools, interface: str) -> bool:
    """Whether the table is there. Raises ToolError when ``nft`` cannot say."""
    listing = run([tools.nft, "list", "tables", "inet"], command="nft").decode("utf-8", "replace")
    return f"table inet {table_name(interface)}" in listing.splitlines()


def load(tools: Tools, interface: str, pool: Pool) -> None:
    """Load the table, in place of an older one. Raises ToolError; the older one stays then."""
    run([tools.nft, "-f", "-"], stdin=ruleset(interface, pool).encode(), command="nft")
