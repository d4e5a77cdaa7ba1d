"""Other firewalls and old tools on the host, found in what the real ``nft`` prints."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest

from tests.namespaces import Namespace, namespace
from webapp.services.host import (
    Firewall,
    accepts_interface,
    accepts_port,
    dropping_chains,
    find_traps,
    tool_generation,
)
from webapp.services.servers import ServerView
from webapp.services.wg import Tools
from webapp.wiring import Services

RULES = """table ip filter {
	chain FORWARD {
		type filter hook forward priority filter; policy drop;
		iifname "awg1" accept
	}
}
table inet postern_awg0 {
	chain forward {
		oifname "awg0" accept
	}
}
"""


def chain(**values: object) -> dict[str, object]:
    return {"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "handle": 1, **values}}


def test_a_base_chain_that_drops_by_policy_is_a_firewall() -> None:
    listing = {
        "nftables": [
            {"metainfo": {"version": "1.0.6"}},
            chain(type="filter", hook="forward", prio=0, policy="drop"),
            chain(name="INPUT", type="filter", hook="input", prio=0, policy="accept"),
            chain(name="OUTPUT", type="filter", hook="output", prio=0, policy="drop"),
            chain(name="DOCKER"),
            chain(table="postern_awg0", type="filter", hook="forward", prio=0, policy="drop"),
        ]
    }
    assert dropping_chains(listing, "postern_awg0") == [Firewall("ip", "filter", "FORWARD", "forward")]


def test_our_own_table_does_not_count_as_letting_through() -> None:
    assert not accepts_interface(RULES, "awg0", "postern_awg0")
    assert accepts_interface(RULES, "awg1", "postern_awg1")


@pytest.mark.parametrize(
    ("rule", "accepts"),
    [
        ("udp dport 51820 accept", True),
        ("meta l4proto udp udp dport { 53, 51820 } counter packets 0 bytes 0 accept", True),
        ("udp dport 51821 accept", False),
        ("udp dport 51820 drop", False),
        ("tcp dport 51820 accept", False),
    ],
)
def test_a_port_is_open_where_a_rule_names_it(rule: str, accepts: bool) -> None:
    assert accepts_port(f"table ip filter {{\n\t\t{rule}\n}}", 51820) is accepts


@pytest.mark.parametrize(
    ("version", "generation"),
    [
        ("amneziawg-tools v1.0.20240213 - https://amnezia.org", "1.0"),
        ("amneziawg-tools v1.0.20250706", "1.0"),
        ("amneziawg-tools v1.0.20250704", "1.5"),
        ("amneziawg-tools v1.0.20250901", "2.0"),
        ("amneziawg-tools v1.0.20260618-2", "2.0"),
        ("amneziawg-tools v3.0.20260724", "3.0"),
        ("amneziawg-tools v3.1.20260812", "3.1"),
        ("something else", None),
    ],
)
def test_the_tools_version_tells_the_generation(version: str, generation: str | None) -> None:
    assert tool_generation(version) == generation


@pytest.mark.tunnel
class TestRealFirewall:
    """Against the real ``nft`` in a network namespace."""

    @pytest.fixture
    def server(self, services: Services) -> ServerView:
        with services.db.read() as session:
            return services.servers.current(session)

    @pytest.fixture
    def space(self) -> Iterator[Namespace]:
        with namespace() as space:
            yield space

    def test_a_dropping_firewall_is_found_with_the_line_that_opens_it(
        self, space: Namespace, server: ServerView
    ) -> None:
        tools = Tools.find()
        assert space.call(find_traps, tools, server) == []
        space.run("nft", "add table ip filter")
        for name in ("forward", "input"):
            hook = f"{{ type filter hook {name} priority 0; policy drop; }}"
            space.run("nft", f"add chain ip filter {name.upper()} {hook}")
        found = space.call(find_traps, tools, server)
        assert [problem.title for problem in found] == [
            "Devices connect but reach only this server",
            "Devices cannot reach this server",
        ]
        for problem in found:
            for line in (problem.command or "").split("; "):
                space.run(*shlex.split(line))
        assert space.call(find_traps, tools, server) == []
