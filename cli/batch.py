"""`--on slurm`: the batch scripts of stages, written and submitted, or the lines that submit them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from distill import batch, pipeline
from distill import recipe as recipes
from distill.batch import StageScript
from distill.errors import InputError, suggest
from distill.recipe import StageName
from distill.run import Run

from .printing import say


def wants_batch_jobs(stage: StageName | None, on: str | None, submit: bool, forecast: int | None) -> bool:
    """Whether the command is to become batch jobs.

    Raises:
        InputError: options that do not go together.
    """
    targets = ("here", "ray", "slurm") if stage == "filter" else ("here", "slurm")
    if on is not None and on not in targets:
        raise InputError(f"cannot run on {on!r}", where="--on", fix=suggest(on, targets))
    if submit and on != "slurm":
        raise InputError("there is nothing to submit without --on slurm", where="--submit")
    if forecast and on == "slurm":
        raise InputError("a forecast runs here", where="--forecast", fix="leave out --on, inside a job of your own")
    return on == "slurm"


def execute(
    stage: StageName | None,
    ref: str | None,
    folder: Path | None,
    changes: Sequence[str],
    option_changes: Mapping[str, object],
    dry_run: bool,
    submit: bool,
    redo: bool = False,
) -> None:
    """Scripts for one stage, or for all of the recipe's when `stage` is None, from the first that is not done."""
    recipe, run = recipes.resolve(ref, folder, changes, option_changes)
    recipe, stages = pipeline.with_grpo_eval(run, recipe, (stage,) if stage else recipe.stages)
    scripts = batch.scripts(run, recipe, stages, redo)
    for fresh_stage in stages[: len(stages) - len(scripts)]:
        say(f"{fresh_stage}: unchanged, no job")
    for script in scripts:
        summary = f"{script.stage}: {script.path}, {script.size}"
        if dry_run:
            say(summary, script.text)
        else:
            batch.write(run, recipe, script, redo)
            say(summary)
    if scripts and submit and not dry_run:
        _submit(run, scripts)
    elif scripts:
        say("submit:", *(f"  {line}" for line in batch.submit_commands(scripts)))


def _submit(run: Run, scripts: Sequence[StageScript]) -> None:
    job_ids = []
    for job in batch.submit(scripts):
        after = f", after {job.after}" if job.after else ""
        say(f"{job.stage}: job {job.id}{after}")
        job_ids.append(job.id)
    log = run.folder / "slurm" / f"{scripts[0].stage}-{job_ids[0]}.log"
    say(f"watch: squeue --jobs={','.join(job_ids)}", f"       tail -F {shlex.quote(str(log))}")
    say(f"stop:  scancel {' '.join(job_ids)}")
