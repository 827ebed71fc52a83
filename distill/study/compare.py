"""Runs a study and puts its arms side by side in study.json and study.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import orjson

from distill import pipeline
from distill.errors import writing
from distill.evaluation import arms
from distill.evaluation.arms import ArmRun, ArmTable
from distill.progress import Progress
from distill.recipe import Recipe
from distill.run import write_json
from distill.stages import evaluate
from distill.store.lock import WriterLock
from distill.study import plan, scheduler, tables
from distill.study.plan import StudyRun
from distill.types import Record, content_id


class StudyResult(Record):
    """What study.json holds."""

    study: str
    fingerprint: str
    """Fingerprint of the evaluations that the tables are made from."""
    failed: dict[str, str]
    """Runs that could not be done, and why; their arms are in no table."""
    about: dict[str, str]
    """What each figure of the tables means, by name."""
    tables: tuple[ArmTable, ...]


def run(recipe: Recipe, folder: Path, progress: Progress) -> StudyResult:
    """Do what is not done yet, then write study.json and study.md: of the arms of which every run is done.

    Raises:
        RunError: another process is at this study.
        Stopped: told to stop; the same command goes on.
    """
    arm_runs = plan.runs(recipe, folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = WriterLock(folder / "study.json")
    try:
        failed = scheduler.run_all(arm_runs, plan.study_of(recipe).at_once, progress)
        result = _result(recipe, arm_runs, failed, folder, progress)
        tables.write_markdown(recipe, result.tables, folder / "study.md")
        return result
    finally:
        lock.release()


def _result(
    recipe: Recipe, arm_runs: Sequence[StudyRun], failed: Mapping[str, str], folder: Path, progress: Progress
) -> StudyResult:
    """study.json, made again only when an evaluation has changed."""
    study = plan.study_of(recipe)
    path = folder / "study.json"
    incomplete_arms = {arm_run.arm for arm_run in arm_runs if arm_run.name in failed}
    scored_runs = [arm_run for arm_run in arm_runs if "eval" in arm_run.stages and arm_run.arm not in incomplete_arms]
    descriptions = {arm_name: arm.description for arm_name, arm in study.arms.items()}
    basis = [[arm_run.arm, arm_run.seed, arm_run.run.stage("eval")] for arm_run in scored_runs]
    fingerprint = content_id("study", basis, descriptions, study.against, failed)
    if path.is_file():
        stored = orjson.loads(path.read_bytes())
        if stored.get("fingerprint") == fingerprint:
            return StudyResult.model_validate(stored)
    measured_by_set: dict[str, dict[str, list[ArmRun]]] = {}
    for arm_run in scored_runs:
        job = pipeline.job(arm_run.run, arm_run.recipe, "eval", progress)
        for set_report, model, attempts, values in evaluate.stored(job, arm_run.role):
            max_tokens = int(model.sampling["max_tokens"] or 0)
            measured = ArmRun(arm_run.seed, str(arm_run.run.folder), model.n, max_tokens, attempts, values)
            measured_by_set.setdefault(set_report.set, {}).setdefault(arm_run.arm, []).append(measured)
    arm_tables = []
    for set_name, measured_by_arm in measured_by_set.items():
        baselines = [arm_name for arm_name in study.against if arm_name in measured_by_arm]
        arm_tables.append(arms.compare_arms(set_name, measured_by_arm, descriptions, baselines))
    result = StudyResult(
        study=recipe.name, fingerprint=fingerprint, failed=dict(failed), about=arms.ABOUT, tables=tuple(arm_tables)
    )
    write_json(path, result.model_dump(mode="json"))
    return result
