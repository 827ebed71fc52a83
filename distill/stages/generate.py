"""generate: the teacher's attempts at the problems, appended to traces.jsonl as they finish."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from distill import jsonl, presets, problems
from distill.errors import InputError, RunError
from distill.presets import Teacher
from distill.run import Run
from distill.sampling import Wanted, choose, collect
from distill.stages import Job, SamplingChoice, Summary, load_problems
from distill.types import Record


class Config(Record):
    problems: str | None = None
    """Problem set: a name in data/, `name:split`, a .yaml or a .jsonl; the teacher's default when not given."""
    limit: int | None = Field(None, ge=1)
    """Only the first so many problems."""
    samples: int = Field(1, ge=1)
    """Attempts per problem."""
    sampling: SamplingChoice = SamplingChoice()
    seed: int = 0
    backend: dict[str, Any] = {"kind": "auto"}


def problem_set(config: Config, teacher: Teacher) -> str:
    ref = config.problems or teacher.problems
    if ref is None:
        raise InputError("no problems to sample", where="generate.problems", fix="give --problems: a set or a .jsonl")
    return ref


def inputs(job: Job[Config]) -> dict[str, Path]:
    return {str(path): path for path in problems.files(problem_set(job.config, job.teacher), "train")}


def outputs(run: Run) -> list[Path]:
    return [run.problems, run.traces]


def run(job: Job[Config]) -> Summary:
    """Sample what is missing from the run's log.

    Raises:
        InputError: the log was written by another teacher, template or sampling; or no problem can be read.
        RunError: the engine refused everything.
    """
    config, folder = job.config, job.run
    model = presets.as_model(job.teacher)
    backend = choose(config.backend, model, job.teacher.hardware)  # first: without an engine nothing else matters
    loaded, rejected = load_problems(problem_set(config, job.teacher), "train", config.limit)
    if not loaded:
        reasons = f": {rejected[0].reason} (line {rejected[0].line})" if rejected else ""
        raise InputError(f"no usable problem{reasons}", where=str(problem_set(config, job.teacher)))
    wanted = Wanted(
        problems=loaded,
        model=model,
        sampling=config.sampling.over(job.teacher.sampling),
        samples=config.samples,
        seed=config.seed,
        backend=backend,
    )
    _same_source(folder, wanted)
    jsonl.write(folder.problems, loaded)
    jsonl.write(folder.rejected, rejected)
    tally = collect(wanted, folder.traces, folder.failures, job.progress, "generate")
    if not folder.traces.exists():
        raise RunError("nothing was sampled", where=str(folder.failures))
    return {
        "problems": len(loaded),
        "rejected_problems": len(rejected),
        "first_rejected": [r.model_dump(include={"line", "reason"}) for r in rejected[:3]],
        "traces": tally.found + tally.sampled,
        "sampled_now": tally.sampled,
        "failed": tally.failed,
        "tokens": tally.tokens,
        "tokens_per_second": round(tally.tokens / tally.seconds, 1) if tally.seconds else None,
        "engine": tally.engine,
    }


def _same_source(folder: Run, wanted: Wanted) -> None:
    """Refuse to mix traces of two teachers or samplings in one log; remembers the first in run.json."""
    now = {
        "model": wanted.model.name,
        "revision": wanted.model.revision,
        "think": wanted.model.tags.model_dump(),
        "sampling": wanted.sampling.model_dump(),
        "seed": wanted.seed,
    }
    before = folder.state().get("source")
    if before and before != now and folder.traces.exists() and folder.traces.stat().st_size:
        changed = "; ".join(f"{key}: {before.get(key)} → {now[key]}" for key in now if before.get(key) != now[key])
        raise InputError(
            f"its traces were sampled differently ({changed})",
            where=str(folder.traces),
            fix="change that back, or give another folder with --run (filter can read both: --traces A --traces B)",
        )
    folder.update(source=now)
