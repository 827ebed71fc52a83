"""pass@k, cons@n and intervals against enumeration."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill import scoring


@given(st.integers(1, 8), st.data())
def test_pass_at_k_equals_enumeration(n: int, data: st.DataObject) -> None:
    c = data.draw(st.integers(0, n))
    k = data.draw(st.integers(1, n))
    samples = [True] * c + [False] * (n - c)
    draws = list(combinations(samples, k))
    assert scoring.pass_at_k(n, c, k) == pytest.approx(sum(map(any, draws)) / len(draws))


def test_pass_at_k_above_n_is_refused() -> None:
    with pytest.raises(ValueError, match="pass@5 needs at least 5"):
        scoring.pass_at_k(4, 1, 5)


@pytest.mark.parametrize(
    ("keys", "correct", "expected"),
    [
        ([1, 1, 2, 3], [True, True, False, False], 1.0),
        ([1, 1, 2, 3], [False, False, True, False], 0.0),
        ([1, 1, 2, 2], [True, True, False, False], 0.5),
        ([1, 2, 3, 4], [True, False, False, False], 0.25),
        ([None, None, None, 4], [False, False, False, True], 1.0),
        ([None, None], [False, False], 0.0),
    ],
)
def test_cons(keys: list[int | None], correct: list[bool], expected: float) -> None:
    assert scoring.cons_at_n(keys, correct) == expected


def test_interval_holds_the_mean_and_shrinks_with_problems() -> None:
    few, many = (scoring.mean([0.0, 1.0] * half) for half in (10, 1000))
    for metric in (few, many):
        assert metric.low is not None
        assert metric.high is not None
        assert metric.low <= metric.value <= metric.high
    assert few.high - few.low > 5 * (many.high - many.low)  # type: ignore[operator]
    assert scoring.mean([1.0, 1.0]).low == 1.0
