"""What all tests share: settings, a migrated database, a clock that is set by hand, and the rules for skipping."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes import Clock
from webapp.services import migrator
from webapp.services.database import Database, open_database
from webapp.services.wg import Tools
from webapp.settings import Settings
from webapp.wiring import Services, build_services

POSTGRES_PROGRAMS = Path("/usr/lib/postgresql/15/bin")
SECRETS = {
    "SECRET_KEY": "9f3b1c5e7a2d4086b1f4c8e2a7d90356",
    "ENCRYPTION_KEY": "4e8a0d6cb2f19375e0c7a4d8b61f2935",
}


def why_no_tunnel() -> str | None:
    """Return what is missing for a real tunnel, or None."""
    if os.geteuid() != 0:
        return "a tunnel needs root"
    missing = [name for name in ("ip", "wg", "wireguard-go") if shutil.which(name) is None]
    if missing:
        return f"a tunnel needs {', '.join(missing)}"
    return None if os.path.exists("/dev/net/tun") else "a tunnel needs /dev/net/tun"


def why_no_browser() -> str | None:
    """Return what is missing for a real browser, or None."""
    return None if os.access("/usr/bin/chromium", os.X_OK) else "a browser test needs /usr/bin/chromium"


def why_no_postgres() -> str | None:
    """Return what is missing for a PostgreSQL server of our own, or None."""
    if not os.access(POSTGRES_PROGRAMS / "initdb", os.X_OK):
        return f"PostgreSQL's programs are not in {POSTGRES_PROGRAMS}"
    return None


NEEDS = {"tunnel": why_no_tunnel, "browser": why_no_browser, "postgres": why_no_postgres}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose needs are not met; on a CI machine, which has everything, that is a failure."""
    for marker, why_not in NEEDS.items():
        if item.get_closest_marker(marker) is None:
            continue
        reason = why_not()
        if reason is not None and os.environ.get("CI") == "true":
            pytest.fail(f"{reason}, and CI must not skip", pytrace=False)
        if reason is not None:
            pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what was skipped and why: a skip that nobody sees is a test that nobody has."""
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped:
        terminalreporter.section("skipped")
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        terminalreporter.write_line(f"{report.nodeid}: {str(reason).removeprefix('Skipped: ')}")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The variables behind ``settings``; a test may change them and ask ``Settings.from_env`` itself."""
    return {
        **SECRETS,
        "DATA_DIR": str(tmp_path / "data"),
        "INTERFACE_MODE": "off",
        "WG_ENDPOINT": "198.51.100.1:51820",
    }


@pytest.fixture
def settings(environ: dict[str, str]) -> Settings:
    return Settings.from_env(environ)


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with all tables, migrated once for all tests; copy it, do not open it."""
    folder = tmp_path_factory.mktemp("migrated")
    db = open_database(f"sqlite:///{folder / 'postern.db'}")
    migrator.upgrade(db, folder)
    db.close()
    assert not (folder / "postern.db-wal").exists()
    return folder / "postern.db"


@pytest.fixture
def database_file(settings: Settings, migrated_file: Path) -> Path:
    """The path of the settings' SQLite file: a migrated one, not opened yet."""
    settings.data_dir.mkdir(mode=0o700, parents=True)
    target = settings.data_dir / "postern.db"
    shutil.copyfile(migrated_file, target)
    target.chmod(0o600)
    return target


@pytest.fixture
def database(settings: Settings, database_file: Path) -> Iterator[Database]:
    """A fresh SQLite database with all tables and no rows."""
    db = open_database(settings.database_url)
    yield db
    db.close()


@pytest.fixture
def services(settings: Settings, database: Database, clock: Clock) -> Services:
    """All services on a fresh database whose server's row is made: mode ``off``, no system command at all."""
    services = build_services(settings, database, Tools(), clock=clock)
    services.servers.prepare("off", services.tools, interface_exists=False, can_manage=False)
    return services


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The folder of the socket of a PostgreSQL server of our own; it ends with the tests."""
    folder = Path(tempfile.mkdtemp(prefix="postern-pg-"))
    # PostgreSQL refuses to run as root.
    account = "postgres" if os.geteuid() == 0 else None
    if account is not None:
        shutil.chown(folder, account, account)
    how = {"user": account, "group": account, "extra_groups": []} if account is not None else {}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder, **how}
    data = folder / "data"
    initdb = [POSTGRES_PROGRAMS / "initdb", "--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8", "-D", data]
    subprocess.run(initdb, check=True, **quiet)
    options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}", "-c", "fsync=off"]
    server = subprocess.Popen([POSTGRES_PROGRAMS / "postgres", "-D", data, *options], **quiet)
    try:
        asks = [POSTGRES_PROGRAMS / "pg_isready", "-q", "-h", folder, "-t", "1"]
        for _ in range(200):
            if subprocess.run(asks, check=False).returncode == 0:
                break
            assert server.poll() is None, "PostgreSQL did not start"
        yield str(folder)
    finally:
        server.send_signal(signal.SIGQUIT)  # The quickest way down: nothing of it is kept.
        server.wait(timeout=20)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _postgres_database(server: str, template: str) -> Iterator[str]:
    """Make a database, hand out its URL, and drop it: a hundred of them would be a gigabyte of small files."""
    import psycopg

    name = f"test_{os.urandom(6).hex()}"
    with psycopg.connect(f"host={server} user=postgres dbname=postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield f"postgresql+psycopg://postgres@/{name}?host={server}"
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of a new, empty PostgreSQL database."""
    with _postgres_database(postgres_server, "template0") as url:
        yield url


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a PostgreSQL database with all tables, migrated once for all tests; copy it, do not open it."""
    with _postgres_database(postgres_server, "template0") as url:
        db = open_database(url)
        migrator.upgrade(db, tmp_path_factory.mktemp("migrated-postgres"))
        db.close()
        yield url.split("@/")[1].split("?", maxsplit=1)[0]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def each_services(request: pytest.FixtureRequest, environ: dict[str, str], clock: Clock) -> Iterator[Services]:
    """``services``, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        yield request.getfixturevalue("services")
        return
    server, template = (request.getfixturevalue(name) for name in ("postgres_server", "migrated_postgres"))
    with _postgres_database(server, template) as url:
        settings = Settings.from_env({**environ, "DATABASE_URL": url})
        settings.data_dir.mkdir(mode=0o700)
        db = open_database(settings.database_url)
        try:
            services = build_services(settings, db, Tools(), clock=clock)
            services.servers.prepare("off", services.tools, interface_exists=False, can_manage=False)
            yield services
        finally:
            db.close()


@pytest.fixture
def new_person(services: Services) -> Callable[..., int]:
    """Make a person without a password and return the id."""

    def make(name: str = "alice", *, is_admin: bool = False) -> int:
        return services.accounts.create_user(name, None, is_admin=is_admin).id

    return make
