"""Runs a study and puts its arms side by side in study.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import orjson

from distill import pipeline
from distill.errors import writing
from distill.evaluation import arms
from distill.evaluation.arms import Measured, Table
from distill.progress import Progress
from distill.recipe import Recipe
from distill.run import write_json
from distill.stages import evaluate
from distill.store.lock import WriterLock
from distill.study import plan, scheduler
from distill.study.plan import One
from distill.types import Record, content_id


class Result(Record):
    """study.json"""

    study: str
    fingerprint: str
    """Of the evaluations that the tables are made from."""
    failed: dict[str, str]
    """Runs that could not be done, and why; their arms are in no table."""
    about: dict[str, str]
    tables: tuple[Table, ...]


def run(recipe: Recipe, folder: Path, progress: Progress) -> Result:
    """Do what is not done yet, then write study.json: of the arms of which every run is done.

    Raises:
        RunError: another process is at this study.
        Stopped: told to stop; the same command goes on.
    """
    ones = plan.runs(recipe, folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = WriterLock(folder / "study.json")
    try:
        failed = scheduler.do_all(ones, plan.of(recipe).at_once, progress)
        return _result(recipe, ones, failed, folder, progress)
    finally:
        lock.release()


def _result(recipe: Recipe, ones: Sequence[One], failed: Mapping[str, str], folder: Path, progress: Progress) -> Result:
    """study.json, made again only when an evaluation has changed."""
    study, path = plan.of(recipe), folder / "study.json"
    without = {one.arm for one in ones if one.name in failed}
    scored = [one for one in ones if "eval" in one.stages and one.arm not in without]
    told = {name: arm.description for name, arm in study.arms.items()}
    basis = [[one.arm, one.seed, one.run.stage("eval")] for one in scored]
    fingerprint = content_id("study", basis, told, study.against, failed)
    if path.is_file():
        before = orjson.loads(path.read_bytes())
        if before.get("fingerprint") == fingerprint:
            return Result.model_validate(before)
    found: dict[str, dict[str, list[Measured]]] = {}
    for one in scored:
        job = pipeline.job(one.run, one.recipe, "eval", progress)
        for about, model, tried, values in evaluate.stored(job, one.role):
            most = int(model.sampling["max_tokens"] or 0)
            measured = Measured(one.seed, str(one.run.folder), model.n, most, tried, values)
            found.setdefault(about.set, {}).setdefault(one.arm, []).append(measured)
    tables = [
        arms.table(name, of, told, [other for other in study.against if other in of]) for name, of in found.items()
    ]
    result = Result(
        study=recipe.name, fingerprint=fingerprint, failed=dict(failed), about=arms.ABOUT, tables=tuple(tables)
    )
    write_json(path, result.model_dump(mode="json"))
    return result
