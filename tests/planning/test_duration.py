"""Steps, hours and cost by hand count."""

from __future__ import annotations

import pytest

from distill.errors import InputError
from distill.models import presets
from distill.planning.duration import duration, flops_per_token
from distill.planning.setup import Setup

SHAPE = presets.shape(presets.student("qwen2.5-7b"))
SETUP = Setup(strategy="zero3", processes=8, accumulation=8)


def test_flops_are_six_per_weight_and_the_causal_half_of_attention() -> None:
    weights = 28 * (3584 * (2 * 3584 + 2 * 512) + 3584 + 2 * 512 + 3 * 3584 * 18944 + 2 * 3584) + 152064 * 3584
    assert flops_per_token(SHAPE, 0) == 6 * weights
    assert flops_per_token(SHAPE, 1000) - flops_per_token(SHAPE, 0) == 6 * 28 * 3584 * 1000
    assert flops_per_token(SHAPE, 0, "lora") == 4 * weights


def test_steps_count_packed_rows_and_hours_follow_from_flops() -> None:
    found = duration(SHAPE, SETUP, tokens=2e9, epochs=3, gpu="h100", mfu=0.4, price=2.0)
    assert found.rows == 61036
    assert found.steps == 3 * 954
    assert found.tokens == 6e9
    assert found.hours == pytest.approx(6e9 * flops_per_token(SHAPE, 32768) / (8 * 989e12 * 0.4) / 3600)
    assert found.cost == pytest.approx(found.hours * 16)


def test_rows_that_are_not_packed_count_one_by_one() -> None:
    found = duration(SHAPE, SETUP, tokens=1e6, epochs=1, rows=130)
    assert (found.steps, found.hours, found.cost) == (3, None, None)


def test_an_unknown_gpu_is_named_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="H100"):
        duration(SHAPE, SETUP, tokens=1e6, epochs=1, gpu="H10")
