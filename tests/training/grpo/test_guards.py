"""Guards while training: each fires on what it is for, and none on a training that goes well."""

from __future__ import annotations

from typing import Any

import pytest

from distill.training.grpo.guards import GuardLimits, Watch

WELL: dict[str, Any] = {
    "reward": 0.6,
    "frac_reward_zero_std": 0.3,
    "clipped_ratio": 0.1,
    "entropy": 0.4,
    "completion_length": 200.0,
    "kl": 0.02,
}


def words(rows: list[dict[str, Any]], **limits: Any) -> tuple[int, str]:
    """Step at which it is told to stop, and why."""
    watch = Watch(GuardLimits(window=3, **limits))
    for step, row in enumerate(rows, 1):
        if why := watch.observe(row):
            return step, why
    return 0, ""


def test_nothing_is_said_of_a_training_that_goes_well() -> None:
    longer = [WELL | {"completion_length": 200.0 + 5 * step} for step in range(100)]
    assert words(longer) == (0, "")
    assert words([{"reward": 0.5}] * 5) == (0, "")  # beta 0 logs no kl, and so with the others


@pytest.mark.parametrize(
    ("bad", "why", "limit"),
    [
        ({"frac_reward_zero_std": 1.0}, "100% of the groups had no variance", "zero_variance"),
        ({"clipped_ratio": 0.97}, "97% of the completions were cut", "clipped"),
        ({"kl": 25.0}, "25.0 nats a token from where it began", "kl"),
        ({"entropy": 0.001}, "the entropy fell to 0.0010", "entropy"),
    ],
)
def test_each_guard_fires_after_its_window_and_can_be_switched_off(bad: dict[str, Any], why: str, limit: str) -> None:
    step, told = words([WELL | bad] * 10)
    assert step == 3
    assert why in told
    assert words([WELL | bad] * 10, **{limit: None}) == (0, "")


@pytest.mark.parametrize("factor", [1.3, 1 / 1.3])
def test_lengths_that_explode_or_collapse_stop_it(factor: float) -> None:
    step, told = words([WELL | {"completion_length": 200 * factor**step} for step in range(30)])
    assert 5 < step < 12
    assert "completions went from" in told
    assert words([WELL | {"completion_length": 200 * factor**step} for step in range(30)], drift=None) == (0, "")


def test_a_single_bad_step_is_no_reason() -> None:
    rows = [WELL] * 3 + [WELL | {"frac_reward_zero_std": 1.0}] + [WELL] * 3
    assert words(rows) == (0, "")


def test_windows_go_on_over_an_earlier_start() -> None:
    watch = Watch(GuardLimits(window=3))
    watch.replay([WELL] * 3)
    for _ in range(3):
        why = watch.observe(WELL | {"completion_length": 2000.0})
    assert "from 200 to 2000 tokens" in why
