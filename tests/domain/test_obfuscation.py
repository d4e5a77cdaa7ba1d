"""The table of parameters, the spelling of single values, and the set of them."""

from __future__ import annotations

import copy
import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapp.domain.obfuscation import GENERATIONS, PARAMETERS, Obfuscation, default_mtu, find_parameter
from webapp.errors import InvalidFields

FIRST_GENERATION = {
    "Jc": "4",
    "Jmin": "10",
    "Jmax": "50",
    "S1": "15",
    "S2": "30",
    "H1": "1234567891",
    "H2": "1234567892",
    "H3": "1234567893",
    "H4": "1234567894",
}
SECOND_GENERATION = {
    "S1": "20",
    "S2": "35",
    "S3": "9",
    "S4": "7",
    "H1": "100000-200000",
    "H2": "300000-400000",
    "H3": "500000-600000",
    "H4": "700000-800000",
    "I1": "<r 2><b 0x0100>",
}
PROTECTION_KEY = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="


def problems_of(given: dict[str, str]) -> list[tuple[str, str]]:
    with pytest.raises(InvalidFields) as refused:
        Obfuscation.parse(given)
    return [(problem.field, str(problem)) for problem in refused.value.problems]


def test_the_table_has_every_parameter_in_the_order_of_a_file() -> None:
    assert [parameter.name for parameter in PARAMETERS] == [
        *("Jc", "Jmin", "Jmax", "S1", "S2", "S3", "S4", "H1", "H2", "H3", "H4", "I1", "I2", "I3", "I4", "I5"),
        *("HeaderProtectionKey", "ContentPaddingAddition", "RekeyAfterTime", "RekeyTimeout"),
        *("RejectAfterTime", "KeepaliveTimeout", "MaxHandshakeAttempts", "RandomTrailers", "DisableCookies"),
    ]


@pytest.mark.parametrize(
    ("name", "uapi", "environment"),
    [
        ("Jc", "jc", "AWG_JC"),
        ("Jmin", "jmin", "AWG_JMIN"),
        ("S4", "s4", "AWG_S4"),
        ("H1", "h1", "AWG_H1"),
        ("I5", "i5", "AWG_I5"),
        ("HeaderProtectionKey", "header_protection_key", "AWG_HEADER_PROTECTION_KEY"),
        ("MaxHandshakeAttempts", "max_handshake_attempts", "AWG_MAX_HANDSHAKE_ATTEMPTS"),
        ("RandomTrailers", "random_trailers", "AWG_RANDOM_TRAILERS"),
    ],
)
def test_one_name_gives_the_daemons_key_and_the_variable(name: str, uapi: str, environment: str) -> None:
    parameter = find_parameter(name.upper())
    assert parameter is not None
    assert (parameter.name, parameter.uapi, parameter.environment) == (name, uapi, environment)


def test_both_ends_must_agree_on_sizes_types_key_and_trailers_only() -> None:
    assert {parameter.name for parameter in PARAMETERS if parameter.must_match} == {
        *("S1", "S2", "S3", "S4", "H1", "H2", "H3", "H4", "HeaderProtectionKey", "RandomTrailers")
    }


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda parameter: parameter.name)
def test_a_row_is_complete(parameter) -> None:
    assert parameter.generation in GENERATIONS
    assert parameter.help.endswith(".")
    assert parameter.lowest < parameter.highest
    if parameter.default not in {"", "0"}:
        assert parameter.canonical(parameter.default) == parameter.default


