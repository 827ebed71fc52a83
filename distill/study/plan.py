"""What a study consists of: every arm with every seed, what each takes from others, and what is left to do."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill import pipeline
from distill import recipe as recipes
from distill.errors import InputError, writing
from distill.progress import Lines
from distill.recipe import Recipe, StageName, Study
from distill.run import Run
from distill.stages.evaluate import Role

_MAKES: dict[StageName, Role] = {"generate": "teacher", "sft": "sft", "grpo": "grpo"}


@dataclass(frozen=True)
class One:
    """One arm with one seed."""

    arm: str
    seed: int
    run: Run
    recipe: Recipe
    role: Role
    """The model that the arm is about."""
    before: tuple[str, ...] = ()
    """Names of the runs that it goes on from."""
    student: Path | None = None
    """The folder of another run that its own `student/` is a link to."""

    @property
    def stages(self) -> tuple[StageName, ...]:
        return self.recipe.stages

    @property
    def name(self) -> str:
        return self.run.folder.name


def runs(recipe: Recipe, folder: Path) -> list[One]:
    """The runs of a study: all arms of a seed, then those of the next.

    Raises:
        InputError: an arm needs what no arm before it makes, or its changes are wrong.
    """
    study = of(recipe)
    return [_one(recipe, study, folder, arm, seed) for seed in study.seeds for arm in study.arms]


def of(recipe: Recipe) -> Study:
    if recipe.study is None:
        raise InputError(f"the recipe {recipe.name} has no `study:`", where="study")
    return recipe.study


def is_done(one: One) -> bool:
    """Whether every stage of a run is fresh."""
    return linked(one) and all(fresh(one, stage) for stage in one.stages)


def fresh(one: One, stage: StageName) -> bool:
    return pipeline.is_fresh(pipeline.job(one.run, one.recipe, stage, Lines()), stage)


def todo(ones: Sequence[One]) -> dict[str, tuple[StageName, ...]]:
    """Run to the stages that are not fresh; what comes after one that is to be done is to be done, too."""
    left: dict[str, tuple[StageName, ...]] = {}
    for one in ones:
        at = 0
        if linked(one) and not any(left[name] for name in one.before):
            at = next((place for place, stage in enumerate(one.stages) if not fresh(one, stage)), len(one.stages))
        left[one.name] = one.stages[at:]
    return left


def expected(one: One, stage: StageName, ones: Sequence[One]) -> float | None:
    """Seconds that a stage should take: what it took with another seed of the same arm, else in another arm."""
    others = sorted(ones, key=lambda other: (other.arm != one.arm, other.seed))
    took = (other.run.stage(stage).get("seconds") for other in others if stage in other.stages)
    return next((seconds for seconds in took if seconds is not None), None)


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
    changes: dict[str, Any] = {f"{stage}.seed": seed for stage in recipes.ALL}
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
    return One(name, seed, Run(at(name)), changed, role, tuple(at(other).name for other in chain), student)


def linked(one: One) -> bool:
    here = one.run.student
    return one.student is None or (here.is_symlink() and here.resolve() == one.student.resolve())


def link(one: One) -> None:
    if one.student is None or linked(one):
        return
    here = one.run.student
    if here.exists() and not here.is_symlink():
        raise InputError("holds a student of its own", where=str(here), fix="move it away: the arm brings another's")
    with writing(here):
        here.parent.mkdir(parents=True, exist_ok=True)
        here.unlink(missing_ok=True)
        here.symlink_to(os.path.relpath(one.student, here.parent), target_is_directory=True)
