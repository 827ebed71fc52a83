"""The order of the stages, and which of them are still fresh."""

from __future__ import annotations

import importlib.metadata
import subprocess
import time
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import orjson

from distill import recipe as recipes
from distill.errors import InputError, RunError
from distill.models import presets
from distill.progress import LOG, LogLines, Progress, duration
from distill.recipe import Launcher, Recipe, StageName
from distill.run import Run, StageEntry, Stamp, stamp
from distill.sampling.forecast import Forecast
from distill.settings import identity
from distill.settings.identity import Settings
from distill.stages import Stage, StageJob, StageSummary, evaluate, filter, generate, grpo, sft
from distill.training import launch
from distill.types import Record, content_id

STAGES: Mapping[StageName, Stage[Any]] = {
    "generate": generate.STAGE,
    "filter": filter.STAGE,
    "sft": sft.STAGE,
    "grpo": grpo.STAGE,
    "eval": evaluate.STAGE,
}
"""All stages in their order. Each is given its own Config, which only the stage itself knows."""


@dataclass(frozen=True)
class StageResult:
    """How a stage of a run ended."""

    stage: StageName
    fresh: bool
    """Nothing had changed, so nothing was done."""
    seconds: float
    summary: StageSummary


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
        if run.scores_file.is_file():
            roles |= {row["role"] for row in orjson.loads(run.scores_file.read_bytes())}
    models = tuple(role for role in typing.get_args(evaluate.Role) if role in roles)
    return recipe.model_copy(update={"eval": recipe.eval.model_copy(update={"models": models})}), stages


def is_fresh(stage_job: StageJob[Record], stage: StageName) -> bool:
    """Whether a stage has finished with these settings on these inputs and its outputs are as it left them."""
    return not reasons_to_run(stage_job, stage)


def reasons_to_run(stage_job: StageJob[Record], stage: StageName) -> list[str]:
    """Why a stage is to be run, as `learning_rate 1e-05 → 2e-05`; nothing where it is fresh.

    That another version finished it is no reason, nor are facts that an earlier version kept no record of.
    """
    entry = stage_job.run.stage(stage)
    if not entry:
        return ["it has not finished"]
    settings = _settings_then(stage_job.run, stage)
    if settings is None:
        return ["the settings of its last run cannot be read"]
    reasons = identity.changed_settings(settings, STAGES[stage].settings(stage_job))
    reasons += changed_inputs(entry["inputs"], _stamps(stage_job, stage, entry["inputs"]))
    if not reasons and "facts" in entry:
        reasons += changed_facts(entry["facts"], STAGES[stage].facts(stage_job))
    return reasons + _changed_outputs(stage_job, stage, entry["outputs"])


def _changed_outputs(stage_job: StageJob[Record], stage: StageName, stamps: Mapping[str, Stamp | None]) -> list[str]:
    reasons = []
    for path in STAGES[stage].outputs(stage_job.run):
        earlier = stamps.get(path.name)
        current = stamp(path, earlier)
        if current is None:
            reasons.append(f"{path} is gone")
        elif earlier is None or current["hash"] != earlier["hash"]:
            reasons.append(f"{path} is not as it left it")
    return reasons


def _settings_then(run: Run, stage: StageName) -> Settings | None:
    """The settings that a stage finished with; an earlier version kept them only as the run's recipe.

    Returns:
        None where that recipe is not understood.
    """
    entry = run.stage(stage)
    if "settings" in entry:
        return entry["settings"]
    try:
        recipe = recipes.build(dict(run.state().get("recipe", {})), where=str(run.json))
        return STAGES[stage].settings(job(run, recipe, stage, LogLines()))
    except InputError:
        return None


def changed_inputs(earlier: Mapping[str, Stamp | None], current: Mapping[str, Stamp | None]) -> list[str]:
    """What differs between two states of inputs; nothing where the same content lies elsewhere."""
    if _contents(earlier) == _contents(current):
        return []
    moved = {PurePath(path).name: path for path in earlier if path not in current}
    reasons = []
    for path, stamped in current.items():
        before = path if path in earlier else moved.pop(PurePath(path).name, None)
        if before is None:
            reasons.append(f"{path} is new")
        elif _content(earlier[before]) != _content(stamped):
            reasons.append(f"{path} has changed")
    reasons += [f"{path} is gone" for path in moved.values()]
    return reasons or ["its inputs are in another order"]


def changed_facts(earlier: Mapping[str, str], current: Mapping[str, str]) -> list[str]:
    """What differs between two states of what outcomes go by besides settings and inputs."""
    names = sorted({*earlier, *current})
    return [f"{name}: what it goes by has changed" for name in names if earlier.get(name) != current.get(name)]


def _content(stamped: Stamp | None) -> str | None:
    return stamped["hash"] if stamped else None


def _contents(stamps: Mapping[str, Stamp | None]) -> list[str | None]:
    return [_content(stamped) for stamped in stamps.values()]


def start(run: Run, recipe: Recipe) -> None:
    """Record the recipe that is about to run; what finished stages were made of no longer stands in it.

    Raises:
        InputError: the folder belongs to another recipe.
    """
    for stage in recipes.ALL_STAGES:
        entry = run.stage(stage)
        settings = _settings_then(run, stage) if entry else None
        if settings is not None and "settings" not in entry:
            run.finish(stage, {**entry, "settings": settings})
    run.start(recipe.model_dump(mode="json"))