@pytest.mark.parametrize(
    ("name", "text", "canonical"),
    [
        ("Jc", "1", "1"),
        ("Jc", "128", "128"),
        ("Jmin", "0040", "40"),
        ("S1", "0", "0"),
        ("S1", "65535", "65535"),
        ("H1", "1", "1"),
        ("H1", "2147483647", "2147483647"),
        ("H1", "100 - 200", "100-200"),
        ("H1", "0100-0200", "100-200"),
        ("H1", "100-100", "100"),
        ("RekeyAfterTime", "100-120", "100-120"),
        ("ContentPaddingAddition", "0", "0"),
        ("I1", "<b 0xC0FFee>", "<b 0xc0ffee>"),
        ("I1", "<r 1><rc 1000><rd 007><t>", "<r 1><rc 1000><rd 7><t>"),
        ("HeaderProtectionKey", PROTECTION_KEY, PROTECTION_KEY),
        ("RandomTrailers", "TRUE", "on"),
        ("RandomTrailers", "1", "on"),
        ("RandomTrailers", "on", "on"),
        ("RandomTrailers", "0", "off"),
        ("RandomTrailers", "false", "off"),
        ("RandomTrailers", "Off", "off"),
    ],
)
def test_a_value_has_one_spelling(name: str, text: str, canonical: str) -> None:
    parameter = find_parameter(name)
    assert parameter is not None
    assert parameter.canonical(text) == canonical
    assert parameter.canonical(canonical) == canonical


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("Jc", text) for text in ("0", "129", "-1", "+4", "4.0", "4 5", "0x4", "four", "٤", "9" * 5000)),
        *(("S1", text) for text in ("65536", "1\n", "\t1", "1\x00", "1\u2028", "1-2")),
        *(("H1", text) for text in ("0", "2147483648", "200-100", "5-", "-5", "1-2-3", "1–2", "0-9", "1-\n2")),
        *(("RekeyTimeout", text) for text in ("0", "7-3", "off", "65536")),
        *(("I1", text) for text in ("none", "<r -5>", "<r 0>", "<r 1001>", "<r x>", "<r>", "<r  2>", "< r 2>")),
        *(("I1", text) for text in ("<b 0x>", "<b 0xabc>", "<b abcd>", "<b 0xzz>", "<B 0xab>", "<t 5>", "<c>")),
        *(("I1", text) for text in ("<wt 5>", "<d>", "<r 2> <t>", "<r 2>x", "x<r 2>", "<r 2", "<r 2>\n[Peer]")),
        *(("HeaderProtectionKey", text) for text in ("A" * 44, "x", PROTECTION_KEY[:-2] + "B=", "01" * 32)),
        *(("RandomTrailers", text) for text in ("yes", "2", "on off")),
    ],
)
def test_what_the_grammar_does_not_know_is_refused_at_its_name(name: str, text: str) -> None:
    ((field, sentence),) = problems_of({name: text})
    assert field == name
    assert sentence.startswith(f"{name} must be ")


def test_a_refused_value_is_never_quoted() -> None:
    secret = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I"
    with pytest.raises(InvalidFields) as refused:
        Obfuscation.parse({"HeaderProtectionKey": secret})
    assert secret not in repr(refused.value.problems)


def test_all_problems_come_at_once() -> None:
    assert problems_of({"Jc": "0", "Jd": "1", "h1": "9-5", "s2": "1", "S2": "2"}) == [
        ("Jc", "Jc must be a whole number from 1 to 128."),
        ("Jd", "This is not a parameter of AmneziaWG."),
        (
            "H1",
            "H1 must be a number or a range such as 100-200, smaller end first, from 1 to 2147483647.",
        ),
        ("S2", "S2 is set twice."),
    ]


@pytest.mark.parametrize("name", ["J1", "J2", "J3", "Itime"])
def test_words_that_the_protocol_dropped_are_unknown(name: str) -> None:
    assert problems_of({name: "1"}) == [(name, "This is not a parameter of AmneziaWG.")]


def test_the_empty_set_is_plain_wireguard() -> None:
    plain = Obfuscation()
    assert (dict(plain), plain.lines(), plain.generation, plain.problems()) == ({}, [], "plain", ())
    assert not plain
    assert plain == Obfuscation.parse({"I2": "", "Jc": "  ", "RandomTrailers": "off"})


def test_lines_are_those_of_a_file_in_its_order() -> None:
    backwards = dict(reversed(FIRST_GENERATION.items()))
    assert Obfuscation.parse({name.upper(): text for name, text in backwards.items()}).lines() == [
        "Jc = 4",
        "Jmin = 10",
        "Jmax = 50",
        "S1 = 15",
        "S2 = 30",
        "H1 = 1234567891",
        "H2 = 1234567892",
        "H3 = 1234567893",
        "H4 = 1234567894",
    ]


