"""The stages of a run. Each module has one `Config` and one `STAGE`, whose class derives from `Stage`.

`Stage` is all that the pipeline knows of a stage: the files that it reads and writes, what it does, what it would do,
and what its result goes by besides. What a stage did or would do is a `StageSummary` with a line for the terminal. No
stage imports another; `pipeline.py` alone knows their order. `report` and `publish` are steps after a run, with a `run`
of their own kind.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from pydantic import ConfigDict

from distill.errors import InputError
from distill.models.presets import Role, Student, Teacher, identity_of
from distill.problems import gold_checks, sets
from distill.progress import Progress
from distill.run import Run
from distill.settings.identity import Settings, settings_of
from distill.types import Problem, Record, Sampling
from distill.verifiers import Verifiers

TRAINING_ADVICE = frozenset({"epochs", "learning_rate", "lora_targets", "max_length", "pad", "rope"})
"""Facts of a student's preset that say how it is trained."""
C = TypeVar("C", bound=Record)


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


class StageSummary(Record, ABC):
    """What a stage did, as run.json keeps it, or would do; fields that only another version has are passed over."""

    model_config = ConfigDict(extra="ignore")

    @abstractmethod
    def line(self) -> str:
        """The summary in one line."""


class Stage(ABC, Generic[C]):
    """One step of a run; all that it may offer, with what holds where it does not."""

    summary: ClassVar[type[StageSummary]]
    """What `run` returns, to read it back from run.json."""
    models: ClassVar[tuple[Role, ...]] = ("teacher", "student")
    """Presets whose facts can change the result."""
    trains: ClassVar[bool] = False
    """Whether the advice on training in the student's preset counts."""
    on_several_nodes: ClassVar[bool] = False
    """Whether further nodes may take part, with `follow`."""

    @abstractmethod
    def inputs(self, job: StageJob[C]) -> dict[str, Path]:
        """Files, logs and folders that the result is made of, in a fixed order, by the names that reasons give them."""

    @abstractmethod
    def outputs(self, run: Run) -> list[Path]:
        """Files, logs and folders that a finished stage leaves."""

    @abstractmethod
    def run(self, job: StageJob[C]) -> StageSummary:
        """Do the work."""

    def facts(self, job: StageJob[C]) -> dict[str, str]:
        """Hashes of what the result goes by besides settings, models and inputs, as the code of a verifier."""
        return {}

    def preview(self, job: StageJob[C]) -> StageSummary | None:
        """What the stage would do, changing nothing; None where there is no more to say than its settings."""
        return None

    def follow(self, job: StageJob[C]) -> None:
        """Do a further node's part of the work that the first node prepares and finishes."""
        raise NotImplementedError(f"{type(self).__name__} runs on one node")

    def settings(self, job: StageJob[C]) -> Settings:
        """What is set away from the defaults and can change the result.

        A preset's advice counts as the setting that it fills in, as `learning_rate`, where that is left to it; any
        other fact under the model's role, as `student.eos`.
        """
        presets = {"teacher": job.teacher, "student": job.student}
        own = dict(job.config)
        settings = settings_of(job.config)
        for role in self.models:
            for name, value in identity_of(role, presets[role]).items():
                field = name.partition(".")[0]
                if field not in own and (self.trains or field not in TRAINING_ADVICE):
                    settings[f"{role}.{name}"] = value
                elif field in own and (own[field] is None or isinstance(own[field], Record)):
                    settings.setdefault(name, value)
        return settings


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
