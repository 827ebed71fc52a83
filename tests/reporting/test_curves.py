"""Curves of metrics.jsonl, and the bins of pass rates."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill.reporting.reading import curves, rates
from distill.reporting.reading.rates import BINS
from distill.run import Run
from distill.store import jsonl


def test_a_resumed_training_replaces_the_steps_from_there_on(tmp_path: Path) -> None:
    run = Run(tmp_path)
    steps = [(1, 9.0), (2, 8.0), (3, 7.0), (2, 2.0), (3, 1.0)]
    run.add_metrics([{"stage": "sft", "step": step, "loss": loss, "epoch": 0.1} for step, loss in steps])
    run.add_metrics([{"stage": "grpo", "step": 1, "reward": 0.5, "kl": None}, {"stage": "generate", "tokens": 5}])
    found = curves.read(run)
    assert found.curve("sft", "loss", "a").points == [(1, 9.0), (2, 2.0), (3, 1.0)]
    assert found.names("grpo") == ["reward"]
    assert set(found.rows) == {"sft", "grpo"}
    run.add_metrics([{"stage": "sft", "step": 1, "loss": 5.0}])
    assert curves.read(run).curve("sft", "loss", "a").points == [(1, 5.0)], "a training from the start anew"


def test_lines_that_are_no_json_are_counted(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.metrics.write_text('{"stage": "sft", "step": 1, "loss": NaN}\n{"stage": "sft", "step": 2, "loss": 1.0}\n')
    found = curves.read(run)
    assert found.unreadable_lines == 1
    assert found.curve("sft", "loss", "").points == [(2, 1.0)]


def test_a_long_training_is_thinned_to_means_with_their_range(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.add_metrics([{"stage": "sft", "step": step, "loss": float(step % 10)} for step in range(1, 5001)])
    line = curves.read(run).curve("sft", "loss", "a")
    assert len(line.points) <= curves.MAX_POINTS
    assert sum(value or 0 for _, value in line.points) / len(line.points) == pytest.approx(4.5, abs=0.1)
    assert all(low is not None and high is not None and low <= 1 and high >= 8 for _, low, high in line.band)


@pytest.mark.parametrize(
    ("rate", "label"), [(0.0, "0"), (0.001, ""), (0.1, ""), (0.11, "10"), (0.5, "40"), (0.99, "90"), (1.0, "100")]
)
def test_none_and_all_have_bins_of_their_own(tmp_path: Path, rate: float, label: str) -> None:
    run = Run(tmp_path)
    row = {"problem_id": "p", "samples": 4, "correct": 1, "pass_rate": 0.9, "ended": "all"}
    jsonl.write(run.rates, [row, {**row, "pass_rate": rate, "ended": "enough"}])
    found = rates.read(run)
    assert found
    assert found.problems == 1, "the last row of a problem counts"
    assert found.problems_by_ending["stopped at enough correct ones"].index(1) == BINS.index(label)
    assert found.mean_rate == rate


def test_without_pass_rates_there_is_nothing(tmp_path: Path) -> None:
    assert rates.read(Run(tmp_path)) is None
