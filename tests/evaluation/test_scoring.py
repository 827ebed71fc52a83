"""pass@k, cons@k, intervals and p-values against closed forms and enumeration."""

from __future__ import annotations

import math
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.evaluation import scoring

ANSWERS = st.lists(
    st.sampled_from([("right", True), ("other", True), ("a", False), ("b", False), (None, False)]),
    min_size=1,
    max_size=8,
)


@given(st.integers(1, 8), st.data())
def test_pass_at_k_equals_enumeration(n: int, data: st.DataObject) -> None:
    c = data.draw(st.integers(0, n))
    k = data.draw(st.integers(1, n))
    samples = [True] * c + [False] * (n - c)
    draws = list(combinations(samples, k))
    assert scoring.pass_at_k(n, c, k) == pytest.approx(sum(map(any, draws)) / len(draws))


@given(st.integers(1, 20), st.data())
def test_pass_at_k_has_its_closed_form_and_grows(n: int, data: st.DataObject) -> None:
    c = data.draw(st.integers(0, n))
    found = [scoring.pass_at_k(n, c, k) for k in range(1, n + 1)]
    assert found[0] == pytest.approx(c / n)
    assert found[-1] == (c > 0)
    assert found == sorted(found)
    k = data.draw(st.integers(1, n))  # the product form that Chen et al. print
    assert found[k - 1] == pytest.approx(1 - math.prod(1 - k / i for i in range(n - c + 1, n + 1)))


def test_k_above_n_is_refused() -> None:
    with pytest.raises(ValueError, match="pass@5 needs at least 5"):
        scoring.pass_at_k(4, 1, 5)
    with pytest.raises(ValueError, match="cons@3 needs at least 3"):
        scoring.cons_at_k(["a", "b"], [True, False], [1, 3])


def by_hand(keys: list[str | None], correct: list[bool], k: int) -> float:
    """Majority by counting every draw of k samples; tied leaders share the vote."""
    right = {key for key, good in zip(keys, correct, strict=True) if good and key is not None}
    voted = ["right" if key in right else key for key in keys]
    shares = []
    for draw in combinations(voted, k):
        counts = {key: draw.count(key) for key in draw if key is not None}
        leaders = [key for key, count in counts.items() if count == max(counts.values())]
        shares.append(("right" in leaders) / len(leaders) if leaders else 0.0)
    return sum(shares) / len(shares)


@given(ANSWERS)
def test_cons_at_k_equals_enumeration(answers: list[tuple[str | None, bool]]) -> None:
    keys, correct = [key for key, _ in answers], [good for _, good in answers]
    ks = list(range(1, len(keys) + 1))
    assert scoring.cons_at_k(keys, correct, ks) == pytest.approx([by_hand(keys, correct, k) for k in ks])


@pytest.mark.parametrize(
    ("keys", "correct", "expected"),
    [
        ([1, 1, 2, 3], [True, True, False, False], 1.0),
        ([1, 1, 2, 3], [False, False, True, False], 0.0),
        ([1, 1, 2, 2], [True, True, False, False], 0.5),
        ([1, 2, 3, 4], [True, False, False, False], 0.25),
        ([1, 2, 3, 3], [True, True, False, False], 0.5),
        ([None, None, None, 4], [False, False, False, True], 1.0),
        ([None, None], [False, False], 0.0),
        ([None, 1], [True, False], 0.0),
    ],
    ids=["majority", "minority", "tie", "all differ", "right answers are one", "blanks", "no vote", "unread"],
)
def test_the_majority_of_all(keys: list[int | None], correct: list[bool], expected: float) -> None:
    assert scoring.cons_at_k(keys, correct, [len(keys)]) == [expected]


def test_cons_at_one_is_pass_at_one_where_all_vote_and_64_samples_are_exact() -> None:
    keys = ["right"] * 20 + ["a"] * 19 + [f"x{i}" for i in range(25)]
    correct = [key == "right" for key in keys]
    found = scoring.cons_at_k(keys, correct, [1, 2, 32, 64])
    assert found[0] == pytest.approx(20 / 64)
    assert found[1] == pytest.approx(20 / 64)  # two votes: both right, or one of two that share it
    assert 0.5 < found[2] < 0.6
    assert found[3] == 1.0


