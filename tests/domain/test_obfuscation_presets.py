"""Generated sets: valid whatever the dice say, and alike in all that presets may not change."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webapp.domain.obfuscation import Obfuscation, default_mtu
from webapp.domain.obfuscation_presets import GENERATED, PRESETS, dns_query, generate

HEADERS = ("H1", "H2", "H3", "H4")
generations = st.sampled_from(GENERATED)
presets = st.sampled_from(sorted(PRESETS))


@given(generations, presets, st.integers())
def test_a_generated_set_is_valid_and_of_its_generation(generation: str, preset: str, seed: int) -> None:
    made = generate(generation, preset=preset, randbelow=Random(seed).randrange)
    assert made.problems(mtu=default_mtu(made)) == ()
    assert made.generation == generation
    assert Obfuscation.from_dict(made.to_dict()) == made


@pytest.mark.parametrize("generation", GENERATED)
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("randbelow", [lambda _: 0, lambda below: below - 1], ids=["lowest", "highest"])
def test_the_ends_of_the_dice_are_valid_too(generation: str, preset: str, randbelow: Callable[[int], int]) -> None:
    assert generate(generation, preset=preset, randbelow=randbelow).generation == generation


def test_plain_is_the_empty_set() -> None:
    assert generate("plain", randbelow=Random(1).randrange) == Obfuscation()


@pytest.mark.parametrize(
    ("generation", "names"),
    [
        ("1.0", "Jc Jmin Jmax S1 S2 H1 H2 H3 H4"),
        ("1.5", "Jc Jmin Jmax S1 S2 H1 H2 H3 H4 I1"),
        ("2.0", "Jc Jmin Jmax S1 S2 S3 S4 H1 H2 H3 H4 I1"),
        (
            "3.1",
            "Jc Jmin Jmax S1 S2 S3 S4 H1 H2 H3 H4 I1 HeaderProtectionKey ContentPaddingAddition "
            "RekeyAfterTime RekeyTimeout RejectAfterTime KeepaliveTimeout MaxHandshakeAttempts "
            "RandomTrailers DisableCookies",
        ),
    ],
)
def test_a_generation_sets_all_that_it_knows(generation: str, names: str) -> None:
    assert " ".join(generate(generation, randbelow=Random(1).randrange)) == names


@given(generations, st.integers())
def test_presets_differ_only_in_what_each_end_chooses_alone(generation: str, seed: int) -> None:
    balanced = generate(generation, preset="balanced", randbelow=Random(seed).randrange)
    for preset in PRESETS:
        other = generate(generation, preset=preset, randbelow=Random(seed).randrange)
        assert other.same_on_the_wire(balanced)
        changed = {name for name, _ in set(balanced.items()) ^ set(other.items())}
        assert changed <= {"Jc", "Jmin", "Jmax", "I1", "I2"}


@pytest.mark.parametrize("generation", [name for name in GENERATED if name != "plain"])
def test_two_servers_do_not_look_alike(generation: str) -> None:
    one, other = (generate(generation, randbelow=Random(seed).randrange) for seed in (1, 2))
    assert not one.same_on_the_wire(other)


@given(st.integers())
def test_header_ranges_ascend_without_touching(seed: int) -> None:
    made = generate("2.0", randbelow=Random(seed).randrange)
    spans = [made.span(name) for name in HEADERS]
    assert all(high < low for (_, high), (low, _) in pairwise(spans))
    assert all(2**16 <= high - low + 1 <= 2**24 for low, high in spans)
    assert 5 <= spans[0][0] <= spans[-1][1] <= 2147483647


@given(st.integers())
def test_the_third_generation_keeps_the_headers_of_wireguard(seed: int) -> None:
    made = generate("3.1", randbelow=Random(seed).randrange)
    assert [made[name] for name in HEADERS] == ["1", "2", "3", "4"]
    assert made["S4"] == "12"


def test_the_decoy_is_a_question_that_a_dns_server_understands() -> None:
    assert dns_query(lambda _: 0) == (
        "<r 2>"  # id
        "<b 0x"
        "0100"  # a query, recursion desired
        "0001000000000000"  # one question
        "0669636c6f756403636f6d00"  # icloud.com
        "00010001"  # type A, class IN
        ">"
    )


@pytest.mark.parametrize(("generation", "preset"), [("3.0", "balanced"), ("2", "balanced"), ("2.0", "fast")])
def test_an_unknown_generation_or_preset_is_a_mistake_of_the_caller(generation: str, preset: str) -> None:
    with pytest.raises(ValueError, match="no set is made"):
        generate(generation, preset=preset, randbelow=Random(1).randrange)
