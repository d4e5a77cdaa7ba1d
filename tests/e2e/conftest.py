"""A server with Postern, set up the way a person does it, and devices that reach it over a network of namespaces."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.e2e import far_host
from tests.e2e.make_run import MakeRun, clean_environment
from tests.e2e.network import Network, open_network, wait_until
from tests.e2e.person import Curl, Device
from tests.namespaces import unique_interface

PORT = 8000
LISTEN_PORT = 51820
PASSWORD = "correct horse battery staple"
LIVE_S = 8
"""Within how long a change is on the interface. It takes a second; a busy machine gets more."""


class Peer:
    """One line of ``wg show IF dump``."""

    def __init__(self, line: str) -> None:
        (self.public_key, self.preshared_key, self.endpoint, allowed_ips, handshake, rx, tx, _) = line.split("\t")
        self.allowed_ips = frozenset(allowed_ips.split(","))
        self.latest_handshake, self.rx_bytes, self.tx_bytes = int(handshake), int(rx), int(tx)


class Home:
    """The server of one family: its namespace, its Postern, and the person who runs it."""

    def __init__(self, network: Network, folder: Path) -> None:
        self.network = network
        self.folder = folder
        self.data_dir = folder / "data"
        self.interface = unique_interface()
        self.origin = f"http://{network.server_ipv4}:{PORT}"
        self.starts = 0
        self.person = self.curl_in(network.client, "person")
        self.run: MakeRun | None = None

    def curl_in(self, space, name: str) -> Curl:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return Curl(self.origin, folder, space.argv)

    def environ(self, **variables: str) -> dict[str, str]:
        """Return what stands in the environment of ``make run``."""
        return clean_environment(
            DATA_DIR=str(self.data_dir),
            HOST=self.network.server_ipv4,
            PORT=str(PORT),
            PUBLIC_URL=self.origin,
            INTERFACE_MODE="auto",
            WG_INTERFACE=self.interface,
            WG_ENDPOINT=f"{self.network.server_ipv4}:{LISTEN_PORT}",
            WG_NETWORK6="fd00:8::/64",
            **variables,
        )

    def start(self, **variables: str) -> MakeRun:
        """Type ``make run`` and wait for the first answer."""
        self.starts += 1
        self.run = MakeRun(
            self.environ(**variables),
            self.folder / f"make-run-{self.starts}.log",
            self.person.answers,
            prefix=self.network.server.argv(),
        )
        return self.run.wait_until_it_answers()

    def set_up(self) -> None:
        """Open the printed link, make the account, and make a token."""
        answer = self.person.set_up(self.run.setup_link, "nora", PASSWORD)
        assert (answer.status, answer.location) == (303, f"{self.origin}/profiles/"), answer
        self.person.make_token()

    def device(self, space, name: str) -> Device:
        """Add a device by the form and fetch its file into a folder of its own."""
        profile = self.person.add(name)
        owner = self.curl_in(space, name)
        owner.token = self.person.token
        return Device(space, owner.fetch(name), profile)

    @contextmanager
    def guest(self) -> Iterator[Device]:
        """A second device for one test, connected; switched off and deleted at its end."""
        guest = self.device(self.network.guest, unique_interface())
        try:
            with guest.switched_on():
                self.wait_for_ping(guest)
                yield guest
        finally:
            if any(item["id"] == guest.profile["id"] for item in self.person.api("GET", "/profiles")["items"]):
                self.person.delete(guest.profile)
            wait_until(lambda: guest.public_key not in self.peers(), LIVE_S, "the guest is gone")

    def wait_for_ping(self, device: Device, timeout_s: float = LIVE_S) -> float:
        """Wait until the device reaches the server through the tunnel."""
        return wait_until(lambda: device.pings("10.8.0.1"), timeout_s, f"{device.name} reaches the server")

    def peers(self) -> dict[str, Peer]:
        """Return the server's peers as its interface has them; none while there is no interface."""
        if not self.network.server.succeeds("wg", "show", self.interface):
            return {}
        lines = self.network.server.run("wg", "show", self.interface, "dump").splitlines()[1:]
        return {peer.public_key: peer for peer in map(Peer, lines)}

    def wg(self, *words: str, stdin: str = "") -> str:
        """Change the server's interface by hand."""
        return self.network.server.run("wg", words[0], self.interface, *words[1:], stdin=stdin)

    def is_released(self, device: Device) -> bool:
        """Whether the device's address was given back and its key was seen to be gone."""
        with closing(sqlite3.connect(f"file:{self.data_dir / 'postern.db'}?mode=ro", uri=True)) as connection:
            rows = connection.execute(
                "SELECT confirmed_absent_at FROM released_addresses WHERE public_key = ?", (device.public_key,)
            ).fetchall()
        return len(rows) == 1 and rows[0][0] is not None

    def close(self) -> None:
        if self.run is not None:
            self.run.kill()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add what Postern printed to the report of a test that failed."""
    report = yield
    home = getattr(item, "funcargs", {}).get("home")
    if report.failed and isinstance(home, Home) and home.run is not None:
        report.sections.append(("make run", home.run.output))
    return report


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """The namespaces; behind the server a host listens that knows no way to the devices."""
    with open_network() as network:
        argv = network.behind.argv(sys.executable, far_host.__file__)
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        far = subprocess.Popen(argv, **quiet)
        try:
            url = f"http://{network.behind_ipv4}:{far_host.PORT}/"
            asks = ("curl", "-sS", "--noproxy", "*", "--data", "hello", url)
            wait_until(lambda: network.server.succeeds(*asks), 10, "the far host answers the server")
            yield network
        finally:
            far.kill()
            far.wait()


@pytest.fixture(scope="module")
def home(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """Postern, started by ``make run`` for the first time and set up; it ends with the module."""
    folder = tmp_path_factory.mktemp("home")
    home = Home(network, folder)
    try:
        home.start()
        home.set_up()
        yield home
    finally:
        home.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def kept_phone(home: Home) -> Iterator[Device]:
    """A device that is on all the time."""
    phone = home.device(home.network.client, unique_interface())
    with phone.switched_on():
        yield phone


@pytest.fixture
def phone(home: Home, kept_phone: Device) -> Device:
    """The device that is on all the time, with a tunnel that works."""
    if not kept_phone.pings("10.8.0.1"):
        kept_phone.switch_off()
        kept_phone.switch_on()
        home.wait_for_ping(kept_phone)
    return kept_phone
