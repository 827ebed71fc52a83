"""Rewards against the definitions of the papers."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.rewards import language, length, overlong

GROUP = st.lists(st.tuples(st.integers(1, 40_000), st.sampled_from([True, False, None])), min_size=2, max_size=16)


@given(GROUP)
def test_length_is_kimis_formula(group: list[tuple[int, bool | None]]) -> None:
    tokens, correct = [size for size, _ in group], [right for _, right in group]
    found = length.length_bonuses(tokens, correct)
    for size, right, value in zip(tokens, correct, found, strict=True):
        if right is None:
            assert value is None
            continue
        same = max(tokens) == min(tokens)
        exact = Fraction(0) if same else Fraction(1, 2) - Fraction(size - min(tokens), max(tokens) - min(tokens))
        assert value == pytest.approx(float(exact if right else min(Fraction(0), exact)))
        assert value is not None
        assert -0.5 <= value <= 0.5


@given(GROUP)
def test_among_correct_ones_a_shorter_is_never_worth_less(group: list[tuple[int, bool | None]]) -> None:
    tokens = [size for size, _ in group]
    found = length.length_bonuses(tokens, [True] * len(group))
    ordered = [value for _, value in sorted(zip(tokens, found, strict=True), key=lambda pair: (pair[0], -pair[1]))]  # type: ignore[operator]
    assert ordered == sorted(ordered, reverse=True)  # type: ignore[type-var]


@given(st.integers(0, 30_000), st.integers(1, 20_480), st.floats(0.01, 1))
def test_overlong_is_dapos_formula(tokens: int, most: int, share: float) -> None:
    cache = share * most
    value = overlong.penalty(tokens, most, cache)
    if tokens <= most - cache:
        assert value == 0
    elif tokens <= most:
        assert value == pytest.approx((most - cache - tokens) / cache)
    else:
        assert value == -1
    assert -1 - 1e-9 <= value <= 0


def test_overlong_with_the_papers_numbers() -> None:
    assert [overlong.penalty(n, 20_480, 4096) for n in (16_384, 18_432, 20_480, 20_481)] == [0, -0.5, -1, -1]


@pytest.mark.parametrize(
    ("text", "code", "share"),
    [
        ("so we add three and four", "en", 1.0),
        ("we add 三四 now", "en", 3 / 5),  # a Han character is a word
        ("所以我们加 three", "zh", 5 / 6),  # and so it is at home; a Latin word is one
        ("だから足す", "ja", 1.0),  # Han and Kana both are Japanese
        ("だから足す", "zh", 1 / 5),  # of which only Han is Chinese
        ("итак складываем", "ru", 1.0),
        ("итак we add", "ru", 1 / 3),
        ("let x = 三", "en", 1 / 2),  # a single Latin letter is a variable
        ("we use `变量` and $y = 三$", "en", 3 / 4),  # code does not count, foreign letters in a formula do
        ("3 + 4 = 7", "en", 0.0),
        ("", "en", 0.0),
        ("anything", "tlh", None),
    ],
)
def test_language_is_the_share_of_words(text: str, code: str, share: float | None) -> None:
    assert language.consistency(text, code) == (None if share is None else pytest.approx(share))


@given(st.integers(0, 30), st.integers(0, 30))
def test_language_counts_own_over_all(own: int, foreign: int) -> None:
    text = "hello " * own + "你 " * foreign
    assert language.consistency(text, "en") == pytest.approx(own / (own + foreign) if own else 0.0)
    assert language.consistency(text, "zh") == pytest.approx(foreign / (own + foreign) if foreign else 0.0)