@pytest.mark.parametrize(
    ("texts", "generation"),
    [
        ({}, "plain"),
        (FIRST_GENERATION, "1.0"),
        ({"S1": "0"}, "1.0"),
        (FIRST_GENERATION | {"I1": "<t>"}, "1.5"),
        (FIRST_GENERATION | {"S3": "9"}, "2.0"),
        (FIRST_GENERATION | {"S4": "9"}, "2.0"),
        (FIRST_GENERATION | {"H4": "5-9"}, "2.0"),
        (SECOND_GENERATION, "2.0"),
        ({"RekeyTimeout": "3-7", "I1": "<t>"}, "3.0"),
        ({"DisableCookies": "on"}, "3.1"),
        ({"DisableCookies": "off", "Jc": "1", "Jmin": "1", "Jmax": "1"}, "1.0"),
    ],
)
def test_the_generation_is_the_oldest_that_carries_all(texts: dict[str, str], generation: str) -> None:
    assert Obfuscation.parse(texts).generation == generation


def test_what_is_not_set_has_the_daemons_default() -> None:
    plain = Obfuscation()
    assert (plain.number("S4"), plain.number("Jc")) == (0, 0)
    assert [plain.span(name) for name in ("H1", "H4", "RekeyAfterTime")] == [(1, 1), (4, 4), (120, 120)]
    assert (plain.value("I1"), plain.value("RandomTrailers")) == ("", "off")
    assert Obfuscation.parse(SECOND_GENERATION).span("H1") == (100000, 200000)
    assert Obfuscation.parse(SECOND_GENERATION).number("S1") == 20


def test_a_set_is_a_value() -> None:
    one, same = (
        Obfuscation.parse(FIRST_GENERATION),
        Obfuscation.parse({"s1": "015"} | FIRST_GENERATION | {"S1": ""}),
    )
    assert one == Obfuscation.parse(FIRST_GENERATION)
    assert hash(one) == hash(Obfuscation.parse(FIRST_GENERATION))
    assert one == same
    assert one != Obfuscation()
    assert copy.deepcopy(one) == one
    with pytest.raises(AttributeError):
        one._texts = {}  # type: ignore[misc]
    with pytest.raises(TypeError):
        one["Jc"] = "5"  # type: ignore[index]


def test_what_to_dict_gave_is_a_copy() -> None:
    one = Obfuscation.parse(FIRST_GENERATION)
    one.to_dict()["Jc"] = "99"
    assert one["Jc"] == "4"


def test_printing_a_set_does_not_show_its_key() -> None:
    texts = {"S1": "12", "S2": "13", "S3": "14", "S4": "15", "HeaderProtectionKey": PROTECTION_KEY}
    shown = f"{Obfuscation.parse(texts)!r} {Obfuscation.parse(texts)}"
    assert PROTECTION_KEY not in shown
    assert repr(Obfuscation.parse(texts)) == "<Obfuscation 3.0: S1, S2, S3, S4, HeaderProtectionKey>"


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ({"Jc": "9", "Jmin": "1", "Jmax": "2"}, True),
        ({"I1": "<t>", "RekeyTimeout": "9", "DisableCookies": "on", "ContentPaddingAddition": "9"}, True),
        ({"H4": "700000-800001"}, False),
        *(({name: "50"}, False) for name in ("S1", "S2", "S3", "S4")),
        *(({name: "5"}, False) for name in ("H1", "H2", "H3", "H4")),
    ],
)
def test_ends_understand_each_other_if_what_must_match_does(other: dict[str, str], same: bool) -> None:
    ours, theirs = Obfuscation.parse(SECOND_GENERATION), Obfuscation.parse(SECOND_GENERATION | other)
    assert ours.same_on_the_wire(theirs) is same
    assert theirs.same_on_the_wire(ours) is same


def test_an_unset_parameter_matches_its_default_written_out() -> None:
    written = {"S1": "0", "S4": "0", "H1": "1", "H2": "2", "H3": "3", "H4": "4"}
    assert Obfuscation.parse(written).same_on_the_wire(Obfuscation())
    assert not Obfuscation.parse({"RandomTrailers": "on"}).same_on_the_wire(Obfuscation())


@pytest.mark.parametrize(("s4", "mtu"), [("0", 1420), ("7", 1413), ("12", 1408), ("140", 1280)])
def test_the_mtu_leaves_room_for_s4(s4: str, mtu: int) -> None:
    chosen = Obfuscation.parse({"S4": s4})
    assert default_mtu(chosen) == mtu
    assert chosen.problems(mtu=mtu) == ()


def test_without_obfuscation_the_mtu_is_that_of_wg_quick() -> None:
    assert default_mtu(Obfuscation()) == 1420


