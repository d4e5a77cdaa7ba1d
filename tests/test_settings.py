"""The environment: every bad variable is named at once, nothing is guessed, and ``.env.example`` tells them all."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path

import pytest

from webapp.domain.endpoint import Endpoint
from webapp.domain.keys import PrivateKey, PublicKey
from webapp.domain.obfuscation import ENVIRONMENT_PREFIX, PARAMETERS, Obfuscation
from webapp.errors import SettingsInvalid
from webapp.settings import ROOT, ServerSettings, Settings, is_loopback

GOOD = "9f3b1c5e7a2d4086b1f4c8e2a7d90356"
PUBLIC = "iooU8XWoS7Up5EBO+O5JqpMfiLISaBSSeLGQRgbW3Ds="
PRIVATE = "IHrBh72hXlAQV0h8OuxLrWKOrEKirM+fOd4vOiptOV4="


def problems(environ: Mapping[str, str]) -> tuple[str, ...]:
    with pytest.raises(SettingsInvalid) as caught:
        Settings.from_env(environ)
    return caught.value.problems


def test_nothing_set_is_a_local_installation() -> None:
    settings = Settings.from_env({})
    assert settings == Settings(
        data_dir=ROOT / "instance",
        database_url=f"sqlite:///{ROOT}/instance/postern.db",
        host="127.0.0.1",
        port=8000,
        public_url="http://127.0.0.1:8000",
        interface_mode="auto",
        server=ServerSettings(),
    )
    assert (settings.is_sqlite, settings.is_https, settings.base_path) == (True, False, "")


def test_empty_and_blank_values_count_as_not_set() -> None:
    names = ("HOST", "PORT", "DATA_DIR", "DATABASE_URL", "WG_ENDPOINT", "WG_MTU", "AWG_JC", "ADMIN_USERNAME")
    assert Settings.from_env(dict.fromkeys(names, " ")) == Settings.from_env({})


def test_everything_set_is_read() -> None:
    settings = Settings.from_env(
        {
            "HOST": "::",
            "PORT": "80",
            "PUBLIC_URL": "https://vpn.example.net/vpn/",
            "DATA_DIR": "/srv/postern",
            "DATABASE_URL": "postgres://me:pw@db/postern",
            "SECRET_KEY": GOOD,
            "ENCRYPTION_KEY": GOOD[::-1],
            "ADMIN_USERNAME": "nora",
            "ADMIN_PASSWORD": "four random words",
            "INTERFACE_MODE": "adopt",
            "TRUSTED_PROXIES": "127.0.0.1, 10.0.0.0/8,",
            "ALLOWED_HOSTS": "VPN.example.net, 192.0.2.1",
            "METRICS_TOKEN": GOOD,
            "WG_INTERFACE": "wg0",
            "WG_ENDPOINT": "[2001:db8::1]:443",
            "WG_LISTEN_PORT": "443",
            "WG_SERVER_PUBLIC_KEY": PUBLIC,
            "WG_SERVER_PRIVATE_KEY": PRIVATE,
            "WG_NETWORK": "10.9.0.0/16",
            "WG_NETWORK6": "fd00::/64",
            "WG_DNS": "9.9.9.9",
            "WG_ALLOWED_IPS": "0.0.0.0/0",
            "WG_MTU": "1280",
            "WG_PERSISTENT_KEEPALIVE": "0",
            "AWG_S1": "20",
        }
    )
    assert settings == Settings(
        data_dir=Path("/srv/postern"),
        database_url="postgresql+psycopg://me:pw@db/postern",
        host="::",
        port=80,
        public_url="https://vpn.example.net/vpn",
        secret_key=GOOD,
        encryption_key=GOOD[::-1],
        admin_username="nora",
        admin_password="four random words",
        interface_mode="adopt",
        trusted_proxies=(IPv4Network("127.0.0.1/32"), IPv4Network("10.0.0.0/8")),
        allowed_hosts=("vpn.example.net", "192.0.2.1"),
        metrics_token=GOOD,
        server=ServerSettings(
            interface="wg0",
            endpoint=Endpoint.parse("[2001:db8::1]:443"),
            listen_port=443,
            public_key=PublicKey.from_base64(PUBLIC),
            private_key=PrivateKey.from_base64(PRIVATE),
            network=IPv4Network("10.9.0.0/16"),
            network6=IPv6Network("fd00::/64"),
            dns=(IPv4Address("9.9.9.9"),),
            allowed_ips=(IPv4Network("0.0.0.0/0"),),
            mtu=1280,
            persistent_keepalive=0,
            obfuscation=Obfuscation.parse({"S1": "20"}),
        ),
    )
    assert (settings.is_sqlite, settings.is_https, settings.base_path) == (False, True, "/vpn")


def test_every_bad_value_is_named_at_once() -> None:
    environ = {
        "HOST": "-nonsense-",
        "PORT": "65536",
        "PUBLIC_URL": "ftp://vpn.example.net",
        "DATABASE_URL": "mysql://db",
        "SECRET_KEY": "short",
        "ENCRYPTION_KEY": "a" * 40,
        "ADMIN_USERNAME": "nora",
        "INTERFACE_MODE": "maybe",
        "TRUSTED_PROXIES": "10.0.0.1/8",
        "ALLOWED_HOSTS": "a b",
        "METRICS_TOKEN": "",
        "WG_INTERFACE": "a/b",
        "WG_ENDPOINT": "vpn.example.net",
        "WG_LISTEN_PORT": "0",
        "WG_SERVER_PUBLIC_KEY": "garbage",
        "WG_SERVER_PRIVATE_KEY": PRIVATE[:-1],
        "WG_NETWORK": "10.8.0.1/24",
        "WG_NETWORK6": "10.8.0.0/24",
        "WG_DNS": "dns.example.net",
        "WG_ALLOWED_IPS": "everything",
        "WG_MTU": "9000",
        "WG_PERSISTENT_KEEPALIVE": "-1",
        "AWG_JC": "many",
    }
    found = problems(environ)
    assert {problem.split(":")[0] for problem in found} == {*environ, "ADMIN_USERNAME, ADMIN_PASSWORD"} - {
        "ADMIN_USERNAME"
    }
    assert not any(PRIVATE[:20] in problem or GOOD in problem for problem in found)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("PORT", "0", "PORT: '0' is not a whole number from 1 to 65535"),
        ("PORT", "٨٠", "PORT: '٨٠' is not a whole number from 1 to 65535"),
        ("PORT", "8e3", "PORT: '8e3' is not a whole number from 1 to 65535"),
        ("HOST", "a\nb", "HOST: holds a control character"),
        ("WG_INTERFACE", "..", "WG_INTERFACE: '..' is not an interface name (1 to 15 of a-z A-Z 0-9 _ = + . -)"),
        (
            "WG_INTERFACE",
            "x" * 16,
            f"WG_INTERFACE: '{'x' * 16}' is not an interface name (1 to 15 of a-z A-Z 0-9 _ = + . -)",
        ),
        ("INTERFACE_MODE", "on", "INTERFACE_MODE: 'on' is none of auto, manage, adopt, off"),
        ("SECRET_KEY", "", "SECRET_KEY: is empty; leave it out, or give 32 random characters"),
        ("SECRET_KEY", GOOD[:31], "SECRET_KEY: is too short; 32 random characters or more"),
        ("SECRET_KEY", "ab" * 20, "SECRET_KEY: is easy to guess; make one with: openssl rand -hex 32"),
        (
            "ENCRYPTION_KEY",
            "change-me-" + GOOD,
            "ENCRYPTION_KEY: is easy to guess; make one with: openssl rand -hex 32",
        ),
        ("METRICS_TOKEN", "abc", "METRICS_TOKEN: is too short; 16 random characters or more"),
        ("DATABASE_URL", "sqlite:///", "DATABASE_URL: begins with neither sqlite:///FILE nor postgresql://"),
        ("PUBLIC_URL", "vpn.example.net", "PUBLIC_URL: 'vpn.example.net' is not an http:// or https:// address"),
        ("PUBLIC_URL", "https://a@b", "PUBLIC_URL: holds more than scheme, host, port and path"),
        (
            "WG_NETWORK",
            "10.8.0.0/31",
            "WG_NETWORK, WG_NETWORK6: 10.8.0.0/31 is too small: /30 holds the server and one device",
        ),
        (
            "WG_NETWORK6",
            "fd00::/127",
            "WG_NETWORK, WG_NETWORK6: fd00::/127 is too small: /126 holds the server and two devices",
        ),
        ("WG_MTU", "1279", "WG_MTU: '1279' is not a whole number from 1280 to 1420"),
        ("WG_SERVER_PUBLIC_KEY", PRIVATE[:-1], "WG_SERVER_PUBLIC_KEY: a key is 44 characters of base64"),
    ],
)
def test_one_bad_value_is_told_in_one_sentence(name: str, value: str, problem: str) -> None:
    assert problems({name: value}) == (problem,)


class TestExposure:
    """Plain HTTP is for this machine only, unless somebody says otherwise in words."""

    OUTSIDE = (
        "PUBLIC_URL: HOST=0.0.0.0 can be reached from outside; say the https:// address that people type (or http://"
        " in words, if plain HTTP is really meant)"
    )

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
    def test_this_machine_needs_no_words(self, host: str) -> None:
        assert is_loopback(Settings.from_env({"HOST": host}).host)

    def test_ipv6_stands_in_brackets_in_a_url(self) -> None:
        assert Settings.from_env({"HOST": "::1"}).public_url == "http://[::1]:8000"

    def test_the_outside_without_an_address_is_refused(self) -> None:
        assert problems({"HOST": "0.0.0.0"}) == (self.OUTSIDE,)

    def test_an_empty_address_is_no_address(self) -> None:
        assert problems({"HOST": "0.0.0.0", "PUBLIC_URL": ""}) == (self.OUTSIDE,)

    @pytest.mark.parametrize("url", ["http://192.0.2.1:8000", "https://vpn.example.net"])
    def test_the_outside_with_an_address_is_taken(self, url: str) -> None:
        assert Settings.from_env({"HOST": "0.0.0.0", "PUBLIC_URL": url}).public_url == url

    @pytest.mark.parametrize("url", ["HTTPS://vpn.example.net", "Https://vpn.example.net"])
    def test_https_in_capitals_is_https(self, url: str) -> None:
        assert Settings.from_env({"PUBLIC_URL": url}).is_https

    @pytest.mark.parametrize(
        "url",
        [
            "http://a\tb",
            "http://host:99999",
            "http://[",
            *(pytest.param(url) for url in ("http://a b", "http://:pw@host", "http://host?", "http://host/#")),
        ],
    )
    def test_an_address_with_anything_more_is_refused(self, url: str) -> None:
        assert [problem.split(":")[0] for problem in problems({"PUBLIC_URL": url})] == ["PUBLIC_URL"]


class TestTogether:
    @pytest.mark.parametrize("one", [{"ADMIN_USERNAME": "nora"}, {"ADMIN_PASSWORD": "four random words"}])
    def test_the_first_admin_needs_name_and_password(self, one: dict[str, str]) -> None:
        assert problems(one) == ("ADMIN_USERNAME, ADMIN_PASSWORD: set both or neither",)

    @pytest.mark.parametrize("password", ["1234567", "x" * 257])
    def test_the_first_admins_password_is_a_good_one(self, password: str) -> None:
        assert problems({"ADMIN_USERNAME": "nora", "ADMIN_PASSWORD": password}) == (
            "ADMIN_PASSWORD: 8 to 256 characters",
        )

    def test_an_mtu_that_the_padding_does_not_fit_is_told(self) -> None:
        found = problems({"WG_MTU": "1420", "AWG_S4": "100"})
        assert [problem.split(":")[0] for problem in found] == ["WG_MTU"]


class TestFiles:
    """``NAME_FILE`` for secrets."""

    @pytest.mark.parametrize(
        ("name", "attribute", "value"),
        [
            ("SECRET_KEY", "secret_key", GOOD),
            ("ENCRYPTION_KEY", "encryption_key", GOOD),
            ("METRICS_TOKEN", "metrics_token", GOOD),
        ],
    )
    def test_a_secret_comes_from_a_file(self, tmp_path: Path, name: str, attribute: str, value: str) -> None:
        (tmp_path / "secret").write_text(value + "\n")
        assert getattr(Settings.from_env({f"{name}_FILE": str(tmp_path / "secret")}), attribute) == value

    def test_the_servers_key_comes_from_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text(PRIVATE + "\n")
        settings = Settings.from_env({"WG_SERVER_PRIVATE_KEY_FILE": str(tmp_path / "secret")})
        assert settings.server.private_key == PrivateKey.from_base64(PRIVATE)

    @pytest.mark.parametrize(
        "name",
        [
            *("SECRET_KEY", "ENCRYPTION_KEY", "METRICS_TOKEN"),
            pytest.param("WG_SERVER_PRIVATE_KEY"),
        ],
    )
    def test_an_empty_secret_file_is_a_mistake(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "secret").write_text("\n")
        assert [problem.split(":")[0] for problem in problems({f"{name}_FILE": str(tmp_path / "secret")})] == [name]

    def test_variable_and_file_together_are_a_mistake(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text(GOOD)
        environ = {"SECRET_KEY": GOOD, "SECRET_KEY_FILE": str(tmp_path / "secret")}
        assert problems(environ) == ("SECRET_KEY, SECRET_KEY_FILE: set one of them",)

    def test_a_missing_file_is_told_by_its_variable(self, tmp_path: Path) -> None:
        assert "SECRET_KEY_FILE: the file cannot be read (No such file or directory)" in problems(
            {"SECRET_KEY_FILE": str(tmp_path / "none")}
        )

    def test_a_file_that_is_no_text_is_told_without_quoting_it(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_bytes(b"\xff" * 40)
        assert "SECRET_KEY_FILE: the file cannot be read (it is not text)" in problems(
            {"SECRET_KEY_FILE": str(tmp_path / "secret")}
        )


def test_no_secret_stands_in_the_representation() -> None:
    settings = Settings.from_env(
        {
            "SECRET_KEY": GOOD,
            "ENCRYPTION_KEY": GOOD,
            "METRICS_TOKEN": GOOD,
            "ADMIN_USERNAME": "nora",
            "ADMIN_PASSWORD": "four random words",
            "WG_SERVER_PRIVATE_KEY": PRIVATE,
            "DATABASE_URL": "postgresql://me:hunter22@db/postern",
        }
    )
    text = repr(settings)
    assert not any(secret in text for secret in (GOOD, "four random words", PRIVATE, "hunter22"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("DATA_DIR", "~nobody-of-that-name/postern"),
        pytest.param("DATABASE_URL", "postgresql://db:port/postern"),
        pytest.param("DATABASE_URL", "sqlite:///:memory:"),
        pytest.param("WG_ALLOWED_IPS", ","),
        pytest.param("WG_DNS", "fe80::1%eth0; x"),
        pytest.param("ADMIN_USERNAME", "a/b"),
    ],
)
def test_what_would_break_later_is_told_at_the_start(name: str, value: str) -> None:
    more = {"ADMIN_PASSWORD": "four random words"} if name == "ADMIN_USERNAME" else {}
    assert [problem.split(":")[0] for problem in problems({name: value, **more})] == [name]


def test_a_password_keeps_its_blanks() -> None:
    password = " four random words "
    assert Settings.from_env({"ADMIN_USERNAME": "nora", "ADMIN_PASSWORD": password}).admin_password == password


@pytest.mark.parametrize("folder", ["/srv/per%41cent", "/srv/what?"])
def test_a_folder_that_a_database_url_would_read_otherwise_is_refused(folder: str) -> None:
    sentence = "DATA_DIR: a folder whose name holds %, ? or # cannot stand in a database URL"
    assert problems({"DATA_DIR": folder}) == (sentence,)


class Recorder(Mapping[str, str]):
    """An empty environment that remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()