@pytest.mark.parametrize(("n", "t"), [(2, 12.7062), (5, 2.7764), (10, 2.2622), (30, 2.0452), (1000, 1.9623)])
def test_the_tails_of_an_expanded_interval_are_those_of_t(n: int, t: float) -> None:
    from statistics import NormalDist

    assert scoring._tail(n) == pytest.approx(NormalDist().cdf(-math.sqrt(n / (n - 1)) * t), rel=1e-3)


def test_interval_holds_the_mean_and_shrinks_with_problems() -> None:
    few, many = (scoring.mean([0.0, 1.0] * half) for half in (10, 1000))
    for metric in (few, many):
        assert metric.low is not None
        assert metric.high is not None
        assert metric.low <= metric.value <= metric.high
    assert few.high - few.low > 5 * (many.high - many.low)  # type: ignore[operator]
    assert many.high - many.low == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(2000), rel=0.1)  # type: ignore[operator]
    assert scoring.mean([1.0, 1.0]).low == 1.0
    assert scoring.mean([1.0]).low is None, "one problem says nothing of others"
    assert math.isnan(scoring.mean([]).value)


@pytest.mark.slow
def test_intervals_repeat_and_large_sets_take_little_memory() -> None:
    values = list(np.random.default_rng(3).random(5000))
    assert scoring.mean(values) == scoring.mean(values)
    assert scoring.mean(values) != scoring.mean(values, seed=1)


def test_the_sampling_interval_has_its_closed_form() -> None:
    # two problems of four samples: s² = 1/3 and 0, so the error is √(1/3/4)/2
    metric = scoring.rerun_mean([[0, 0, 1, 1], [1, 1, 1, 1]])
    assert metric.value == 0.75
    assert metric.high == pytest.approx(0.75 + 1.959964 * math.sqrt(1 / 3 / 4) / 2)
    assert scoring.rerun_mean([[1.0], [0.0, 1.0]]).low is None
    assert math.isnan(scoring.rerun_mean([]).value)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=7))
def test_p_of_few_differences_equals_enumeration(differences: list[int]) -> None:
    sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in flips(len(differences))]
    expected = sum(total >= abs(sum(differences)) for total in sums) / len(sums)
    assert scoring.paired_p(differences) == pytest.approx(expected)


def flips(n: int) -> list[tuple[int, ...]]:
    return list(product((-1, 1), repeat=n))


def test_p_of_many_differences_is_near_the_exact_one_and_never_zero() -> None:
    # 15 of 20 problems went up by the same: the sign test, 2 · P(X >= 15) = 0.0414
    differences = [0.25] * 15 + [-0.25] * 5 + [0.0] * 30
    exact = 2 * sum(math.comb(20, k) for k in range(15, 21)) / 2**20
    assert scoring.paired_p(differences) == pytest.approx(exact, abs=0.005)
    assert 0 < scoring.paired_p([0.5] * 200) < 1e-4
    assert scoring.paired_p([0.0, 0.0]) == 1.0


@pytest.mark.slow
def test_coverage_of_all_intervals() -> None:
    """Share of simulated evaluations whose interval holds the truth; 400 runs tell 95 % from 92 %."""
    generator = np.random.default_rng(0)
    runs, n = 400, 4
    for problems, low, high in ((30, 0.915, 0.98), (100, 0.92, 0.98)):
        held = {"questions": 0, "rerun": 0, "paired": 0}
        rejected = 0
        fixed = generator.beta(0.8, 0.8, problems)
        for run in range(runs):
            skill = generator.beta(0.8, 0.8, problems)  # a new draw of problems; its mean in truth is 0.5
            right = generator.random((problems, n)) < skill[:, None]
            held["questions"] += holds(scoring.mean(list(right.mean(axis=1)), seed=run), 0.5)
            again = generator.random((problems, n)) < fixed[:, None]
            held["rerun"] += holds(scoring.rerun_mean(again.astype(float).tolist()), float(fixed.mean()))
            other = generator.random((problems, n)) < skill[:, None]
            gaps = list(right.mean(axis=1) - other.mean(axis=1))  # the same model twice: no difference
            held["paired"] += holds(scoring.mean(gaps, seed=run), 0.0)
            if run < 200:
                rejected += scoring.paired_p(gaps, seed=run) < 0.05
        shares = {name: count / runs for name, count in held.items()}
        print(problems, shares, "rejected at 5 %:", rejected / 200)
        assert all(low <= share <= high for share in shares.values()), (problems, shares)
        assert rejected / 200 <= 0.09


def holds(metric: scoring.Metric, truth: float) -> bool:
    return bool(metric.low is not None and metric.high is not None and metric.low <= truth <= metric.high)
