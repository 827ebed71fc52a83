"""Metrics, curves and differences of a few attempts, worked out by hand."""

from __future__ import annotations

from collections.abc import Hashable
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.errors import RunError
from distill.evaluation import metrics, report
from distill.evaluation.attempts import AttemptsByProblem, JudgedAttempt


def attempt(passed: bool | None = True, key: Hashable | None = 12, tokens: int = 100, **changes: Any) -> JudgedAttempt:
    fields = {
        "passed": passed,
        "vote_key": key,
        "tokens": tokens,
        "thinking": tokens - 10,
        "cut": False,
        "unclosed": False,
        "answered": True,
        "loops": False,
        "foreign": False,
    }
    return JudgedAttempt(**{**fields, **changes})


RIGHT, WRONG = attempt(), attempt(False, 13)


def test_the_ks_of_a_number_of_samples() -> None:
    assert metrics.sample_counts(1) == [1]
    assert metrics.sample_counts(4) == [1, 2, 4]
    assert metrics.sample_counts(6) == [1, 2, 4, 6]
    assert metrics.sample_counts(0) == []


def test_values_are_per_problem_and_problems_count_alike() -> None:
    tried = {"a": [RIGHT, RIGHT, WRONG, WRONG], "b": [RIGHT, WRONG, WRONG, WRONG]}
    found = metrics.values_by_problem(tried, votes=True)
    assert found["pass@1"] == {"a": 0.5, "b": 0.25}
    assert found["pass@2"] == {"a": pytest.approx(5 / 6), "b": 0.5}
    assert found["cons@4"] == {"a": 0.5, "b": 0.0}
    assert [name for name in found if "@" in name] == ["pass@1", "pass@2", "pass@4", "cons@4", "cons@2"]
    scores = metrics.mean_metrics(found, tried)
    assert scores["pass@1"].value == 0.375
    assert scores["tokens_p90"].value == 100
    assert metrics.rerun_interval(tried).value == 0.375
    assert not [name for name in metrics.values_by_problem(tried, votes=False) if name.startswith("cons")]


def test_undecidable_attempts_shrink_what_a_problem_can_say() -> None:
    unknown = attempt(None, None)
    found = metrics.values_by_problem(
        {"a": [RIGHT, WRONG, RIGHT, RIGHT], "b": [RIGHT, unknown, unknown, RIGHT]}, votes=True
    )
    assert found["pass@1"] == {"a": 0.75, "b": 1.0}
    assert set(found["pass@4"]) == {"a"}, "of b only two samples are known"
    assert set(found["cons@2"]) == {"a", "b"}
    assert "pass@3" not in metrics.values_by_problem(
        {"a": [RIGHT] * 4, "b": [RIGHT, RIGHT, RIGHT, unknown]}, votes=True
    )
    assert found["undecided"] == {"a": 0, "b": 0.5}
    with pytest.raises(RunError, match="none of the 2 samples"):
        metrics.values_by_problem({"a": [unknown, unknown]}, votes=True)


def test_rates_are_shares_of_all_samples() -> None:
    cut = attempt(False, None, cut=True, unclosed=True, answered=False, loops=True, foreign=None)
    found = metrics.values_by_problem({"a": [cut, RIGHT, RIGHT, attempt(foreign=True)]}, votes=True)
    shares = {name: of["a"] for name, of in found.items() if "@" not in name}
    assert shares == {
        "undecided": 0,
        "truncated": 0.25,
        "closed": 0.75,
        "unclosed": 0.25,
        "answered": 0.75,
        "repetition": 0.25,
        "language": pytest.approx(1 / 3),
        "tokens": 100,
    }


SAMPLES = st.lists(st.tuples(st.booleans(), st.integers(1, 512)), min_size=2, max_size=5)


@settings(max_examples=15)
@given(st.lists(SAMPLES, min_size=1, max_size=4))
def test_the_budget_curve_is_what_a_smaller_budget_would_have_given(given: list[list[tuple[bool, int]]]) -> None:
    tried: AttemptsByProblem = {str(i): [attempt(ok, 1, n) for ok, n in group] for i, group in enumerate(given)}
    curve = report.budget_curve(tried, 512)
    assert [point.at for point in curve] == report.budgets(512)
    assert report.budgets(512) == [8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 256, 362, 512]
    for point in curve:
        by_hand = [sum(ok and n <= point.at for ok, n in group) / len(group) for group in given]
        assert point.metrics["pass@1"].value == pytest.approx(sum(by_hand) / len(by_hand))
    assert curve[-1].metrics["pass@1"].value == pytest.approx(metrics.rerun_interval(tried).value)


def test_the_sample_curve_holds_both_ways_to_use_k_samples() -> None:
    tried = {"a": [RIGHT, WRONG, WRONG, RIGHT], "b": [RIGHT] * 4}
    scores = metrics.mean_metrics(metrics.values_by_problem(tried, votes=True), tried)
    curve = {
        point.at: {name: metric.value for name, metric in point.metrics.items()}
        for point in report.sample_curve(scores)
    }
    assert set(curve) == {1, 2, 4}
    assert set(curve[1]) == {"pass"}
    assert curve[2]["pass"] == pytest.approx((5 / 6 + 1) / 2)
    pairs = list(combinations([1, 0, 0, 1], 2))
    assert curve[2]["cons"] == pytest.approx((sum(sum(pair) / 2 for pair in pairs) / len(pairs) + 1) / 2)


def test_differences_are_paired_by_problem_and_leave_out_what_one_lacks() -> None:
    ours = metrics.values_by_problem({"a": [RIGHT, RIGHT], "b": [RIGHT, WRONG], "c": [RIGHT, RIGHT]}, votes=True)
    theirs = metrics.values_by_problem({"a": [WRONG, RIGHT], "b": [WRONG, WRONG], "d": [RIGHT, RIGHT]}, votes=True)
    found = report.differences([("base", theirs), ("sft", ours)])
    assert [(gap.metric, gap.first, gap.second) for gap in found] == [
        ("pass@1", "sft", "base"),
        ("cons@2", "sft", "base"),
        ("tokens", "sft", "base"),
    ]
    assert (found[0].problems, found[0].value, found[0].p) == (2, 0.5, 0.5)
    assert (found[2].value, found[2].p) == (0.0, 1.0)
    three = report.differences([("teacher", ours), ("base", theirs), ("sft", ours)])
    pairs = {(gap.first, gap.second) for gap in three}
    assert pairs == {("base", "teacher"), ("sft", "teacher"), ("sft", "base")}
    assert report.differences([("base", ours)]) == ()
