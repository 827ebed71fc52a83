"""Which prompts, in what order; and the file that TRL and verl read."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from pyarrow import parquet

from distill.errors import InputError
from distill.models.chat import Tokenizer
from distill.models.reasoning import Tags
from distill.rollouts import prompt_rows
from distill.run import Run
from distill.training.grpo import prompts
from distill.training.grpo.prompts import PassRateBand
from tests.conftest import make_problem

PROBLEMS = [make_problem(f"Make 29 of 3, 7, 8, please{' please' * n}.") for n in range(6)]
RATES = {problem.id: n / 4 for n, problem in enumerate(PROBLEMS[:5])}  # 0, ¼, ½, ¾, 1 and one unknown


def test_the_band_and_the_room_decide(tiny: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer(str(tiny / "base"))
    path = tmp_path / "grpo" / "prompts.parquet"
    every = prompts.write(path, PROBLEMS, RATES, PassRateBand(), tokenizer, Tags(), 500)
    assert (every.rows, every.outside, every.too_long, every.unknown) == (6, 0, 0, 1)
    banded = prompts.write(path, PROBLEMS, RATES, PassRateBand(low=0.25, high=0.75), tokenizer, Tags(), 500)
    assert (banded.rows, banded.outside) == (4, 2)
    rows = parquet.read_table(path).to_pylist()
    assert [row["extra_info"]["pass_rate"] for row in rows] == [0.25, 0.5, 0.75, None]
    assert {row["extra_info"]["prefill"] for row in rows} == {"<think>\n"}
    for row, problem in zip(rows, [*PROBLEMS[1:4], PROBLEMS[5]], strict=True):
        back = prompt_rows.problem(
            row["prompt"], row["data_source"], row["reward_model"]["ground_truth"], row["extra_info"]
        )
        assert back == problem
    short = prompts.write(path, PROBLEMS, RATES, PassRateBand(), tokenizer, Tags(), every.longest - 1)
    assert short.too_long == 1
    with pytest.raises(InputError, match=r"no prompt is left: of 6 problems 5 have.*1 have more than 3 tokens"):
        prompts.write(path, PROBLEMS, RATES, PassRateBand(low=0.9, high=0.95), tokenizer, Tags(), 3)


def test_the_last_estimate_of_a_problem_counts(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert prompts.pass_rates_of(run) == {}
    run.rates.write_text('{"problem_id":"a","pass_rate":0.1}\n{"problem_id":"a","pass_rate":0.7}\n')
    assert prompts.pass_rates_of(run) == {"a": 0.7}


def test_orders() -> None:
    rates = [0.0, 0.25, 0.5, 0.75, 1.0, None]
    shuffled = prompts.order(rates, 15, "shuffled", 0)
    assert sorted(shuffled[:6]) == sorted(shuffled[6:12]) == list(range(6))
    assert shuffled == prompts.order(rates, 15, "shuffled", 0) != prompts.order(rates, 15, "shuffled", 1)
    curriculum = [rates[at] if rates[at] is not None else 0.5 for at in prompts.order(rates, 60, "easy_to_hard", 0)]
    assert curriculum == sorted(curriculum, reverse=True)  # type: ignore[type-var]
    drawn = Counter(prompts.order(rates, 30_000, "prioritised", 0))
    for at, weight in enumerate((1, 0.75, 0.5, 0.25, 0, 0.5)):
        assert drawn[at] / 30_000 == pytest.approx(weight / 3, abs=0.01)
    with pytest.raises(InputError, match="none would ever be drawn"):
        prompts.order([1.0, 1.0], 4, "prioritised", 0)
