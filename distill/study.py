"""A study: a recipe's arms, each with every seed, in run folders of their own; and the table that compares them.

Each run is an ordinary one, `STUDY/ARM-SEED`, made and kept fresh by `pipeline`, so a study resumes as its runs do.
What an arm does not make itself is read from the arm that it goes on from: traces, a training set and problems by name,
a student through a link in its folder.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import orjson

from distill import parent, pipeline
from distill import recipe as recipes
from distill.errors import DistillError, InputError, RunError, Stopped, writing
from distill.evaluation import arms, attempts, metrics
from distill.evaluation.arms import Measured, Table
from distill.evaluation.protocols import PROTOCOLS, without_system
from distill.evaluation.report import Report
from distill.progress import Lines, Progress
from distill.recipe import Recipe, StageName, Study
from distill.run import Run, write_json
from distill.stages import evaluate, load_problems
from distill.stages.evaluate import Role
from distill.types import Problem, Record, content_id

LOG = logging.getLogger("distill")
_MAKES: dict[StageName, Role] = {"generate": "teacher", "sft": "sft", "grpo": "grpo"}
_SEEDED: tuple[StageName, ...] = ("generate", "filter", "sft", "grpo", "eval")


@dataclass(frozen=True)
class One:
    """One arm with one seed."""

    arm: str
    seed: int
    run: Run
    recipe: Recipe
    role: Role
    """The model that the arm is about."""
    needs: tuple[str, ...] = ()
    """Arms of the same seed that come before it."""
    student: Path | None = None
    """The folder of another run that its own `student/` is a link to."""

    @property
    def stages(self) -> tuple[StageName, ...]:
        return self.recipe.stages

    @property
    def name(self) -> str:
        return self.run.folder.name


class Result(Record):
    """study.json"""

    study: str
    fingerprint: str
    """Of the evaluations that the tables are made from."""
    about: dict[str, str]
    tables: tuple[Table, ...]


def plan(recipe: Recipe, folder: Path) -> list[One]:
    """The runs of a study: all arms of a seed, then those of the next.

    Raises:
        InputError: an arm needs what no arm before it makes, or its changes are wrong.
    """
    study = _study(recipe)
    return [_one(recipe, study, folder, arm, seed) for seed in study.seeds for arm in study.arms]


def run(recipe: Recipe, folder: Path, progress: Progress) -> Result:
    """Do what is not done yet, then write study.json and study.md.

    Raises:
        RunError: a run failed; those before it stay.
        Stopped: told to stop; the same command goes on.
    """
    study, ones = _study(recipe), plan(recipe, folder)
    if study.at_once == 1:
        for one in ones:
            if not is_done(one):
                LOG.info("%s: starts (%s)", one.name, ", ".join(one.stages))
                _do(one, progress)
    else:
        _several(ones, study.at_once)
    return _result(recipe, ones, folder, progress)


def is_done(one: One) -> bool:
    """Whether every stage of a run is fresh."""
    return _linked(one) and all(fresh(one, stage) for stage in one.stages)


def fresh(one: One, stage: StageName) -> bool:
    return pipeline.is_fresh(pipeline.job(one.run, one.recipe, stage, Lines()), stage)


def todo(ones: Sequence[One]) -> dict[str, tuple[StageName, ...]]:
    """Run to the stages that are not fresh; what comes after one that is to be done is to be done, too."""
    left: dict[str, tuple[StageName, ...]] = {}
    for one in ones:
        at = 0
        if _linked(one) and not any(left[f"{need}-{one.seed}"] for need in one.needs):
            at = next((place for place, stage in enumerate(one.stages) if not fresh(one, stage)), len(one.stages))
        left[one.name] = one.stages[at:]
    return left


def expected(one: One, stage: StageName, ones: Sequence[One]) -> float | None:
    """Seconds that a stage should take: what it took with another seed of the same arm, else in another arm."""
    others = sorted(ones, key=lambda other: (other.arm != one.arm, other.seed))
    took = (other.run.stage(stage).get("seconds") for other in others if stage in other.stages)
    return next((seconds for seconds in took if seconds is not None), None)


def _study(recipe: Recipe) -> Study:
    if recipe.study is None:
        raise InputError(f"the recipe {recipe.name} has no `study:`", where="study")
    return recipe.study


def _one(recipe: Recipe, study: Study, folder: Path, name: str, seed: int) -> One:
    arm = study.arms[name]
    chain = []  # from the nearest
    above = arm.after
    while above is not None:
        chain.append(above)
        above = study.arms[above].after

    def maker(*stages: StageName) -> str:
        for other in chain:
            if {*stages} & {*study.arms[other].stages}:
                return other
        raise InputError(
            f"needs what {' or '.join(stages)} makes, and has neither that stage nor comes after an arm with it",
            where=f"study.arms.{name}",
            fix="add the stage, or `after:` an arm that has it",
        )

    def at(other: str) -> Path:
        return folder / f"{other}-{seed}"

    has = {*arm.stages}
    changes: dict[str, Any] = {f"{stage}.seed": seed for stage in _SEEDED}
    if "filter" in has and "generate" not in has:
        changes["filter.traces"] = [str(at(maker("generate")))]
    if "sft" in has and "filter" not in has:
        changes["sft.data"] = str(at(maker("filter")))
    made = [stage for stage in arm.stages if stage in _MAKES]
    role: Role = _MAKES[made[-1]] if made else "base"
    changes["eval.models"] = [role]
    plain = recipe.model_dump(mode="json") | {"study": None, "stages": list(arm.stages)}
    changed = recipes.build(plain, named={**changes, **arm.set}, where=f"study.arms.{name}")
    student = None
    if "grpo" in has:
        if "generate" not in has and not changed.grpo.problems and not changed.grpo.data:
            changed = recipes.build(changed.model_dump(mode="json"), named={"grpo.data": str(at(maker("generate")))})
        if "sft" not in has and changed.grpo.start == "student":
            other = maker("sft", "grpo")
            student = at(other) / ("grpo" if "grpo" in study.arms[other].stages else "student")
    return One(name, seed, Run(at(name)), changed, role, tuple(chain), student)


def _linked(one: One) -> bool:
    here = one.run.student
    return one.student is None or (here.is_symlink() and here.resolve() == one.student.resolve())


def _link(one: One) -> None:
    if one.student is None or _linked(one):
        return
    here = one.run.student
    if here.exists() and not here.is_symlink():
        raise InputError("holds a student of its own", where=str(here), fix="move it away: the arm brings another's")
    with writing(here):
        here.parent.mkdir(parents=True, exist_ok=True)
        here.unlink(missing_ok=True)
        here.symlink_to(os.path.relpath(one.student, here.parent), target_is_directory=True)


def _do(one: One, progress: Progress) -> None:
    """All stages of one run, told in its own log.txt, too."""
    with _logged(one.run):
        _link(one)
        for _ in pipeline.run_stages(one.run, one.recipe, one.stages, progress):
            pass


@contextlib.contextmanager
def _logged(run: Run) -> Iterator[None]:
    with writing(run.log):
        run.folder.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(run.log, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    LOG.addHandler(file)
    try:
        yield
    finally:
        LOG.removeHandler(file)
        file.close()


@dataclass
class _Working:
    one: One
    process: BaseProcess
    says: Connection = field(repr=False)


def _several(ones: Sequence[One], at_once: int) -> None:
    """As many runs at a time, each in a process of its own with its share of the cores.

    Raises:
        RunError, Stopped: one failed or was stopped; the others are told to stop, and go on the next time.
    """
    context = multiprocessing.get_context("spawn")
    threads = max(1, (os.cpu_count() or 1) // at_once)
    waiting, working = list(ones), list[_Working]()
    try:
        while waiting or working:
            busy = {(one.arm, one.seed) for one in [*waiting, *(each.one for each in working)]}
            ready = [one for one in waiting if not any((need, one.seed) in busy for need in one.needs)]
            for one in ready[: max(0, at_once - len(working))]:
                waiting.remove(one)
                if is_done(one):
                    break  # what waited for it may be ready now
                LOG.info("%s: starts (%s)", one.name, ", ".join(one.stages))
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_work, args=(one, threads, theirs), name=one.name)
                process.start()
                theirs.close()
                working.append(_Working(one, process, ours))
            else:
                if working:
                    wait([each.process.sentinel for each in working])
            for each in [each for each in working if not each.process.is_alive()]:
                working.remove(each)
                _ended(each)
    finally:
        for each in working:
            each.process.terminate()
        for each in working:
            each.process.join()


def _ended(each: _Working) -> None:
    each.process.join()
    status = each.process.exitcode
    try:
        stopped, said = each.says.recv() if each.says.poll() else (False, f"its process ended with status {status}")
    except EOFError:
        stopped, said = False, f"its process ended with status {status}"
    if stopped:
        raise Stopped(f"{each.one.name}: {said}")
    if status:
        raise RunError(f"{each.one.name}: {said}", fix=f"see {each.one.run.log}; the same command goes on from there")
    LOG.info("%s: done", each.one.name)


def _work(one: One, threads: int, says: Connection) -> None:
    """A worker's life: one run; tells why it failed."""
    parent.end_with_parent()
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # before torch is there
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    screen = logging.StreamHandler(sys.stderr)
    screen.setFormatter(logging.Formatter(f"{one.name}: %(message)s"))
    screen.setLevel(logging.INFO)
    LOG.addHandler(screen)
    LOG.setLevel(logging.DEBUG)
    try:
        _do(one, Lines())
    except DistillError as error:
        says.send((isinstance(error, Stopped), str(error)))
        sys.exit(1)
    except KeyboardInterrupt:
        says.send((True, "stopped; the same command goes on from there"))
        sys.exit(1)


