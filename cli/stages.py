"""Runs one stage or a whole recipe and prints what came out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler

from distill import pipeline
from distill import recipe as recipes
from distill.errors import InputError, closest
from distill.progress import LOG, Progress, log_to
from distill.recipe import Recipe, StageName
from distill.run import Run
from distill.stages import publish
from distill.stages.filter import FilterSummary
from distill.stages.grpo import GrpoPreview
from distill.stages.sft import SftPreview

from . import study_tables, tables, training_previews
from .progress import on_stderr

NEXT_COMMAND: dict[StageName, str] = {
    "generate": "distill filter",
    "filter": "distill sft",
    "sft": "distill eval",
}


def execute(  # noqa: PLR0913, PLR0917 - as many as the commands have in common
    stage: StageName | None,
    ref: str | None,
    folder: Path | None,
    changes: Sequence[str],
    option_changes: Mapping[str, object],
    dry_run: bool,
    force_here: bool,
    pilot: int | None = None,
    redo: bool = False,
) -> None:
    """One stage, or all of the recipe's when `stage` is None; with `pilot` only a forecast of generate."""
    recipe, run = recipes.resolve(ref, folder, changes, option_changes)
    stages = (stage,) if stage else recipe.stages
    if not force_here:
        recipe, stages = pipeline.with_grpo_eval(run, recipe, stages)
    console = Console()
    progress = on_stderr()
    if recipe.study:
        _check_study_command(recipe, run, ref, stage, redo)
        if not dry_run:
            log_messages_to(run)
        study_tables.execute(recipe, run.folder, progress, dry_run)
        return
    if dry_run:
        tables.plan(console, run, recipe, stages, redo)
        if stage:
            _print_preview(console, run, recipe, stage, progress)
        return
    similar_run = _run_of_similar_name(run, stage)
    log_messages_to(run)
    if similar_run:
        LOG.warning("%s is a new run folder; did you mean %s?", run.folder, similar_run)
    if "generate" in stages:
        _warn_of_licences(recipe)
    if pilot:
        prediction = pipeline.forecast(run, recipe, pilot, progress, force_here=force_here)
        if prediction:
            tables.forecast(console, prediction)
        return
    for done_stage in pipeline.run_stages(run, recipe, stages, progress, force_here=force_here, redo=redo):
        tables.stage(console, done_stage, run)
    _print_next_step(console, stage, recipe, run)


def _check_study_command(recipe: Recipe, run: Run, ref: str | None, stage: StageName | None, redo: bool) -> None:
    """Refuse what goes for one run only.

    Raises:
        InputError: a stage of a study, or all that is finished again.
    """
    if stage:
        raise InputError(
            f"the recipe {recipe.name} is a study, which has its stages run itself",
            where=f"distill {stage}",
            fix=f"distill run {ref or recipe.name}",
        )
    if redo:
        raise InputError(
            "a study's runs are done again one by one",
            where="--redo",
            fix=f"distill sft --run {run.folder / 'ARM-SEED'} --redo, then the study again",
        )


def _print_preview(console: Console, run: Run, recipe: Recipe, stage: StageName, progress: Progress) -> None:
    preview = pipeline.preview(run, recipe, stage, progress)
    if isinstance(preview, FilterSummary):
        tables.funnel(console, preview)
    elif isinstance(preview, SftPreview):
        training_previews.preview(console, preview)
    elif isinstance(preview, GrpoPreview):
        training_previews.preview_grpo(console, preview)


def _run_of_similar_name(run: Run, stage: StageName | None) -> Path | None:
    """The run of nearly this name, where there is none of it: a stage that goes on from one seldom begins a new one."""
    if stage in (None, "generate") or run.folder.exists():
        return None
    name = closest(run.folder.name, (path.parent.name for path in run.folder.parent.glob("*/run.json")))
    if not name:
        return None
    return run.folder.with_name(name)


def _warn_of_licences(recipe: Recipe) -> None:
    """What the licences of teacher and base will ask of whoever publishes, while nothing is spent yet."""
    for finding in publish.before_sampling(recipe.teacher, recipe.student):
        LOG.warning("%s %s (%s): %s", finding.part, finding.source, finding.licence, finding.message)


def log_messages_to(run: Run) -> None:
    """Messages go to the terminal and, with times, to log.txt in the run folder."""
    LOG.setLevel(logging.DEBUG)
    for handler in list(LOG.handlers):
        LOG.removeHandler(handler)
        handler.close()
    screen = RichHandler(console=Console(stderr=True), show_path=False, show_level=False, markup=False)
    screen.setLevel(logging.INFO)
    LOG.addHandler(screen)
    try:
        log_to(run.log)
    except OSError as error:
        raise InputError(
            f"cannot use this run folder: {error.strerror}", where=str(run.folder), fix="give another with --run"
        ) from error


def _print_next_step(console: Console, stage: StageName | None, recipe: Recipe, run: Run) -> None:
    if stage == "grpo":
        console.print(
            f"next: read what it was rewarded for: {run.grpo / 'samples.jsonl'}", highlight=False, markup=False
        )
        return
    if stage in (None, "eval"):
        console.print(
            "next: read what the teacher wrote and why some of it was left out; or all on one page:", highlight=False
        )
        for line in (f"show {tables.rejected_trace_id(run)}", "report"):
            console.print(f"  distill {line} --run {run.folder}", highlight=False, markup=False)
        if recipe.name == "tiny":
            console.print("or ask what the filter is worth (README, “Does a filter pay?”)", highlight=False)
    elif stage:
        console.print(f"next: {NEXT_COMMAND[stage]} --run {run.folder}", highlight=False, markup=False)
