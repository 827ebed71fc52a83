"""The order of the stages, and which of them are still fresh."""

from __future__ import annotations

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
from distill.progress import LOG, Progress, duration
from distill.recipe import Launcher, Recipe, StageName
from distill.run import Run, stamp
from distill.sampling.forecast import Forecast
from distill.stages import StageJob, Summary, evaluate, filter, generate, grpo, sft
from distill.training import launch
from distill.types import content_id

MODULES: dict[StageName, ModuleType] = {
    "generate": generate,
    "filter": filter,
    "sft": sft,
    "grpo": grpo,
    "eval": evaluate,
}


@dataclass(frozen=True)
class StageResult:
    """How a stage of a run ended."""

    stage: StageName
    fresh: bool
    """Nothing had changed, so nothing was done."""
    seconds: float
    summary: Summary


def job(run: Run, recipe: Recipe, stage: StageName, progress: Progress) -> StageJob[Any]:
    teacher = presets.teacher(recipe.teacher)
    return StageJob(
        run=run,
        config=getattr(recipe, stage),
        teacher=teacher,
        student=recipes.student(recipe),
        progress=progress,
        benchmarks=evaluate.set_names(recipe.eval, teacher.problems),
    )


def with_grpo_eval(run: Run, recipe: Recipe, stages: tuple[StageName, ...]) -> tuple[Recipe, tuple[StageName, ...]]:
    """GRPO is measured where it is done: an eval has the student before it and after it, paired by problem.

    Where `stages` have none, one follows, which keeps the rows that scores.json has already: their samples are there.
    """
    if "grpo" not in stages:
        return recipe, stages
    roles = {"base" if recipe.grpo.start == "base" else "sft", "grpo"}
    if "eval" in stages:
        roles |= {*recipe.eval.models}
    else:
        stages = (*stages, "eval")
        if run.scores.is_file():
            roles |= {row["role"] for row in orjson.loads(run.scores.read_bytes())}
    models = tuple(role for role in typing.get_args(evaluate.Role) if role in roles)
    return recipe.model_copy(update={"eval": recipe.eval.model_copy(update={"models": models})}), stages


def is_fresh(stage_job: StageJob[Any], stage: StageName) -> bool:
    """Whether a stage has finished with this config on these inputs and its outputs are as it left them."""
    record = stage_job.run.stage(stage)
    if not record or record["fingerprint"] != _fingerprint(stage_job, stage, record.get("inputs", {})):
        return False
    stamps = record["outputs"]
    for path in MODULES[stage].outputs(stage_job.run):
        current = stamp(path, stamps.get(path.name))
        if current is None or current["hash"] != stamps[path.name]["hash"]:
            return False
    return True


def preview(run: Run, recipe: Recipe, stage: StageName, progress: Progress) -> Summary | None:
    """A summary of what a stage would do, without doing it; None where there is no more to say than its settings.

    filter judges all traces, sft renders and audits its rows and decides how to train, grpo chooses its prompts and
    tries its rewards; nothing in the run folder changes.
    """
    stage_preview = getattr(MODULES[stage], "preview", None)
    return stage_preview(job(run, recipe, stage, progress)) if stage_preview else None


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


def _stamps(stage_job: StageJob[Any], stage: StageName, earlier: dict[str, Any]) -> dict[str, Any]:
    return {name: stamp(path, earlier.get(name)) for name, path in MODULES[stage].inputs(stage_job).items()}


def _fingerprint(stage_job: StageJob[Any], stage: StageName, earlier: dict[str, Any]) -> str:
    """Hash of the stage's config, the models' facts and the content of its inputs, wherever they lie."""
    stamps = _stamps(stage_job, stage, earlier)
    contents = [stamps[name] and stamps[name]["hash"] for name in sorted(stamps)]
    config = stage_job.config.model_dump(mode="json")
    stage_facts = getattr(MODULES[stage], "facts", lambda _: None)(stage_job)
    return content_id(stage, config, _preset_facts(stage_job), contents, stage_facts)


def _preset_facts(stage_job: StageJob[Any]) -> list[dict[str, Any]]:
    """The facts of both presets without the folders of their files: a moved checkout is not a change."""
    return [
        preset.model_dump(mode="json", exclude={"model", "description", "hardware"})
        | {"weights": presets.weights_fingerprint_of(preset)}
        for preset in (stage_job.teacher, stage_job.student)
    ]


def run_stages(
    run: Run, recipe: Recipe, stages: tuple[StageName, ...], progress: Progress, force_here: bool = False
) -> Iterator[StageResult]:
    """Run stages in order, skipping the fresh; yields as each ends.

    Args:
        force_here: ignore the recipe's launchers (this process is the launched one).

    Raises:
        InputError: several processes were started where one does the work.
        DistillError: from a stage; what earlier stages did stays.
    """
    if launch.node_rank([stage for stage in stages if not hasattr(MODULES[stage], "follow")]):
        # a further node of a job: the first one decides, and keeps run.json
        for stage in stages:
            MODULES[stage].follow(job(run, recipe, stage, progress))
        return
    run.start(recipe.model_dump(mode="json"))
    for stage in stages:
        stage_job = job(run, recipe, stage, progress)
        started_at = time.monotonic()
        record = run.stage(stage)
        if is_fresh(stage_job, stage):
            LOG.info("%s: unchanged, nothing to do", stage)
            yield StageResult(stage, True, 0.0, record["summary"])
            continue
        run.forget(stage)
        launcher = None if force_here else recipe.launchers.get(stage)
        if launcher:
            _launch(launcher, stage, run)
            summary = run.stage(stage).get("summary", {})
        else:
            LOG.info("%s: starts", stage)
            summary = _run_here(stage_job, stage, started_at, MODULES[stage].run)
        yield StageResult(stage, False, time.monotonic() - started_at, summary)


def _run_here(
    stage_job: StageJob[Any], stage: StageName, started_at: float, run_stage: Callable[[StageJob[Any]], Summary]
) -> Summary:
    # inputs are stamped before the work: a file that changes meanwhile makes the stage stale, not wrongly fresh
    input_stamps = _stamps(stage_job, stage, {})
    fingerprint = _fingerprint(stage_job, stage, input_stamps)
    summary = run_stage(stage_job)
    seconds = round(time.monotonic() - started_at, 1)
    outputs = {path.name: stamp(path) for path in MODULES[stage].outputs(stage_job.run)}
    record = {
        "fingerprint": fingerprint,
        "inputs": input_stamps,
        "outputs": outputs,
        "seconds": seconds,
        "summary": summary,
    }
    stage_job.run.finish(stage, record)
    LOG.info("%s: done in %s", stage, duration(seconds))
    return summary


def _launch(launcher: Launcher, stage: StageName, run: Run, options: tuple[str, ...] = ()) -> None:
    arguments = ("-m", "distill.cli", stage, "--run", str(run.folder), "--here", *options)
    command = [*launcher.prefix, launcher.python, *arguments]
    LOG.info("%s: %s", stage, " ".join(command))
    try:
        status = subprocess.run(command, check=False).returncode
    except OSError as error:
        raise RunError(f"cannot start {command[0]}: {error.strerror}", where=f"launchers.{stage}") from error
    if status:
        raise RunError(f"its launcher ended with status {status}", where=f"launchers.{stage}", fix=" ".join(command))