def variables_of_the_example() -> list[str]:
    return [found[1] for line in EXAMPLE if (found := re.fullmatch(r"#([A-Z][A-Z0-9_]*)=.*", line))]


class TestExample:
    """``.env.example`` and Settings are changed together."""

    def test_it_names_every_variable_that_is_read_and_no_other(self) -> None:
        recorder = Recorder()
        Settings.from_env(recorder)
        read = recorder.asked | {parameter.environment for parameter in PARAMETERS}
        assert set(variables_of_the_example()) == read

    def test_it_names_each_once(self) -> None:
        names = variables_of_the_example()
        assert sorted(names) == sorted(set(names))

    def test_copied_as_it_is_it_sets_nothing(self) -> None:
        assert [line for line in EXAMPLE if line and not line.startswith("#")] == []

    def test_every_group_of_variables_is_explained(self) -> None:
        for line, before in zip(EXAMPLE[1:], EXAMPLE, strict=False):
            if re.match(r"#[A-Z][A-Z0-9_]*=", line):
                assert before.startswith("#"), line

    def test_its_values_are_good_ones(self) -> None:
        """What people get by taking the # away works."""
        values = {
            found[1]: found[2]
            for line in EXAMPLE
            if (found := re.fullmatch(r"#([A-Z][A-Z0-9_]*)=(.+)", line)) and not found[1].endswith("_FILE")
        }
        third = {parameter.environment for parameter in PARAMETERS if parameter.generation in {"3.0", "3.1"}}
        chosen = {name: value for name, value in values.items() if name not in third | {"ADMIN_USERNAME"}}
        settings = Settings.from_env(chosen)
        assert settings.server.obfuscation is not None
        assert any(name.startswith(ENVIRONMENT_PREFIX) for name in chosen)