def stale_stages(run: Run, recipe: Recipe, stages: Sequence[StageName], redo: bool = False) -> tuple[StageName, ...]:
    """The stages that are to be done: the first that is not fresh and all after it; with `redo` every one."""
    if redo:
        return tuple(stages)
    for index, stage in enumerate(stages):
        if not is_fresh(job(run, recipe, stage, LogLines()), stage):
            return tuple(stages[index:])
    return ()


def preview(run: Run, recipe: Recipe, stage: StageName, progress: Progress) -> StageSummary | None:
    """A summary of what a stage would do, without doing it; None where there is no more to say than its settings.

    filter judges all traces, sft renders and audits its rows and decides how to train, grpo chooses its prompts and
    tries its rewards; nothing in the run folder changes.
    """
    return STAGES[stage].preview(job(run, recipe, stage, progress))


def forecast(run: Run, recipe: Recipe, count: int, progress: Progress, force_here: bool = False) -> Forecast | None:
    """Sample a pilot of `count` problems and forecast the whole set; the stage stays unfinished.

    Args:
        force_here: ignore the recipe's launcher. Without it, None where there is one: the launched command tells.
    """
    start(run, recipe)
    launcher = None if force_here else recipe.launchers.get("generate")
    if launcher:
        _launch(launcher, "generate", run, ("--forecast", str(count)))
        return None
    return generate.forecast(job(run, recipe, "generate", progress), count)


def _stamps(
    stage_job: StageJob[Record], stage: StageName, earlier: Mapping[str, Stamp | None]
) -> dict[str, Stamp | None]:
    return {name: stamp(path, earlier.get(name)) for name, path in STAGES[stage].inputs(stage_job).items()}


def run_stages(
    run: Run,
    recipe: Recipe,
    stages: tuple[StageName, ...],
    progress: Progress,
    force_here: bool = False,
    redo: bool = False,
) -> Iterator[StageResult]:
    """Run stages in order, skipping the fresh; yields as each ends.

    Args:
        force_here: ignore the recipe's launchers (this process is the launched one).
        redo: skip none.

    Raises:
        InputError: several processes were started where one does the work.
        DistillError: from a stage; what earlier stages did stays.
    """
    if launch.node_rank([stage for stage in stages if not STAGES[stage].on_several_nodes]):
        # a further node of a job: the first one decides, and keeps run.json
        for stage in stages:
            STAGES[stage].follow(job(run, recipe, stage, progress))
        return
    start(run, recipe)
    for stage in stages:
        stage_job = job(run, recipe, stage, progress)
        started_at = time.monotonic()
        reasons = ["--redo"] if redo else reasons_to_run(stage_job, stage)
        entry = run.stage(stage)
        if not reasons:
            LOG.info("%s: unchanged, nothing to do%s", stage, _finished_by(entry))
            yield StageResult(stage, True, 0.0, _summary_of(stage, entry))
            continue
        run.forget(stage)
        launcher = None if force_here else recipe.launchers.get(stage)
        if launcher:
            _launch(launcher, stage, run)
            summary = _summary_of(stage, run.stage(stage))
        else:
            LOG.info("%s: starts%s", stage, f" again: {'; '.join(reasons)}" if entry else "")
            summary = _run_here(stage_job, stage, started_at)
        yield StageResult(stage, False, time.monotonic() - started_at, summary)


def _finished_by(entry: StageEntry) -> str:
    """A remark on a stage that another version finished; empty for one of this version."""
    version = entry.get("distill")
    if version == importlib.metadata.version("distill"):
        return ""
    author = f"distill {version}" if version else "an earlier version"
    return f"; finished by {author}, --redo does it again"


def _summary_of(stage: StageName, entry: StageEntry) -> StageSummary:
    """The summary that run.json keeps of a finished stage.

    Raises:
        RunError: a launched command has left none.
    """
    if not entry:
        raise RunError("its launcher has ended, and it is not finished", where=f"launchers.{stage}")
    return STAGES[stage].summary.model_validate(entry["summary"])


def _run_here(stage_job: StageJob[Record], stage: StageName, started_at: float) -> StageSummary:
    # what it is made of is taken down before the work: what changes meanwhile makes the stage stale, not wrongly fresh
    entry: StageEntry = {
        "distill": importlib.metadata.version("distill"),
        "settings": STAGES[stage].settings(stage_job),
        "facts": STAGES[stage].facts(stage_job),
        "inputs": _stamps(stage_job, stage, {}),
    }
    contents = [stamped and stamped["hash"] for stamped in entry["inputs"].values()]
    fingerprint = content_id(stage, entry["settings"], entry["facts"], contents)
    summary = STAGES[stage].run(stage_job)
    seconds = round(time.monotonic() - started_at, 1)
    stage_job.run.finish(
        stage,
        {
            "fingerprint": fingerprint,
            **entry,
            "outputs": {path.name: stamp(path) for path in STAGES[stage].outputs(stage_job.run)},
            "seconds": seconds,
            "summary": summary.model_dump(mode="json"),
        },
    )
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
