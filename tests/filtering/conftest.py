"""Runs full of varied traces, and jobs that filter them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill.run import Run
from distill.stages import StageJob, filter
from distill.store import jsonl
from distill.types import content_id
from tests.conftest import make_job, make_problem, make_trace

Build = Callable[..., Run]


def build_run(folder: Path, problems: int = 5, samples: int = 8, seed: int = 0) -> Run:
    """Countdown traces, right, wrong, cut and Chinese ones mixed by chance."""
    rng = random.Random(seed)
    run = Run(folder)
    asked = [make_problem(f"{n}: using the numbers 3, 7, 8, make 29.") for n in range(problems)]
    jsonl.write(run.problems, asked)
    traces = []
    for sample in range(samples):
        for problem in asked:
            chain = " ".join(
                rng.choice(["Try 3 + 7.", "No, 21.", "So 29.", "Wait."]) for _ in range(rng.randint(5, 60))
            )
            answer = rng.choice(["(3 * 7) + 8", "(3 * 7) + 8", "3 + 7 + 8", "八"])
            body, finish = rng.choice(
                [(f"{chain}\n</think>\n\n<answer>{answer}</answer>", "stop")] * 5
                + [(chain, "length"), (f"{chain} 我们试试别的方法吧\n</think>\n\n<answer>{answer}</answer>", "stop")]
            )
            id = content_id(problem.id, sample, seed)
            traces.append(make_trace(body, id=id, problem_id=problem.id, sample=sample, finish=finish))
    jsonl.write(run.traces_file, traces)
    return run


CHECKS: dict[str, Any] = {"correct": {}, "finish": {}, "format": {"answer": "tag"}, "length": {}, "language": {}}


def job(folder: Path, **config: Any) -> StageJob[filter.Config]:
    config.setdefault("checks", CHECKS)
    return make_job(folder, filter.Config.model_validate(config))


@pytest.fixture
def traces(tmp_path: Path) -> Run:
    return build_run(tmp_path / "traces")
