"""A recipe is the stages' configs in one YAML. Loads it, applies --set, and says where a typo is."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from distill import overrides, plugins, resources, rewards
from distill.errors import InputError, from_validation, suggest
from distill.machine.slurm import Slurm
from distill.models import presets
from distill.run import Run
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


_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class Arm(Record):
    """One way to a model, gone once for each seed in a run folder of its own."""

    description: str = ""
    stages: tuple[StageName, ...] = Field(min_length=1)
    after: str | None = None
    """The arm that this one goes on from: traces, training set, problems or student that its own stages do not make are
    those of that arm, or of the one before it, with the same seed."""
    set: dict[str, Any] = {}
    """Changes of the recipe for this arm, by dotted name as in `--set`."""


class Study(Record):
    """Arms to compare, each with every seed, on the same unseen problems."""

    seeds: tuple[int, ...] = Field((1, 2, 3), min_length=1)
    """Seeds, each that of sampling, selection, training, reinforcement and evaluation of one run of every arm."""
    arms: dict[str, Arm] = Field(min_length=1)
    """Arms in their order; those with an eval stage are the rows of the table."""
    against: tuple[str, ...] = ()
    """Arms from which the difference of every other is reported."""
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
    description: str = ""
    teacher: str
    """The teacher: a preset, a Hub id, a local folder or a preset's .yaml."""
    student: str
    """The student: a preset, a Hub id, a local folder or a preset's .yaml."""
    student_facts: dict[str, Any] = {}
    """Facts that replace those of the student's preset in this recipe, such as its chat `template`."""
    stages: tuple[StageName, ...] = DEFAULT_STAGES
    """Stages that `distill run` goes through."""
    generate: GenerateConfig = GenerateConfig()
    filter: FilterConfig = FilterConfig()
    sft: SftConfig = SftConfig()
    grpo: GrpoConfig = GrpoConfig()
    eval: EvalConfig = EvalConfig()
    launchers: dict[StageName, Launcher] = {}
    """Stages that need another environment than this one."""
    slurm: Slurm = Slurm()
    """The stages' jobs on a cluster, with `--on slurm`."""
    study: Study | None = None
    """Several runs to compare, instead of one."""


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
        return build(stored, changes, option_changes, where=str(run.json)), run
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
    for name, settings in recipe.filter.active().items():
        plugins.configure("filters", settings, name=name, where=f"filter.checks.{name}")
    rewards.configure(recipe.grpo.rewards)
    if recipe.student_facts:
        student(recipe)
    for location, options in (("generate.backend", recipe.generate.backend), ("eval.backend", recipe.eval.backend)):
        if options.get("kind", "auto") != "auto":
            plugins.configure("backends", options, where=location)
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
        raise from_validation(error, "recipe", "student_facts") from error


def _with_choices(error: ValidationError, where: str) -> InputError:
    invalid = from_validation(error, where)
    for item in error.errors():
        if item["type"] == "extra_forbidden":
            choices = _fields_at(item["loc"][:-1])
            return InputError(invalid.message, where=where, fix=suggest(str(item["loc"][-1]), choices))
    return invalid


def _fields_at(location: tuple[int | str, ...]) -> list[str]:
    """Field names of the config at a dotted place of the recipe."""
    config_type: Any = Recipe
    for part in location:
        if typing.get_origin(config_type) is dict:  # its key is the user's
            config_type = typing.get_args(config_type)[1]
            continue
        is_field = _is_record(config_type) and part in config_type.model_fields
        config_type = config_type.model_fields[str(part)].annotation if is_field else None
        if typing.get_origin(config_type) in (types.UnionType, typing.Union):
            config_type = next((option for option in typing.get_args(config_type) if _is_record(option)), None)
    return list(config_type.model_fields) if _is_record(config_type) else []


def _is_record(config_type: Any) -> bool:
    return isinstance(config_type, type) and issubclass(config_type, Record)
