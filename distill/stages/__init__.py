"""The stages of a run. Each module has one `Config`, the files it reads and writes, and one `run(job)`.

No stage imports another; `pipeline.py` alone knows their order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from distill.errors import InputError
from distill.models.presets import Student, Teacher
from distill.problems import gold_checks, sets
from distill.progress import Progress
from distill.run import Run
from distill.types import Problem, Record, Sampling
from distill.verifiers import Verifiers

C = TypeVar("C", bound=Record)
Summary = dict[str, Any]


@dataclass(frozen=True)
class StageJob(Generic[C]):
    """All that a stage is given: run folder, its settings, both models."""

    run: Run
    config: C
    teacher: Teacher
    student: Student
    progress: Progress
    benchmarks: tuple[str, ...] = ()
    """Problem sets that the recipe's eval measures on."""


class SamplingChoice(Record):
    """Sampling parameters that a recipe sets; those left out come from the teacher's advice."""

    temperature: float | None = None
    """Sampling temperature, 0 for the most likely token each time; None takes the teacher's advice."""
    top_p: float | None = None
    """Share of the probability that the tokens to choose from make up; None takes the teacher's advice."""
    top_k: int | None = None
    """Most tokens to choose from at each step; None takes the teacher's advice."""
    max_tokens: int | None = None
    """Most tokens of a completion, reasoning included; None takes the teacher's advice."""

    def over(self, advice: Sampling) -> Sampling:
        return Sampling.model_validate({**advice.model_dump(), **self.model_dump(exclude_none=True)})


def load_problems(ref: str, split: str, limit: int | None) -> tuple[list[Problem], list[sets.RejectedProblem]]:
    """Problems of a set, and the rows that could not become one or whose gold fails its self-check.

    Raises:
        InputError: no problem is left.
    """
    rejected: list[sets.RejectedProblem] = []
    loaded = list(sets.load(ref, split, limit, rejected.append, gold_checks.screen(Verifiers())))
    if not loaded:
        reasons = f": {rejected[0].reason} (line {rejected[0].line})" if rejected else ""
        raise InputError(f"no usable problem{reasons}", where=ref)
    return loaded, rejected


def quantiles(values: Iterable[float], points: tuple[float, ...] = (0.1, 0.5, 0.9)) -> dict[str, float]:
    """Nearest-rank quantiles keyed `p10`, `p50`, …; empty for no values."""
    ordered = sorted(values)
    if not ordered:
        return {}
    last = len(ordered) - 1
    return {f"p{round(100 * point)}": ordered[min(int(point * len(ordered)), last)] for point in points}
