"""The runner of commands when they are missing, forbidden, hanging or lying; making keys; reading a dump."""

from __future__ import annotations

import base64
import os
import resource
import shutil
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapp.domain.keys import PublicKey
from webapp.errors import ToolForbidden, ToolMissing, ToolRefused, ToolTimedOut
from webapp.services import wg
from webapp.services.wg import InterfaceState, KeyMaker, PeerState, Tools, parse_dump, run, scrub

PRIVATE = "IHrBh72hXlAQV0h8OuxLrWKOrEKirM+fOd4vOiptOV4="
PUBLIC = "iooU8XWoS7Up5EBO+O5JqpMfiLISaBSSeLGQRgbW3Ds="
OTHER = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
Script = Callable[[str], str]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Write a shell script and return its path."""

    def write(text: str, name: str = "wg", mode: int = 0o755) -> str:
        path = tmp_path / name
        path.write_text("#!/bin/sh\n" + textwrap.dedent(text))
        path.chmod(mode)
        return str(path)

    return write


def children_of_this_process() -> set[str]:
    return {pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """After each test there is not one child (a zombie is one) and not one file descriptor more."""
    before, children = set(os.listdir("/proc/self/fd")), children_of_this_process()
    yield
    assert set(os.listdir("/proc/self/fd")) <= before
    assert children_of_this_process() == children


class TestRun:
    def test_what_it_prints_is_returned(self, script: Script) -> None:
        assert run([script("printf 'a\\nb'")]) == b"a\nb"

    def test_stdin_of_2_mb_comes_back_whole(self, script: Script) -> None:
        text = os.urandom(1024 * 1024).hex().encode()
        assert run([script("exec cat")], stdin=text) == text

    def test_stdin_that_nobody_reads_is_no_error(self, script: Script) -> None:
        assert run([script("exec 0<&-; sleep 0.1; echo done")], stdin=b"x" * 2_000_000) == b"done\n"

    def test_no_stdin_is_end_of_file(self, script: Script) -> None:
        assert run([script("exec cat")]) == b""

    def test_none_as_a_path_is_missing(self) -> None:
        with pytest.raises(ToolMissing, match=r"^wg is not installed\.$"):
            run([None, "genkey"], command="wg")

    def test_a_file_that_went_away_is_missing(self, tmp_path: Path) -> None:
        with pytest.raises(ToolMissing, match=r"^wg is not installed\.$"):
            run([str(tmp_path / "wg")])

    def test_a_file_without_the_execute_bit_is_forbidden(self, tmp_path: Path) -> None:
        path = tmp_path / "wg"
        path.write_text("#!/bin/sh\n")
        path.chmod(0o644)
        with pytest.raises(ToolForbidden, match=r"^wg was not permitted \(it needs CAP_NET_ADMIN\)\.$"):
            run([str(path)])

    @pytest.mark.parametrize("words", ["Operation not permitted", "Permission denied"])
    def test_a_refusal_for_lack_of_rights_is_forbidden(self, script: Script, words: str) -> None:
        with pytest.raises(ToolForbidden):
            run([script(f"echo 'Unable to access interface: {words}' >&2; exit 1")])

    def test_a_hanging_one_is_killed_in_time(self, script: Script) -> None:
        start = time.monotonic()
        with pytest.raises(ToolTimedOut, match=r"^wg did not answer within 0\.2 s\.$"):
            run([script("exec sleep 60")], timeout_s=0.2)
        assert time.monotonic() - start < 2

    def test_a_hanging_one_that_ignores_signals_is_killed_in_time(self, script: Script) -> None:
        start = time.monotonic()
        with pytest.raises(ToolTimedOut):
            run([script("trap '' TERM INT HUP; while :; do :; done")], timeout_s=0.2)
        assert time.monotonic() - start < 2

    def test_a_hanging_one_that_reads_no_stdin_is_killed_in_time(self, script: Script) -> None:
        with pytest.raises(ToolTimedOut):
            run([script("exec sleep 60")], stdin=b"x" * 2_000_000, timeout_s=0.2)

    def test_one_that_closed_its_output_is_still_waited_for(self, script: Script) -> None:
        with pytest.raises(ToolRefused, match=r"^wg refused: exit code 3$"):
            run([script("exec >&- 2>&-; sleep 0.1; exit 3")])

    def test_a_grandchild_that_keeps_the_output_open_is_not_waited_for(self, script: Script) -> None:
        start = time.monotonic()
        assert run([script("sleep 3 &\necho done")], timeout_s=2) == b"done\n"
        assert time.monotonic() - start < 1

    def test_more_than_16_mib_is_refused_in_bounded_memory(self, script: Script) -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(ToolRefused, match=r"^wg refused: it printed more than 16 MiB$"):
            run([script("exec head -c 100000000 /dev/zero")])
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024

    def test_a_crash_is_a_refusal(self, script: Script) -> None:
        with pytest.raises(ToolRefused, match=r"^wg refused: exit code -11$"):
            run([script("kill -SEGV $$")])

    def test_a_file_that_is_no_program_is_an_error_of_ours(self, tmp_path: Path) -> None:
        path = tmp_path / "wg"
        path.write_bytes(b"\x7fELF nonsense")
        path.chmod(0o755)
        with pytest.raises((ToolMissing, ToolRefused)):
            run([str(path)])

    def test_it_works_when_a_thousand_files_are_open(self, script: Script) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
        held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
        try:
            assert run([script("echo done")]) == b"done\n"
        finally:
            for fd in held:
                os.close(fd)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def test_the_environment_is_only_path_and_locale(self, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ENCRYPTION_KEY", PRIVATE)
        monkeypatch.setenv("LD_PRELOAD_NOT", "x")
        words = run([script("tr '\\0' '\\n' < /proc/$$/environ")]).decode().split("\n")
        names = {word.split("=")[0] for word in words if word}
        assert names - {"PWD", "_", "OLDPWD", "SHLVL"} == {"PATH", "LC_ALL"}

    def test_no_file_of_ours_is_open_in_the_child(self, script: Script, tmp_path: Path) -> None:
        with open(tmp_path / "secret", "w") as file:
            os.set_inheritable(file.fileno(), False)
            links = run([script("exec ls -l /proc/self/fd")]).decode()
        assert "secret" not in links
        assert "pipe" in links

    def test_detached_it_has_a_session_of_its_own_and_no_output(self, script: Script, tmp_path: Path) -> None:
        path = tmp_path / "sid"
        assert run([script(f"cut -d' ' -f6 /proc/$$/stat > {path}; echo noise")], detach=True) == b""
        assert int(path.read_text()) != os.getsid(0)


class TestScrub:
    def test_a_key_in_stderr_reaches_no_message(self, script: Script) -> None:
        with pytest.raises(ToolRefused) as caught:
            run([script(f'echo "Key is not the correct length or format: \\`{PRIVATE}\'" >&2; exit 1')])
        assert str(caught.value) == "wg refused: Key is not the correct length or format: `(key)'"

    @pytest.mark.parametrize(
        ("output", "text"),
        [
            (b"", ""),
            (b"one\n\ntwo\nthree\nfour\n", "two / three / four"),
            (b"private_key=" + b"ab" * 32, "private_key=(key)"),
            (PRIVATE.encode() + PUBLIC.encode(), "(key)(key)"),
            (b"bell \x07 escape \x1b[31m caf\xc3\xa9", "bell ? escape ?[31m caf?"),
            (b"x" * 1000, "x" * 300),
        ],
    )
    def test_output_is_made_fit_for_a_log(self, output: bytes, text: str) -> None:
        assert scrub(output) == text

    @given(before=st.integers(3900, 4100), after=st.integers(0, 4100))
    def test_no_half_key_slips_past_the_cut(self, before: int, after: int) -> None:
        text = scrub(b" " * before + PRIVATE.encode() + b" " * after)
        assert not any(PRIVATE[at : at + 8] in text for at in range(len(PRIVATE) - 8))


def words_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


class TestKeyMaker:
    """``wg`` first; when it does not work, in process and with a warning."""

    @pytest.fixture
    def real(self) -> str:
        path = shutil.which("wg")
        if path is None:
            pytest.skip("needs wg")
        return path

    def test_wg_and_this_process_agree_on_the_public_key(self, real: str) -> None:
        for _ in range(5):
            pair = wg.generate_key_pair(real)
            assert wg.public_key_of(pair.private) == pair.public
            own = wg.generate_key_pair_in_process()
            printed = run([real, "pubkey"], stdin=own.private.to_base64().encode() + b"\n")
            assert printed.decode().strip() == str(own.public)

    def test_keys_made_in_process_are_clamped_as_wg_does(self) -> None:
        for _ in range(50):
            raw = wg.generate_key_pair_in_process().private.raw
            assert (raw[0] & 7, raw[31] & 0x80, raw[31] & 0x40) == (0, 0, 0x40)

    def test_the_private_key_goes_by_stdin_only(self, script: Script, tmp_path: Path) -> None:
        seen = tmp_path / "seen"
        command = script(
            f"""
            tr '\\0' '\\n' < /proc/$$/cmdline >> {seen}
            tr '\\0' '\\n' < /proc/$$/environ >> {seen}
            if [ "$1" = genkey ]; then echo {PRIVATE}; else cat > {tmp_path}/stdin; echo {PUBLIC}; fi
            """
        )
        pair = wg.generate_key_pair(command)
        assert (pair.private.to_base64(), str(pair.public)) == (PRIVATE, PUBLIC)
        assert words_of(tmp_path / "stdin") == [PRIVATE]
        assert {"genkey", "pubkey"} <= set(words_of(seen))
        assert PRIVATE not in seen.read_text()

    @pytest.mark.parametrize(
        ("text", "warning"),
        [
            ("echo garbage", "wg refused: it did not print a key"),
            ("printf '\\377\\376'", "wg refused: it did not print a key"),
            ("exit 0", "wg refused: it did not print a key"),
            (
                f'[ "$1" = genkey ] && echo {PRIVATE} || echo {OTHER}',
                "wg refused: its two keys do not belong together",
            ),
            (f'[ "$1" = genkey ] && echo {PRIVATE} || exit 7', "wg refused: exit code 7"),
            (f"echo {PRIVATE} >&2; exit 1", "wg refused: (key)"),
        ],
    )
    def test_a_lying_wg_is_passed_over_and_logged(
        self, script: Script, caplog: pytest.LogCaptureFixture, text: str, warning: str
    ) -> None:
        pair = KeyMaker(Tools(wg=script(text))).generate_key_pair()
        assert wg.public_key_of(pair.private) == pair.public
        assert pair.private.to_base64() != PRIVATE
        assert caplog.messages == [f"keys are made in process: {warning}"]

    def test_a_hanging_wg_is_waited_for_once_and_then_rests(
        self, script: Script, caplog: pytest.LogCaptureFixture, tmp_path: Path
    ) -> None:
        maker = KeyMaker(Tools(wg=script(f"echo called >> {tmp_path}/calls; exec sleep 60")))
        start = time.monotonic()
        keys = {str(maker.generate_key_pair().public) for _ in range(20)}
        assert len(keys) == 20
        assert time.monotonic() - start < 3
        assert words_of(tmp_path / "calls") == ["called"]
        assert caplog.messages == ["keys are made in process: wg did not answer within 1 s."]

    def test_without_wg_keys_are_made_in_process_without_a_word(self, caplog: pytest.LogCaptureFixture) -> None:
        pair = KeyMaker(Tools()).generate_key_pair()
        assert wg.public_key_of(pair.private) == pair.public
        assert caplog.messages == []

    def test_awg_makes_keys_where_there_is_no_wg(self, script: Script) -> None:
        command = script(f'[ "$1" = genkey ] && echo {PRIVATE} || echo {PUBLIC}', "awg")
        assert str(KeyMaker(Tools(awg=command)).generate_key_pair().public) == PUBLIC


class TestTools:
    def test_commands_are_found_once_by_their_absolute_path(self, script: Script, tmp_path: Path) -> None:
        for name in ("wg", "awg", "wireguard-go", "amneziawg-go", "ip", "nft"):
            script("", name)
        folder = str(tmp_path)
        assert Tools.find(folder) == Tools(
            *(f"{folder}/{name}" for name in ("wg", "awg", "wireguard-go", "amneziawg-go", "ip", "nft"))
        )

    def test_nothing_is_found_where_nothing_is(self, tmp_path: Path) -> None:
        assert Tools.find(str(tmp_path)) == Tools()

    @pytest.mark.parametrize("path", ["", ".", "bin:", ":/nonexistent"])
    def test_the_current_folder_is_never_searched(
        self, script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
    ) -> None:
        (tmp_path / "bin").mkdir()
        script("", "awg")
        script("", "bin/awg")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("PATH", path)
        found = Tools.find().awg
        assert found is None or not found.startswith(str(tmp_path))


FIRST = [PRIVATE, PUBLIC, "51820"]
GENERATIONS = {
    "wg": ["off"],
    "1.0": ["4", "10", "50", "20", "30", "1", "2", "3", "4", "off"],
    "1.5": [
        *("4", "10", "50", "20", "30", "1", "2", "3", "4"),
        *("<r 2><b 0x85>", *["(null)"] * 4, *["(null)"] * 3, "0", "off"),
    ],
    "2.0": [
        *("4", "10", "50", "20", "30", "40", "0", "5-9", "10-20", "21", "30-40"),
        *("<r 2><b 0x85 00>", *["(null)"] * 4, "0x1"),
    ],
    "3.0": [
        *("4", "10", "50", "20", "30", "40", "12", "1", "2", "3", "4", *["(null)"] * 5),
        *(OTHER, "10-100", "100-120", "3-7", "150-180", "5-15", "15-20", "off"),
    ],
    "3.1": [
        *("4", "10", "50", "20", "30", "40", "12", "1", "2", "3", "4", *["(null)"] * 5),
        *("(none)", "10-100", "100-120", "3-7", "150-180", "5-15", "15-20", "on", "on", "off"),
    ],
}
COLUMNS = {"wg": 4, "1.0": 13, "1.5": 22, "2.0": 20, "3.0": 27, "3.1": 29}
QUIET = [OTHER, "(none)", "(none)", "(none)", "0", "0", "0", "off"]
BUSY = [PUBLIC, PRIVATE, "[2001:db8::1]:4000", "10.8.0.2/32,fd00::2/128", "1767225600", "148", "92", "25-35"]


def dump(*lines: list[str]) -> str:
    return "".join("\t".join(line) + "\n" for line in lines)


class TestParseDump:
    @pytest.mark.parametrize("generation", GENERATIONS)
    def test_every_generation_of_the_tools_is_read(self, generation: str) -> None:
        head = FIRST + GENERATIONS[generation]
        assert len(head) == COLUMNS[generation]
        assert parse_dump(dump(head, QUIET, BUSY), "awg") == InterfaceState(
            PublicKey.from_base64(PUBLIC),
            51820,
            {
                OTHER: PeerState("", "", "", 0, 0, 0),
                PUBLIC: PeerState(
                    PRIVATE, "[2001:db8::1]:4000", "10.8.0.2/32,fd00::2/128", 1767225600, rx_bytes=148, tx_bytes=92
                ),
            },
        )

    def test_an_interface_without_a_key_has_no_public_key(self) -> None:
        assert parse_dump(dump(["(none)", "(none)", "0", "off"]), "wg") == InterfaceState(None, 0, {})

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "\n",
            "interface: wg0\n  public key: ...\n",
            dump(FIRST),
            dump([PRIVATE, "garbage", "51820", "off"]),
            dump([PRIVATE, PUBLIC, "port", "off"]),
            dump([*FIRST, "off"], QUIET[:7]),
            dump([*FIRST, "off"], [*QUIET, "more"]),
            dump([*FIRST, "off"], [*QUIET[:4], "never", "0", "0", "off"]),
            dump([PRIVATE, PUBLIC, "65536", "off"]),
            dump([*FIRST, "off"], [*QUIET[:4], "-5", "0", "0", "off"]),
            dump([*FIRST, "off"], [*QUIET[:4], "9" * 19, "0", "0", "off"]),
            dump([*FIRST, "off"], [*QUIET[:4], "0", "9" * 30, "0", "off"]),
            dump([*FIRST, "off"], [*QUIET[:4], "0", "0", "9" * 30, "off"]),
        ],
        ids=range(14),
    )
    def test_what_is_no_dump_is_refused_without_quoting_it(self, text: str) -> None:
        with pytest.raises(ToolRefused) as caught:
            parse_dump(text, "wg")
        assert str(caught.value) == "wg refused: its output cannot be understood"
        assert caught.value.__cause__ is None

    @given(st.text(max_size=300))
    def test_any_text_is_either_read_or_refused(self, text: str) -> None:
        with suppress(ToolRefused):
            parse_dump(text, "wg")

    def test_no_key_stands_in_the_representation(self) -> None:
        state = parse_dump(dump([*FIRST, "off"], BUSY), "wg")
        assert PRIVATE not in repr(state)


def test_the_constants_of_these_tests_are_a_pair() -> None:
    private = wg.PrivateKey.from_base64(PRIVATE)
    assert str(wg.public_key_of(private)) == PUBLIC
    assert base64.b64encode(private.raw).decode() == PRIVATE
