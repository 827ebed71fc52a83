"""Pooling seeds: against closed forms, against a simulation's coverage, and where nothing varies."""

from __future__ import annotations

import math

import numpy as np
import pytest

from distill.evaluation import scoring, seeds


def test_one_seed_is_what_a_run_says_itself() -> None:
    row = [0.25, 0.5, 1.0, 0.0, 0.75]
    found = seeds.pooled([row])
    assert found.mean == scoring.mean(row)
    assert found.p == scoring.paired_p(row)


@pytest.mark.parametrize(("freedom", "quantile"), [(1, 12.70620), (2, 4.302653), (3, 3.182446), (30, 2.042272)])
def test_the_t_distribution_is_that_of_the_tables(freedom: int, quantile: float) -> None:
    """0.975 quantiles, Abramowitz and Stegun, table 26.10: a mean that lies so many errors from 0 has p = 0.05."""
    row = np.arange(freedom + 1.0)
    error = float(np.std(row, ddof=1)) / math.sqrt(freedom + 1)
    shifted = (row - row.mean() + quantile * error).tolist()
    found = seeds.pooled([shifted, shifted])  # seeds that agree are one, and the problems' freedom is all there is
    assert found.mean.low == pytest.approx(0, abs=1e-5)
    assert found.p == pytest.approx(0.05, abs=1e-6)


def test_seeds_alone_give_the_t_interval_of_their_means() -> None:
    """Problems that are all alike add nothing: what is left is Student's interval of three numbers."""
    means = [0.50, 0.60, 0.55]
    found = seeds.pooled([[mean] * 8 for mean in means])
    width = 4.302653 * np.std(means, ddof=1) / math.sqrt(3)
    assert found.mean.value == pytest.approx(0.55)
    assert found.mean.low == pytest.approx(0.55 - width, abs=1e-6)
    assert found.mean.high == pytest.approx(0.55 + width, abs=1e-6)


def test_problems_alone_give_their_t_interval_and_p() -> None:
    """Seeds that agree on every problem are one seed."""
    row = [0.1, 0.4, 0.3, 0.6, 0.2, 0.5]
    found = seeds.pooled([row, row, row])
    error = float(np.std(row, ddof=1)) / math.sqrt(6)
    assert found.mean.low == pytest.approx(0.35 - 2.570582 * error, abs=1e-6)  # 5 degrees of freedom
    assert found.p == pytest.approx(0.0059335, abs=1e-7)  # t = 4.5826


def test_without_variance_there_is_no_doubt() -> None:
    same = seeds.pooled([[0.5, 0.5], [0.5, 0.5]])
    assert (same.mean.low, same.mean.high, same.p) == (0.5, 0.5, 0.0)
    assert seeds.pooled([[0.0, 0.0], [0.0, 0.0]]).p == 1.0


@pytest.mark.slow
def test_the_intervals_hold_other_seeds_and_other_problems() -> None:
    """95 % of them should; with 3 seeds and 40 problems, whose variances and noise are all of the same weight."""
    draw = np.random.default_rng(5)
    held = 0
    for _ in range(300):
        seed, problem = 0.05 * draw.normal(size=(3, 1)), 0.2 * draw.normal(size=(1, 40))
        found = seeds.pooled((0.4 + seed + problem + 0.2 * draw.normal(size=(3, 40))).tolist()).mean
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.4 <= found.high
    assert 0.92 <= held / 300 <= 0.99


def test_a_ratio_is_of_the_means_and_covers_with_its_linear_part() -> None:
    right, tokens = [[1.0, 0.0, 1.0, 0.5]] * 2, [[100.0, 300.0, 200.0, 400.0]] * 2
    found = seeds.ratio(right, tokens)
    assert found.value == pytest.approx(2.5 / 1000)
    assert found.low is not None
    assert found.low < found.value
    assert seeds.ratio(right, [[0.0] * 4] * 2).value == 0
