"""What a study consists of: every arm with every seed, what each takes from others, and what is left to do."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from distill import pipeline
from distill import recipe as recipes
from distill.errors import InputError, writing
from distill.recipe import Recipe, StageName, Study
from distill.run import Run
from distill.stages.evaluate import Role

_MAKES: dict[StageName, Role] = {"generate": "teacher", "sft": "sft", "grpo": "grpo"}


@dataclass(frozen=True)
class StudyRun:
    """One arm with one seed."""

    arm: str
    seed: int
    run: Run
    recipe: Recipe
    role: Role
    """The model that the arm is about."""
    prerequisites: tuple[str, ...] = ()
    """Names of the runs that this run goes on from."""
    student: Path | None = None
    """The folder of another run to which this run's `student/` is a link."""

    @property
    def stages(self) -> tuple[StageName, ...]:
        return self.recipe.stages

    @property
    def name(self) -> str:
        return self.run.folder.name


class ArmOutlook(NamedTuple):
    """What is left to do of an arm, and how long it should take."""

    runs: list[StudyRun]
    done: int
    """Runs with nothing left to do."""
    stages_left: int
    """Stages to be done, over all runs of the arm."""
    seconds: float
    """Seconds that the stages left should take, those that were never measured not counted."""
    unmeasured: set[StageName]
    """Stages left of which nothing says how long they take."""


def runs(recipe: Recipe, folder: Path) -> list[StudyRun]:
    """The runs of a study: all arms of a seed, then those of the next.

    Raises:
        InputError: an arm needs what no arm before it makes, or its changes are wrong.
    """
    study = study_of(recipe)
    return [_arm_run(recipe, study, folder, arm, seed) for seed in study.seeds for arm in study.arms]


def study_of(recipe: Recipe) -> Study:
    """The recipe's study.

    Raises:
        InputError: it has none.
    """
    if recipe.study is None:
        raise InputError(f"the recipe {recipe.name} has no `study:`", where="study")
    return recipe.study


def is_done(arm_run: StudyRun) -> bool:
    """Whether every stage of a run is fresh."""
    return is_linked(arm_run) and not pipeline.stale_stages(arm_run.run, arm_run.recipe, arm_run.stages)


def todo(arm_runs: Sequence[StudyRun]) -> dict[str, tuple[StageName, ...]]:
    """The stages that are not fresh, by run; what comes after one that is to be done is to be done, too."""
    stale_stages: dict[str, tuple[StageName, ...]] = {}
    for arm_run in arm_runs:
        stages_left = arm_run.stages
        if is_linked(arm_run) and not any(stale_stages[name] for name in arm_run.prerequisites):
            stages_left = pipeline.stale_stages(arm_run.run, arm_run.recipe, arm_run.stages)
        stale_stages[arm_run.name] = stages_left
    return stale_stages


def outlook(arm_runs: Sequence[StudyRun]) -> dict[str, ArmOutlook]:
    """What is left to do, by arm."""
    stale_stages = todo(arm_runs)
    runs_by_arm: dict[str, list[StudyRun]] = {}
    for arm_run in arm_runs:
        runs_by_arm.setdefault(arm_run.arm, []).append(arm_run)
    outlooks = {}
    for arm_name, runs_of_arm in runs_by_arm.items():
        stages_left = [(arm_run, stage) for arm_run in runs_of_arm for stage in stale_stages[arm_run.name]]
        durations = [(stage, expected_seconds(arm_run, stage, arm_runs)) for arm_run, stage in stages_left]
        outlooks[arm_name] = ArmOutlook(
            runs=runs_of_arm,
            done=sum(not stale_stages[arm_run.name] for arm_run in runs_of_arm),
            stages_left=len(stages_left),
            seconds=sum(seconds for _, seconds in durations if seconds is not None),
            unmeasured={stage for stage, seconds in durations if seconds is None},
        )
    return outlooks