def test_no_variable_is_no_set() -> None:
    assert Obfuscation.from_environment({}) is None
    assert Obfuscation.from_environment({"PATH": "/bin", "WG_MTU": "1280", "AWG_JC": "", "AWG_I1": " "}) is None


def test_the_environment_is_exactly_the_set() -> None:
    environ = {
        "HOME": "/root",
        "AWG_JC": "4",
        "AWG_JMIN": "10",
        "AWG_JMAX": "50",
        "AWG_S1": "20",
        "AWG_I1": "<r 2>",
        "AWG_I2": "",
        "AWG_RANDOM_TRAILERS": "true",
    }
    made = Obfuscation.from_environment(environ)
    assert made is not None
    assert made.to_dict() == {
        "Jc": "4",
        "Jmin": "10",
        "Jmax": "50",
        "S1": "20",
        "I1": "<r 2>",
        "RandomTrailers": "on",
    }


def test_a_switch_that_is_off_asks_for_plain_wireguard() -> None:
    assert Obfuscation.from_environment({"AWG_RANDOM_TRAILERS": "off"}) == Obfuscation()


def test_problems_of_the_environment_stand_at_the_variables() -> None:
    with pytest.raises(InvalidFields) as refused:
        Obfuscation.from_environment({"AWG_S5": "1", "awg_jc": "x", "AWG_RANDOM_TRAILERS": "maybe"})
    assert [(problem.field, str(problem)) for problem in refused.value.problems] == [
        ("AWG_S5", "This is not a parameter of AmneziaWG."),
        ("AWG_RANDOM_TRAILERS", "RandomTrailers must be on or off."),
    ]
    with pytest.raises(InvalidFields) as refused:
        Obfuscation.from_environment({"AWG_JC": "4", "AWG_JMIN": "50"})
    assert [(problem.field, str(problem)) for problem in refused.value.problems] == [
        ("AWG_JMAX", "Jmax is missing: set Jc, Jmin and Jmax together, or none of them.")
    ]


def test_an_unknown_variable_is_a_problem_even_without_a_value() -> None:
    with pytest.raises(InvalidFields):
        Obfuscation.from_environment({"AWG_JCC": ""})


tags = st.one_of(
    st.binary(min_size=1, max_size=40).map(lambda raw: f"<b 0x{raw.hex().upper()}>"),
    st.builds("<{} {}>".format, st.sampled_from(["r", "rc", "rd"]), st.integers(1, 60)),
    st.just("<t>"),
)
packets = st.lists(tags, min_size=1, max_size=6).map("".join)
header_sets = st.lists(st.integers(5, 2**31 - 1), min_size=8, max_size=8, unique=True).map(
    lambda ends: dict(
        zip(
            ("H1", "H2", "H3", "H4"),
            (f"{low}-{high}" for low, high in zip(*[iter(sorted(ends))] * 2, strict=True)),
            strict=True,
        )
    )
)


@given(
    headers=st.one_of(st.just({}), header_sets),
    junk=st.one_of(
        st.just({}),
        st.builds(
            lambda count, low, more: {"Jc": str(count), "Jmin": str(low), "Jmax": str(low + more)},
            st.integers(1, 128),
            st.integers(1, 700),
            st.integers(0, 700),
        ),
    ),
    decoys=st.lists(packets, max_size=5),
    s4=st.integers(0, 20),
    cookies=st.sampled_from(["on", "off", ""]),
)
def test_what_was_stored_is_what_was_meant(headers, junk, decoys, s4, cookies) -> None:
    texts = headers | junk | {"S4": str(s4), "DisableCookies": cookies}
    texts |= {f"I{index}": text for index, text in enumerate(decoys, start=1)}
    made = Obfuscation.parse(texts)
    assert Obfuscation.from_dict(json.loads(json.dumps(made.to_dict()))) == made
    assert Obfuscation.parse(dict(line.split(" = ", 1) for line in made.lines())) == made
    by_variable = {parameter.environment: made[parameter.name] for parameter in PARAMETERS if parameter.name in made}
    assert Obfuscation.from_environment(by_variable) == made


@given(
    st.dictionaries(
        st.sampled_from([parameter.name for parameter in PARAMETERS]) | st.text(max_size=8),
        st.text(max_size=40),
    )
)
def test_any_text_is_refused_or_stays_on_its_line(given) -> None:
    with suppress(InvalidFields):
        made = Obfuscation.parse(given)
        assert all(line.isascii() and line.isprintable() for line in made.lines())
