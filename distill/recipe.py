"""A recipe is the stages' configs in one YAML. Loads it, applies --set, and says where a typo is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from distill import resources
from distill.errors import InputError, from_validation, suggest
from distill.machine.slurm import Slurm
from distill.models import presets
from distill.run import Run
from distill.settings import meanings, overrides
from distill.stages.evaluate import Config as EvalConfig
from distill.stages.filter import Config as FilterConfig
from distill.stages.generate import Config as GenerateConfig
from distill.stages.grpo import Config as GrpoConfig
from distill.stages.sft import Config as SftConfig
from distill.types import Record

StageName = Literal["generate", "filter", "sft", "grpo", "eval"]
ALL_STAGES: tuple[StageName, ...] = ("generate", "filter", "sft", "grpo", "eval")
"""All stages, in their order."""
DEFAULT_STAGES: tuple[StageName, ...] = ("generate", "filter", "sft", "eval")
"""The stages of a recipe that names none."""
DEFAULT_RECIPE = "r1-distill"


class Launcher(Record):
    """How to start a stage elsewhere: `prefix python -m distill.cli STAGE --run DIR`."""

    prefix: tuple[str, ...] = ()
    """Command before the interpreter, such as `srun --gpus 8`, one word an item."""
    python: str = "python"
    """Python interpreter on the other side, which has distill installed."""


_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class Arm(Record):
    """One way to a model, gone once for each seed in a run folder of its own."""

    description: str = ""
    """Note on the arm for people; nothing reads it."""
    stages: tuple[StageName, ...] = Field(min_length=1)
    """Stages that the arm goes through itself, in this order."""
    after: str | None = None
    """Name of an earlier arm that this one goes on from, None for a start of its own: traces, training set, problems or
    student that its own stages do not make are those of that arm, or of the one before it, with the same seed."""
    set: dict[str, object] = {}
    """Changes of the recipe for this arm, by dotted name as in `--set`."""


class Study(Record):
    """Arms to compare, each with every seed, on the same unseen problems."""

    seeds: tuple[int, ...] = Field((1, 2, 3), min_length=1)
    """Seeds of every arm; each is that of sampling, selection, training, reinforcement and evaluation of one run."""
    arms: dict[str, Arm] = Field(min_length=1)
    """Arms in their order; those with an eval stage are the rows of the table."""
    against: tuple[str, ...] = ()
    """Names of arms from which the difference of every other is reported."""
    at_once: int = Field(1, ge=1)
    """Runs at the same time, each with its share of the cores."""

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        if len(self.seeds) != len({*self.seeds}):
            raise ValueError("a seed is named twice")
        earlier_arms: list[str] = []
        for name, arm in self.arms.items():
            if not re.match(_NAME, name):
                raise ValueError(f"the arm {name!r} cannot name a folder")
            if arm.after is not None and arm.after not in earlier_arms:
                raise ValueError(f"arms.{name}.after: there is no arm {arm.after!r} above it")
            earlier_arms.append(name)
        for name in self.against:
            if name not in self.arms or "eval" not in self.arms[name].stages:
                raise ValueError(f"against: there is no arm {name!r} with an eval stage")
        return self


class Recipe(Record):
    name: str = Field(pattern=_NAME)
    """Name of the recipe, after which the run folder is named; the file's name when left out."""
    description: str = ""
    """Note on the recipe for people, shown by `distill ls recipes`."""
    teacher: str
    """Model that is learnt from: a preset, a Hub id, a local folder or a preset's .yaml."""
    student: str
    """Model that learns: a preset, a Hub id, a local folder or a preset's .yaml."""
    student_facts: dict[str, object] = {}
    """Facts that replace those of the student's preset in this recipe, such as its chat `template`."""
    stages: tuple[StageName, ...] = DEFAULT_STAGES
    """Stages that `distill run` goes through."""
    generate: GenerateConfig = GenerateConfig()
    """Settings of sampling the teacher's traces."""
    filter: FilterConfig = Field(default_factory=FilterConfig)
    """Settings of judging the traces and choosing the training set."""
    sft: SftConfig = SftConfig()
    """Settings of fine-tuning the student on the training set."""
    grpo: GrpoConfig = Field(default_factory=GrpoConfig)
    """Settings of reinforcement learning on problems with rewards."""
    eval: EvalConfig = EvalConfig()
    """Settings of measuring the teacher and the student."""
    launchers: dict[StageName, Launcher] = {}
    """Commands that start a stage in another environment than this one, by stage."""
    slurm: Slurm = Slurm()
    """Settings of the stages' jobs on a cluster, used with `--on slurm`."""
    study: Study | None = None
    """Several runs to compare; None for a recipe of one run."""