def sources(arm_run: StudyRun) -> dict[str, list[str]]:
    """What a run reads of other arms, such as `traces`, and the arms by name."""
    recipe = arm_run.recipe
    folders: list[tuple[str, str]] = []
    if "filter" in arm_run.stages:
        folders += [("traces", folder) for folder in recipe.filter.traces]
    if "sft" in arm_run.stages and recipe.sft.data:
        folders.append(("set", recipe.sft.data))
    if "grpo" in arm_run.stages and recipe.grpo.data:
        folders.append(("problems", recipe.grpo.data))
    if arm_run.student:
        folders.append(("student", str(arm_run.student.parent)))
    arms_by_content: dict[str, list[str]] = {}
    for content, folder in folders:
        arm_name = Path(folder).name.removesuffix(f"-{arm_run.seed}")
        arms_by_content.setdefault(content, []).append(arm_name)
    return arms_by_content


def expected_seconds(arm_run: StudyRun, stage: StageName, arm_runs: Sequence[StudyRun]) -> float | None:
    """Seconds that a stage should take: what it took with another seed of the same arm, else in another arm."""
    candidates = sorted(arm_runs, key=lambda other: (other.arm != arm_run.arm, other.seed))
    durations = (other.run.stage(stage).get("seconds") for other in candidates if stage in other.stages)
    return next((seconds for seconds in durations if seconds is not None), None)


def _arm_run(recipe: Recipe, study: Study, folder: Path, arm_name: str, seed: int) -> StudyRun:
    arm = study.arms[arm_name]
    ancestors = []  # from the nearest
    ancestor = arm.after
    while ancestor is not None:
        ancestors.append(ancestor)
        ancestor = study.arms[ancestor].after

    def arm_making(*stages: StageName) -> str:
        for ancestor_name in ancestors:
            if {*stages} & {*study.arms[ancestor_name].stages}:
                return ancestor_name
        raise InputError(
            f"needs what {' or '.join(stages)} makes, and has neither that stage nor comes after an arm with it",
            where=f"study.arms.{arm_name}",
            fix="add the stage, or `after:` an arm that has it",
        )

    def folder_of(name: str) -> Path:
        return folder / f"{name}-{seed}"

    own_stages = {*arm.stages}
    changes: dict[str, object] = {f"{stage}.seed": seed for stage in recipes.ALL_STAGES}
    if "filter" in own_stages and "generate" not in own_stages:
        changes["filter.traces"] = [str(folder_of(arm_making("generate")))]
    if "sft" in own_stages and "filter" not in own_stages:
        changes["sft.data"] = str(folder_of(arm_making("filter")))
    trained_stages = [stage for stage in arm.stages if stage in _MAKES]
    role: Role = _MAKES[trained_stages[-1]] if trained_stages else "base"
    changes["eval.models"] = [role]
    settings = recipe.model_dump(mode="json") | {"study": None, "stages": list(arm.stages)}
    changed = recipes.build(settings, option_changes={**changes, **arm.set}, where=f"study.arms.{arm_name}")
    student = None
    if "grpo" in own_stages:
        if "generate" not in own_stages and not changed.grpo.problems and not changed.grpo.data:
            prompts = str(folder_of(arm_making("generate")))
            changed = recipes.build(changed.model_dump(mode="json"), option_changes={"grpo.data": prompts})
        if "sft" not in own_stages and changed.grpo.start == "student":
            ancestor_name = arm_making("sft", "grpo")
            student = folder_of(ancestor_name) / ("grpo" if "grpo" in study.arms[ancestor_name].stages else "student")
    prerequisites = tuple(folder_of(ancestor_name).name for ancestor_name in ancestors)
    return StudyRun(arm_name, seed, Run(folder_of(arm_name)), changed, role, prerequisites, student)


def is_linked(arm_run: StudyRun) -> bool:
    """Whether `student/` is the link that the arm asks for, if it asks for one."""
    link_path = arm_run.run.student
    return arm_run.student is None or (link_path.is_symlink() and link_path.resolve() == arm_run.student.resolve())


def link(arm_run: StudyRun) -> None:
    """Make `student/` the link that the arm asks for.

    Raises:
        InputError: the run has a student of its own.
    """
    if arm_run.student is None or is_linked(arm_run):
        return
    link_path = arm_run.run.student
    if link_path.exists() and not link_path.is_symlink():
        raise InputError(
            "holds a student of its own", where=str(link_path), fix="move it away: the arm brings another's"
        )
    with writing(link_path):
        link_path.parent.mkdir(parents=True, exist_ok=True)
        link_path.unlink(missing_ok=True)
        link_path.symlink_to(os.path.relpath(arm_run.student, link_path.parent), target_is_directory=True)
