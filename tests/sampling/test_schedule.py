"""Stopping by index, nothing wasted, pass rates without bias."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from distill.sampling.schedule import Race, StoppingRule, pass_rate

rules = st.integers(1, 12).flatmap(
    lambda n: st.builds(
        StoppingRule, samples=st.just(n), stop_at=st.integers(1, n), give_up=st.none() | st.integers(1, n + 2)
    )
)


def play(
    rule: StoppingRule, outcomes: list[bool], rng: random.Random, slots: int = 99, speculate: bool = False
) -> Race:
    """Run a race whose samples finish in any order."""
    race, flying = Race(rule), set[int]()
    while not race.ended:
        for _ in range(min(race.samples_to_start(speculate), slots - len(flying))):
            flying.add(race.launched)
            race.launched += 1
        sample = rng.choice(sorted(flying))
        flying.discard(sample)
        race.add_outcome(sample, outcomes[sample])
    return race


@given(rule=rules, bits=st.lists(st.booleans(), min_size=12, max_size=12), seed=st.integers())
def test_the_end_does_not_depend_on_who_finishes_first(rule: StoppingRule, bits: list[bool], seed: int) -> None:
    in_order = play(rule, bits, random.Random(0), slots=1)
    for speculate in (False, True):
        race = play(rule, bits, random.Random(seed), speculate=speculate)
        assert (race.counted, race.correct) == (in_order.counted, in_order.correct)
    assert race.launched <= rule.samples


@given(rule=rules, bits=st.lists(st.booleans(), min_size=12, max_size=12), seed=st.integers())
def test_without_speculation_every_sample_counts(rule: StoppingRule, bits: list[bool], seed: int) -> None:
    race = play(rule, bits, random.Random(seed))
    assert race.launched == race.counted
    assert not race.early_outcomes


@given(rule=rules, p=st.fractions(0, 1, max_denominator=50))
def test_the_estimate_is_unbiased_for_every_rule_and_rate(rule: StoppingRule, p: Fraction) -> None:
    """Exactly: the sum over all ends of probability times estimate is p itself."""
    expected, total = Fraction(0), Fraction(0)
    states = {(0, 0): Fraction(1)}
    while states:
        after: dict[tuple[int, int], Fraction] = {}
        for (right, seen), chance in states.items():
            if rule.ends(right, seen):
                total += chance
                expected += chance * pass_rate(rule, right, seen)
                continue
            for more, share in ((1, p), (0, 1 - p)):
                at = (right + more, seen + 1)
                after[at] = after.get(at, Fraction(0)) + chance * share
        states = after
    assert total == 1
    assert expected == p


def test_known_cases() -> None:
    assert pass_rate(StoppingRule(samples=8), 3, 8) == Fraction(3, 8), "a fixed number of samples: the share"
    far = StoppingRule(samples=100, stop_at=4)
    assert pass_rate(far, 4, 10) == Fraction(3, 9), "without cap or giving up: (k - 1)/(N - 1)"
    near = StoppingRule(samples=16, stop_at=4, give_up=8)
    assert pass_rate(near, 0, 8) == 0
    assert pass_rate(near, 2, 16) > Fraction(2, 16), "those that gave up would have had few as well"
    with pytest.raises(ValueError, match="is no end"):
        pass_rate(near, 2, 9)


def test_impossible_rules_are_refused() -> None:
    for wrong in ({"samples": 2, "stop_at": 3}, {"samples": 4, "give_up": 2}):
        with pytest.raises(ValidationError):
            StoppingRule.model_validate(wrong)


def test_all_samples_at_once_when_nothing_stops_early() -> None:
    race = Race(StoppingRule(samples=5))
    assert race.samples_to_start() == 5


def test_a_resumed_race_knows_its_outcomes() -> None:
    race = Race(StoppingRule(samples=16, stop_at=4, give_up=8))
    for sample, correct in ((3, True), (0, True), (1, False)):
        race.add_outcome(sample, correct)
    assert (race.counted, race.correct, race.launched) == (2, 1, 4)
    assert race.in_flight == 1, "sample 2 was lost with the crash: the loop asks for it again"
