"""What parameters may not be together: each rule trips alone, and its edge does not."""

from __future__ import annotations

import pytest

from webapp.domain.obfuscation import Obfuscation
from webapp.errors import InvalidFields

KEY = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="
PROTECTED = {"S1": "12", "S2": "13", "S3": "14", "S4": "12", "HeaderProtectionKey": KEY}
JUNK = {"Jc": "4", "Jmin": "10", "Jmax": "50"}
TOGETHER = "set Jc, Jmin and Jmax together, or none of them."


@pytest.mark.parametrize(
    "texts",
    [
        {},
        JUNK,
        JUNK | {"Jmin": "50"},
        JUNK | {"Jmax": "1452"},
        {"S1": "1304"},
        {"S2": "1360"},
        {"S3": "1388"},
        {"S4": "140"},
        {"S1": "50", "S2": "105"},
        {"H1": "5-6", "H2": "7-8", "H3": "9-10", "H4": "11-12"},
        {"H1": "2", "H2": "1"},
        {"I1": "<t>", "I2": "<t>"},
        {"I1": "<r 1000><r 452>"},
        PROTECTED,
        PROTECTED | {"RandomTrailers": "on", "H4": "5-2147483647"},
        {"H1": "5-10"},
    ],
)
def test_the_edges_are_inside(texts: dict[str, str]) -> None:
    assert Obfuscation.parse(texts).problems() == ()


@pytest.mark.parametrize(
    ("texts", "field", "sentence"),
    [
        ({"Jmin": "10", "Jmax": "50"}, "Jc", f"Jc is missing: {TOGETHER}"),
        ({"Jc": "4", "Jmax": "50"}, "Jmin", f"Jmin is missing: {TOGETHER}"),
        ({"Jc": "4", "Jmin": "10"}, "Jmax", f"Jmax is missing: {TOGETHER}"),
        (JUNK | {"Jmin": "51"}, "Jmin", "Jmin is 51 and Jmax is 50: Jmin must not be larger."),
        (
            JUNK | {"Jmax": "1453"},
            "Jmax",
            "Jmax is 1453: a packet of more than 1452 bytes is split on its way.",
        ),
        ({"S1": "1305"}, "S1", "S1 is 1305: more than 1304 makes packets that are split on their way."),
        ({"S2": "1361"}, "S2", "S2 is 1361: more than 1360 makes packets that are split on their way."),
        ({"S3": "1389"}, "S3", "S3 is 1389: more than 1388 makes packets that are split on their way."),
        ({"S4": "141"}, "S4", "S4 is 141: more than 140 makes packets that are split on their way."),
        (
            {"S1": "50", "S2": "106"},
            "S2",
            "S1 = 50 and S2 = 106 make two kinds of packet equally long (198 bytes): change one of them.",
        ),
        (
            {"S3": "84"},
            "S3",
            "S1 = 0 and S3 = 84 make two kinds of packet equally long (148 bytes): change one of them.",
        ),
        (
            {"S4": "32"},
            "S4",
            "S3 = 0 and S4 = 32 make two kinds of packet equally long (64 bytes): change one of them.",
        ),
        ({"H1": "100-200", "H2": "200-300"}, "H2", "H1 (100-200) and H2 (200-300) must not overlap."),
        ({"H1": "100-200", "H4": "150"}, "H4", "H1 (100-200) and H4 (150) must not overlap."),
        ({"H1": "3"}, "H3", "H1 (3) and H3 (3) must not overlap."),
        (
            {"I2": "<t>"},
            "I1",
            "I1 is missing: I2 is set, and the packets must follow each other from I1.",
        ),
        (
            {"I1": "<t>", "I2": "<t>", "I4": "<t>"},
            "I3",
            "I3 is missing: I4 is set, and the packets must follow each other from I1.",
        ),
        (
            {"I1": "<r 1000><rd 448><t><b 0x00>"},
            "I1",
            "I1 makes 1453 bytes: more than 1452 are split on their way.",
        ),
        *(
            (
                PROTECTED | {name: "11"},
                name,
                f"{name} is 11: with HeaderProtectionKey it must be at least 12.",
            )
            for name in ("S1", "S2", "S3", "S4")
        ),
        (
            PROTECTED | {"RandomTrailers": "on", "H1": "5-6", "H3": "7-8"},
            "RandomTrailers",
            "RandomTrailers loses packets with a range in H1, H2 or H3 (H1 = 5-6, H3 = 7-8): use single numbers.",
        ),
    ],
)
def test_a_broken_rule_is_named_with_its_values(texts: dict[str, str], field: str, sentence: str) -> None:
    with pytest.raises(InvalidFields) as refused:
        Obfuscation.parse(texts)
    assert [(problem.field, str(problem)) for problem in refused.value.problems] == [(field, sentence)]


def test_all_broken_rules_come_at_once() -> None:
    with pytest.raises(InvalidFields) as refused:
        Obfuscation.parse({"Jc": "4", "H1": "2", "I3": "<t>", "HeaderProtectionKey": KEY})
    assert [problem.field for problem in refused.value.problems] == [
        *("Jmin", "Jmax", "H2", "I1", "I2", "S1", "S2", "S3", "S4")
    ]


@pytest.mark.parametrize(
    ("s4", "mtu", "sentence"),
    [
        ("0", 1421, "The MTU is 1421: with S4 = 0 it must be from 1280 to 1420."),
        ("12", 1409, "The MTU is 1409: with S4 = 12 it must be from 1280 to 1408."),
        ("12", 1279, "The MTU is 1279: with S4 = 12 it must be from 1280 to 1408."),
    ],
)
def test_the_mtu_has_room_for_s4_and_carries_ipv6(s4: str, mtu: int, sentence: str) -> None:
    problems = Obfuscation.parse({"S4": s4}).problems(mtu=mtu)
    assert [(problem.field, str(problem)) for problem in problems] == [("mtu", sentence)]


@pytest.mark.parametrize("mtu", [1280, 1376, 1408])
def test_any_mtu_that_fits_is_taken(mtu: int) -> None:
    assert Obfuscation.parse({"S4": "12"}).problems(mtu=mtu) == ()
