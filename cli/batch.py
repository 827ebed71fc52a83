"""`--on slurm`: writes one batch script a stage, prints or gives the lines that submit them, one after the other."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from distill import pipeline
from distill.errors import InputError, RunError, suggest, writing
from distill.machine import slurm
from distill.progress import LogLines
from distill.recipe import ALL_STAGES, Launcher, Recipe, StageName
from distill.run import Run

from .stages import resolve

OUT = Console()


class Script(NamedTuple):
    stage: StageName
    path: Path
    text: str
    size: str
    """Nodes, GPUs or CPUs, and time that the job asks for, in words."""


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
    overrides: list[str],
    options: dict[str, Any],
    dry_run: bool,
    submit: bool,
    redo: bool = False,
) -> None:
    """Scripts for one stage, or for all of the recipe's when `stage` is None, from the first that is not done."""
    recipe, run = resolve(ref, folder, overrides, options)
    if recipe.study:
        raise InputError(f"the recipe {recipe.name} is a study, which runs here", where="--on slurm")
    recipe, planned = pipeline.with_grpo_eval(run, recipe, (stage,) if stage else recipe.stages)
    stages = list(planned)
    while stages and not redo and is_fresh(run, recipe, stages[0]):
        _say(f"{stages.pop(0)}: unchanged, no job")
    scripts = [_make_script(run, recipe, name) for name in stages]
    for script in scripts:
        summary = f"{script.stage}: {script.path}, {script.size}"
        if dry_run:
            _say(summary, script.text)
        else:
            _write(run, recipe, script)
            if redo:
                run.forget(script.stage)  # else its job would find it unchanged
            _say(summary)
    if scripts and submit and not dry_run:
        _submit(run, scripts)
    elif scripts:
        _say("submit:", *(f"  {line}" for line in _submit_commands(scripts)))


def is_done(stage: str, folder: Path) -> bool:
    """Whether the run folder's own recipe has nothing left to do in a stage."""
    if stage not in ALL_STAGES:
        raise InputError(f"unknown stage {stage!r}", fix=suggest(stage, ALL_STAGES))
    recipe, run = resolve(None, folder, [], {})
    return is_fresh(run, recipe, stage)


def is_fresh(run: Run, recipe: Recipe, stage: StageName) -> bool:
    return pipeline.is_fresh(pipeline.job(run, recipe, stage, LogLines()), stage)


def _make_script(run: Run, recipe: Recipe, stage: StageName) -> Script:
    """The batch script of a stage; nothing is written."""
    job = recipe.slurm.for_stage(stage, served=stage == "generate" and recipe.generate.backend.is_served)
    launcher = recipe.launchers.get(stage, Launcher(python=sys.executable))
    text = slurm.stage_script(stage, recipe.name, run.folder, job, prefix=launcher.prefix, python=launcher.python)
    resources = f"{job.gpus_per_node} GPUs" if job.gpus_per_node else f"{job.cpus} CPUs"
    size = f"{job.nodes} node{'s' * (job.nodes > 1)} × {resources}"
    if job.time:
        size += f", {job.time}"
    return Script(stage, run.folder / "slurm" / f"{stage}.sbatch", text, size)


def _submit_commands(scripts: list[Script]) -> list[str]:
    """Commands for a shell that submit the scripts, each to start after the one before it."""
    if len(scripts) == 1:
        return [shlex.join(["sbatch", str(scripts[0].path)])]
    commands = []
    previous_stage = None
    for script in scripts:
        arguments = [shlex.quote(argument) for argument in slurm.sbatch(script.path)]
        if previous_stage:  # its job's number is in a shell variable, which must not be quoted
            arguments = [*slurm.sbatch(script.path, f"${previous_stage}")[:-1], arguments[-1]]
        commands.append(f"{script.stage}=$({' '.join(arguments)})")
        previous_stage = script.stage
    return commands


def _write(run: Run, recipe: Recipe, script: Script) -> None:
    pipeline.start(run, recipe)  # the jobs take their recipe from the run folder
    with writing(script.path):
        script.path.parent.mkdir(parents=True, exist_ok=True)
        script.path.write_text(script.text, encoding="utf-8")


def _submit(run: Run, scripts: list[Script]) -> None:
    jobs: list[str] = []
    for script in scripts:
        try:
            jobs.append(slurm.submit(script.path, after_job=jobs[-1] if jobs else None))
        except RunError as error:
            if jobs:
                raise RunError(
                    error.message, where=error.where, fix=f"those before it are submitted: scancel {' '.join(jobs)}"
                ) from error
            raise
        if len(jobs) > 1:
            _say(f"{script.stage}: job {jobs[-1]}, after {jobs[-2]}")
        else:
            _say(f"{script.stage}: job {jobs[-1]}")
    log = run.folder / "slurm" / f"{scripts[0].stage}-{jobs[0]}.log"
    _say(f"watch: squeue --jobs={','.join(jobs)}", f"       tail -F {shlex.quote(str(log))}")
    _say(f"stop:  scancel {' '.join(jobs)}")


def _say(*text: str) -> None:
    OUT.print("\n".join(text), highlight=False, markup=False, soft_wrap=True)
