"""The order of the stages, and which of them are still fresh."""

from __future__ import annotations

import logging
import subprocess
import time
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import orjson

from distill import recipe as recipes
from distill.errors import RunError
from distill.models import presets
from distill.progress import Progress, duration
from distill.recipe import Launcher, Recipe, StageName
from distill.run import Run, stamp
from distill.sampling.forecast import Forecast
from distill.stages import Job, Summary, evaluate, filter, generate, grpo, sft
from distill.training import launch
from distill.types import content_id

LOG = logging.getLogger("distill")

MODULES: dict[StageName, ModuleType] = {
    "generate": generate,
    "filter": filter,
    "sft": sft,
    "grpo": grpo,
    "eval": evaluate,
}


@dataclass(frozen=True)
class Done:
    """How a stage ended."""

    stage: StageName
    fresh: bool
    """Nothing had changed, so nothing was done."""
    seconds: float
    summary: Summary


def job(run: Run, recipe: Recipe, stage: StageName, progress: Progress) -> Job[Any]:
    teacher = presets.teacher(recipe.teacher)
    return Job(
        run=run,
        config=getattr(recipe, stage),
        teacher=teacher,
        student=recipes.student(recipe),
        progress=progress,
        benchmarks=evaluate.sets(recipe.eval, teacher.problems),
    )


def with_scores(run: Run, recipe: Recipe, stages: tuple[StageName, ...]) -> tuple[Recipe, tuple[StageName, ...]]:
    """GRPO is measured where it is done: an eval has the student before it and after it, paired by problem.

    Where `stages` have none, one follows, which keeps the rows that scores.json has already: their samples are there.
    """
    if "grpo" not in stages:
        return recipe, stages
    wanted = {"base" if recipe.grpo.start == "base" else "sft", "grpo"}
    if "eval" in stages:
        wanted |= {*recipe.eval.models}
    else:
        stages = (*stages, "eval")
        wanted |= {row["role"] for row in orjson.loads(run.scores.read_bytes())} if run.scores.is_file() else set()
    models = tuple(role for role in typing.get_args(evaluate.Role) if role in wanted)
    return recipe.model_copy(update={"eval": recipe.eval.model_copy(update={"models": models})}), stages


def is_fresh(work: Job[Any], stage: StageName) -> bool:
    """Whether a stage has finished with this config on these inputs and its outputs are as it left them."""
    record = work.run.stage(stage)
    if not record or record["fingerprint"] != _fingerprint(work, stage, record.get("inputs", {})):
        return False
    stamps = record["outputs"]
    return all(
        (found := stamp(path, stamps.get(path.name))) is not None and found["hash"] == stamps[path.name]["hash"]
        for path in MODULES[stage].outputs(work.run)
    )


def preview(run: Run, recipe: Recipe, stage: StageName, progress: Progress) -> Summary | None:
    """What a stage would do, as far as it can tell without doing it; None where there is no more than its settings.

    filter judges all traces, sft renders and audits its rows and decides how to train, grpo chooses its prompts and
    tries its rewards; nothing in the run folder changes.
    """
    look = getattr(MODULES[stage], "preview", None)
    return look(job(run, recipe, stage, progress)) if look else None


def forecast(run: Run, recipe: Recipe, count: int, progress: Progress, force_here: bool = False) -> Forecast | None:
    """Sample a pilot of `count` problems and forecast the whole set; the stage stays unfinished.

    Args:
        force_here: ignore the recipe's launcher. Without it, None where there is one: the launched command tells.
    """
    run.start(recipe.model_dump(mode="json"))
    launcher = None if force_here else recipe.launchers.get("generate")
    if launcher:
        _launch(launcher, "generate", run, ("--forecast", str(count)))
        return None
    return generate.forecast(job(run, recipe, "generate", progress), count)


def _stamps(work: Job[Any], stage: StageName, before: dict[str, Any]) -> dict[str, Any]:
    return {name: stamp(path, before.get(name)) for name, path in MODULES[stage].inputs(work).items()}


def _fingerprint(work: Job[Any], stage: StageName, before: dict[str, Any]) -> str:
    """Hash of the stage's config, the models' facts and the content of its inputs, wherever they lie."""
    found = _stamps(work, stage, before)
    contents = [found[name] and found[name]["hash"] for name in sorted(found)]
    config = work.config.model_dump(mode="json")
    more = getattr(MODULES[stage], "facts", lambda _: None)(work)
    return content_id(stage, config, _facts(work), contents, more)


def _facts(work: Job[Any]) -> list[dict[str, Any]]:
    """The presets without where their files lie: a moved checkout is not a change."""
    return [
        preset.model_dump(mode="json", exclude={"model", "description", "hardware"})
        | {"weights": presets.weights_fingerprint_of(preset)}
        for preset in (work.teacher, work.student)
    ]


def run_stages(
    run: Run, recipe: Recipe, stages: tuple[StageName, ...], progress: Progress, force_here: bool = False
) -> Iterator[Done]:
    """Run stages in order, skipping the fresh; yields as each ends.

    Args:
        force_here: ignore the recipe's launchers (this process is the launched one).

    Raises:
        InputError: several processes were started where one does the work.
        DistillError: from a stage; what earlier stages did stays.
    """
    if launch.node([stage for stage in stages if not hasattr(MODULES[stage], "follow")]):
        # a further node of a job: the first one decides, and keeps run.json
        for stage in stages:
            MODULES[stage].follow(job(run, recipe, stage, progress))
        return
    run.start(recipe.model_dump(mode="json"))
    for stage in stages:
        work = job(run, recipe, stage, progress)
        began = time.monotonic()
        record = run.stage(stage)
        if is_fresh(work, stage):
            LOG.info("%s: unchanged, nothing to do", stage)
            yield Done(stage, True, 0.0, record["summary"])
            continue
        run.forget(stage)
        launcher = None if force_here else recipe.launchers.get(stage)
        if launcher:
            _launch(launcher, stage, run)
            summary = run.stage(stage).get("summary", {})
        else:
            LOG.info("%s: starts", stage)
            summary = _run_here(work, stage, began, MODULES[stage].run)
        yield Done(stage, False, time.monotonic() - began, summary)


def _run_here(work: Job[Any], stage: StageName, began: float, start: Callable[[Job[Any]], Summary]) -> Summary:
    # inputs are stamped before the work: a file that changes meanwhile makes the stage stale, not wrongly fresh
    before = _stamps(work, stage, {})
    fingerprint = _fingerprint(work, stage, before)
    summary = start(work)
    seconds = round(time.monotonic() - began, 1)
    outputs = {path.name: stamp(path) for path in MODULES[stage].outputs(work.run)}
    record = {"fingerprint": fingerprint, "inputs": before, "outputs": outputs, "seconds": seconds, "summary": summary}
    work.run.finish(stage, record)
    LOG.info("%s: done in %s", stage, duration(seconds))
    return summary


def _launch(launcher: Launcher, stage: StageName, run: Run, more: tuple[str, ...] = ()) -> None:
    words = ("-m", "distill.cli", stage, "--run", str(run.folder), "--here", *more)
    command = [*launcher.prefix, launcher.python, *words]
    LOG.info("%s: %s", stage, " ".join(command))
    try:
        status = subprocess.run(command, check=False).returncode
    except OSError as error:
        raise RunError(f"cannot start {command[0]}: {error.strerror}", where=f"launchers.{stage}") from error
    if status:
        raise RunError(f"its launcher ended with status {status}", where=f"launchers.{stage}", fix=" ".join(command))