def _result(recipe: Recipe, ones: Sequence[One], folder: Path, progress: Progress) -> Result:
    """study.json, made again only when an evaluation has changed."""
    study, path = _study(recipe), folder / "study.json"
    scored = [one for one in ones if "eval" in one.stages]
    told = {name: arm.description for name, arm in study.arms.items()}
    basis = [[one.arm, one.seed, one.run.stage("eval")] for one in scored]
    fingerprint = content_id("study", basis, told, study.against)
    if path.is_file():
        before = orjson.loads(path.read_bytes())
        if before.get("fingerprint") == fingerprint:
            return Result.model_validate(before)
    found: dict[str, dict[str, list[Measured]]] = {}
    cache: dict[str, list[Problem]] = {}
    for one in scored:
        for name, measured in _measured(one, cache, progress):
            found.setdefault(name, {}).setdefault(one.arm, []).append(measured)
    tables = [
        arms.table(name, of, told, [other for other in study.against if other in of]) for name, of in found.items()
    ]
    result = Result(study=recipe.name, fingerprint=fingerprint, about=arms.ABOUT, tables=tuple(tables))
    write_json(path, result.model_dump(mode="json"))
    return result


def _measured(one: One, cache: dict[str, list[Problem]], progress: Progress) -> Iterator[tuple[str, Measured]]:
    """The samples of a run's model on each set, read from the generations that its eval stored."""
    job = pipeline.job(one.run, one.recipe, "eval", progress)
    told = [Report.model_validate(each) for each in orjson.loads((one.run.eval / "report.json").read_bytes())["sets"]]
    config = one.recipe.eval
    for ref, report in zip(evaluate.problem_sets(job), told, strict=True):
        key = repr((ref, config.limit, config.protocol))
        if key not in cache:
            plain = bool(config.protocol) and not PROTOCOLS[config.protocol].system_prompt
            loaded = load_problems(ref, "test", config.limit)[0]
            cache[key] = [without_system(problem) for problem in loaded] if plain else loaded
        model = next(each for each in report.models if each.role == one.role)
        log, most = one.run.eval / f"{one.role}.jsonl", int(model.sampling["max_tokens"] or 0)
        identity = attempts.latest(log, cache[key])
        tried = attempts.judged(log, cache[key], identity, model.n, most, progress)
        values = metrics.values(tried, attempts.votes(cache[key]))
        yield report.set, Measured(one.seed, str(one.run.folder), model.n, most, tried, values)
