"""The agent and its interface. The measuring runs in namespaces of its own, which end with everything in them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from bench.deployment import ROOT, clean_environment
from bench.report import Row, from_json

SECTION = "agent"
NEEDED = ("wg", "wireguard-go", "ip", "unshare", "mount")


def measure(*, is_quick: bool) -> list[Row]:
    """Run ``bench.peers_inside`` in new network, mount and process namespaces."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if os.geteuid() != 0:
        missing.append("root")
    if not os.path.exists("/dev/net/tun"):
        missing.append("/dev/net/tun")
    if missing:
        return [Row(SECTION, f"skipped, this is missing: {', '.join(missing)}", "", 0)]
    # The first process of a process namespace takes all others with it, the tunnel's daemons too.
    walls = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    words = [sys.executable, "-m", "bench.peers_inside", *(["--quick"] if is_quick else [])]
    done = subprocess.run(
        [*walls, *words], cwd=ROOT, env=clean_environment(), stdout=subprocess.PIPE, check=True, text=True
    )
    return from_json(done.stdout)