def names() -> list[str]:
    return resources.names("recipes")


def load(ref: str, changes: Sequence[str] = (), option_changes: Mapping[str, object] | None = None) -> Recipe:
    """The recipe of a shipped name or a .yaml path, with `a.b=value` changes.

    Args:
        option_changes: changes that come from an option of their own, as dotted name to value.

    Raises:
        InputError: unknown recipe, field, kind or wrong type; names the place and the choices.
    """
    path = resources.find("recipes", ref, "recipe")
    return build(_read_yaml(path), changes, option_changes, where=str(path))


def resolve(
    ref: str | None,
    folder: Path | None = None,
    changes: Sequence[str] = (),
    option_changes: Mapping[str, object] | None = None,
) -> tuple[Recipe, Run]:
    """The recipe and the run folder that are meant where either may be left out.

    A named recipe is read afresh. Without one, the run folder's own recipe counts, as far as it has one, else the
    recipe that the named preset belongs to, else the default.

    Args:
        ref: a shipped name or a .yaml.
        folder: the run folder; None: runs/RECIPE.
        option_changes: changes that come from an option of their own, as dotted name to value.

    Raises:
        InputError: unknown recipe, preset, field, kind or wrong type.
    """
    if ref is not None:
        recipe = load(ref, changes, option_changes)
        return recipe, Run(folder or Path("runs") / recipe.name)
    recipe_name = _recipe_of_preset(option_changes or {}) or DEFAULT_RECIPE
    run = Run(folder or Path("runs") / recipe_name)
    stored = run.state().get("recipe")
    if stored:
        return build(dict(stored), changes, option_changes, where=str(run.json)), run
    return load(recipe_name, changes, option_changes), run


def _recipe_of_preset(option_changes: Mapping[str, object]) -> str | None:
    if "teacher" in option_changes:
        return presets.teacher(str(option_changes["teacher"])).recipe
    if "student" in option_changes:
        return presets.student(str(option_changes["student"])).recipe
    return None


def _read_yaml(path: Path, extended_by: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A recipe's YAML, laid over that of the recipe which it `extends`, mapping by mapping."""
    settings = resources.load_yaml(path)
    settings.setdefault("name", path.stem)
    extended = settings.pop("extends", None)
    if extended is None:
        return settings
    base_path = resources.find("recipes", str(extended), "recipe")
    if base_path.resolve() in (path.resolve(), *extended_by):
        raise InputError(f"extends {extended}, which extends it", where=str(path))
    return _merged(settings, _read_yaml(base_path, (*extended_by, path.resolve())))


def _merged(changes: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in changes.items():
        if isinstance(value, dict) and isinstance(base.get(name), dict):
            merged[name] = _merged(value, base[name])
        else:
            merged[name] = value
    return merged


def build(
    raw: dict[str, Any],
    changes: Sequence[str] = (),
    option_changes: Mapping[str, object] | None = None,
    where: str = "recipe",
) -> Recipe:
    """A checked recipe from plain data, such as run.json keeps."""
    overrides.apply_all(raw, changes, option_changes)
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as error:
        raise _with_choices(error, where) from error
    if recipe.student_facts:
        student(recipe)
    for stage in recipe.slurm.stages:
        if stage not in ALL_STAGES:
            raise InputError(f"slurm.stages.{stage}: no such stage", where=where, fix=suggest(stage, ALL_STAGES))
        recipe.slurm.for_stage(stage)
    return recipe


def student(recipe: Recipe) -> presets.Student:
    """The preset of a recipe's student, with the recipe's own facts in place of the preset's."""
    preset = presets.student(recipe.student)
    if not recipe.student_facts:
        return preset
    try:
        return presets.Student.model_validate({**preset.model_dump(), **recipe.student_facts})
    except ValidationError as error:
        raise from_validation(error, "recipe", "student_facts", presets.Student) from error


def _with_choices(error: ValidationError, where: str) -> InputError:
    invalid = from_validation(error, where, config=Recipe)
    if invalid.fix:
        return invalid
    for item in error.errors():
        if item["type"] == "extra_forbidden":
            record = meanings.record_at(Recipe, item["loc"][:-1])
            choices = record.model_fields if record else {}
            return InputError(invalid.message, where=where, fix=suggest(str(item["loc"][-1]), choices))
    return invalid
