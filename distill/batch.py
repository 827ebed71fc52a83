"""A recipe's stages as batch jobs on a slurm cluster: a script for each, submitted to start one after the other."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from distill import pipeline
from distill import recipe as recipes
from distill.errors import InputError, RunError, suggest, writing
from distill.machine import slurm
from distill.recipe import ALL_STAGES, Launcher, Recipe, StageName
from distill.run import Run


class StageScript(NamedTuple):
    """The batch script of one stage."""

    stage: StageName
    path: Path
    text: str
    size: str
    """Nodes, GPUs or CPUs, and time that the job asks for, in words."""


class SubmittedJob(NamedTuple):
    """A script that the scheduler took."""

    stage: StageName
    id: str
    after: str | None
    """Id of the job that has to end well before."""


def scripts(run: Run, recipe: Recipe, stages: Sequence[StageName], redo: bool = False) -> list[StageScript]:
    """The scripts of the first stage that is not done and of all after it; nothing is written.

    Args:
        redo: do again what is done.

    Raises:
        InputError: the recipe is a study, or what it says of a stage's job is wrong.
    """
    if recipe.study:
        raise InputError(f"the recipe {recipe.name} is a study, which runs here", where="--on slurm")
    return [_script(run, recipe, stage) for stage in pipeline.stale_stages(run, recipe, stages, redo)]


def _script(run: Run, recipe: Recipe, stage: StageName) -> StageScript:
    job = recipe.slurm.for_stage(stage, served=stage == "generate" and recipe.generate.backend.is_served)
    launcher = recipe.launchers.get(stage, Launcher(python=sys.executable))
    text = slurm.stage_script(stage, recipe.name, run.folder, job, prefix=launcher.prefix, python=launcher.python)
    resources = f"{job.gpus_per_node} GPUs" if job.gpus_per_node else f"{job.cpus} CPUs"
    size = f"{job.nodes} node{'s' * (job.nodes > 1)} × {resources}"
    if job.time:
        size += f", {job.time}"
    return StageScript(stage, run.folder / "slurm" / f"{stage}.sbatch", text, size)


def write(run: Run, recipe: Recipe, script: StageScript, redo: bool = False) -> None:
    """Write a script, and the recipe into run.json, where its job takes it from.

    Args:
        redo: forget that the stage is done, else its job would find it unchanged.
    """
    pipeline.start(run, recipe)
    if redo:
        run.forget(script.stage)
    with writing(script.path):
        script.path.parent.mkdir(parents=True, exist_ok=True)
        script.path.write_text(script.text, encoding="utf-8")


def submit_commands(chain: Sequence[StageScript]) -> list[str]:
    """Commands for a shell that submit scripts, each to start after the one before it."""
    if len(chain) == 1:
        return [shlex.join(["sbatch", str(chain[0].path)])]
    commands = []
    previous_stage = None
    for script in chain:
        arguments = [shlex.quote(argument) for argument in slurm.sbatch(script.path)]
        if previous_stage:  # its job's number is in a shell variable, which must not be quoted
            arguments = [*slurm.sbatch(script.path, f"${previous_stage}")[:-1], arguments[-1]]
        commands.append(f"{script.stage}=$({' '.join(arguments)})")
        previous_stage = script.stage
    return commands


def submit(chain: Sequence[StageScript]) -> Iterator[SubmittedJob]:
    """Submit written scripts, each to start after the one before it; yields as each is taken.

    Raises:
        InputError: there is no sbatch.
        RunError: it refuses a script; says how to stop the jobs before it.
    """
    job_ids: list[str] = []
    for script in chain:
        after = job_ids[-1] if job_ids else None
        try:
            job_ids.append(slurm.submit(script.path, after_job=after))
        except RunError as error:
            if job_ids:
                raise RunError(
                    error.message, where=error.where, fix=f"those before it are submitted: scancel {' '.join(job_ids)}"
                ) from error
            raise
        yield SubmittedJob(script.stage, job_ids[-1], after)


def is_done(stage: str, folder: Path) -> bool:
    """Whether the run folder's own recipe has nothing left to do in a stage.

    Raises:
        InputError: there is no such stage.
    """
    if stage not in ALL_STAGES:
        raise InputError(f"unknown stage {stage!r}", fix=suggest(stage, ALL_STAGES))
    recipe, run = recipes.resolve(None, folder)
    return not pipeline.stale_stages(run, recipe, (stage,))
