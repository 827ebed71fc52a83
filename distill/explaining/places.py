"""Every setting of a recipe by its dotted place, with its type, default and meaning.

A place is what `--set` takes. Two of its parts are no names of fields: the kind of a family (`filter.checks.length`,
`generate.backend.vllm`), and a name of the user's own (`study.arms.NAME.stages`).
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from distill import plugins
from distill.errors import InputError, suggest
from distill.machine.slurm import Slurm
from distill.models.presets import Student
from distill.recipe import Recipe
from distill.settings import meanings
from distill.stages import publish, report
from distill.types import Record

FAMILIES = {
    "filter.checks": "filters",
    "grpo.rewards": "rewards",
    "generate.backend": "backends",
    "eval.backend": "backends",
    "verifiers": "verifiers",
    "verifiers.code.sandbox": "sandbox",
}
"""Places that hold kinds, each with its family."""
NAMED_KINDS = ("filter.checks", "grpo.rewards")
"""Places with many kinds, each under a name that is its kind unless its settings say another; the others hold one."""
LOOSE: dict[str, type[Record]] = {"student_facts": Student, "slurm.stages.NAME": Slurm}
"""Places that a recipe keeps as plain data and validates later, each with the class that does."""
COMMANDS: dict[str, type[Record]] = {"publish": publish.Config, "report": report.Config}
"""Commands whose settings no recipe holds, which `--set` reaches as `publish.to`."""
_COMMAND_MEANINGS = {
    "publish": "Settings of `distill publish`, which no recipe holds.",
    "report": "Settings of `distill report`, which no recipe holds.",
    "verifiers": "Kinds that a problem set names in `verifier`, each with its settings.",
}
_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
_PLAIN_TYPES: dict[object, str] = {
    bool: "true | false",
    int: "int",
    float: "number",
    str: "text",
    Path: "path",
    types.NoneType: "None",
}
NAME = "NAME"
"""What stands in a place for a name of the user's own."""


class Setting(Record):
    """One setting, in words."""

    place: str
    """Dotted place, the setting's own name last."""
    type: str
    default: str
    """What holds where a recipe says nothing; empty where there are further settings instead."""
    meaning: str
    is_group: bool = False
    """Whether there are settings below this place."""

    @property
    def name(self) -> str:
        return self.place.rpartition(".")[2]


def below(place: str = "") -> list[Setting]:
    """The settings directly below a dotted place, or the one that is there; all top-level places without a place.

    Raises:
        InputError: there is no such place; names the nearest.
    """
    reached = ""
    for part in place.split(".") if place else ():
        names = [setting.name for setting in _children(reached)]
        if not names:
            raise InputError(f"no such setting: {place}", fix=f"{reached} has no settings of its own")
        if part not in names and names != [NAME]:
            raise InputError(f"no such setting: {place}", fix=suggest(part, names))
        reached = _joined(reached, part if part in names else NAME)
    parent = reached.rpartition(".")[0]
    return _children(reached) or [setting for setting in _children(parent) if setting.place == reached]


def every() -> Iterator[Setting]:
    """All settings, each before those below it."""
    pending = _children("")
    while pending:
        setting = pending.pop(0)
        yield setting
        pending = [*_children(setting.place), *pending]


def _children(place: str) -> list[Setting]:
    """The settings directly below a place, whose names of the user's own are NAME."""
    if place in FAMILIES:
        return [_kind(place, FAMILIES[place], kind) for kind in plugins.names(FAMILIES[place])]
    annotation = _type_at(place)
    record = meanings.record_in(annotation)
    if record is None:
        return _named(place, annotation)
    own_names = place.split(".") if place in LOOSE else []  # what lies in `slurm.stages` has no `stages` again
    children = [_field(place, record, name) for name in record.model_fields if name not in own_names]
    if not place:
        children += [_command(name) for name in _COMMAND_MEANINGS]
    return children


def _named(place: str, annotation: object) -> list[Setting]:
    """The one place below a mapping whose names are the user's, where there are settings below these."""
    named_place = _joined(place, NAME)
    record: type[BaseModel] | None = LOOSE.get(named_place)
    for option in meanings.options(annotation):
        if record is None and typing.get_origin(option) is dict:
            record = meanings.record_in(typing.get_args(option)[1])
    if record is None:
        return []
    text = (record.__doc__ or "").strip().split("\n")[0]
    return [Setting(place=named_place, type="settings", default="", meaning=text, is_group=True)]


def _kind(place: str, family: str, kind: str) -> Setting:
    has_settings = bool(_config_of(family, kind).model_fields)
    type_text = "settings" if has_settings else "no settings"
    meaning = plugins.describe(family, kind)
    return Setting(place=_joined(place, kind), type=type_text, default="", meaning=meaning, is_group=has_settings)


def _command(name: str) -> Setting:
    return Setting(place=name, type="settings", default="", meaning=_COMMAND_MEANINGS[name], is_group=True)


def _field(place: str, record: type[BaseModel], name: str) -> Setting:
    field = record.model_fields[name]
    own_place = _joined(place, name)
    is_group = own_place in FAMILIES or bool(_children(own_place))
    return Setting(
        place=own_place,
        type=_type_text(own_place, field),
        default="" if place in LOOSE else _default_text(record, name),
        meaning=meanings.of(record).get(name, ""),
        is_group=is_group,
    )


def _type_at(place: str) -> object:
    """The class or annotation of what a place holds; None for a place that no class describes."""
    if not place:
        return Recipe
    parent, _, name = place.rpartition(".")
    if parent in FAMILIES:
        return _config_of(FAMILIES[parent], name)
    return LOOSE.get(place) or COMMANDS.get(place) or meanings.inner(_type_at(parent), name)


def _config_of(family: str, kind: str) -> type[Record]:
    config: type[Record] = plugins.load(family, kind).Config
    return config


def _joined(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _type_text(place: str, field: FieldInfo) -> str:
    if place in FAMILIES:
        return "kinds by name" if place in NAMED_KINDS else "a kind"
    bounds = [
        f"{sign} {bound:,g}"
        for constraint in field.metadata
        for name, sign in _BOUNDS.items()
        if (bound := getattr(constraint, name, None)) is not None
    ]
    return _annotation_text(field.annotation, " ".join(["", ", ".join(bounds)]).rstrip())


def _annotation_text(annotation: object, bounds: str = "") -> str:
    texts: dict[str, None] = {}
    for option in meanings.options(annotation):
        texts |= dict.fromkeys(_option_texts(option, bounds))
    return " | ".join(texts)


def _option_texts(option: object, bounds: str) -> list[str]:
    arguments = typing.get_args(option)
    origin = typing.get_origin(option)
    if origin is typing.Literal:
        return [str(choice) for choice in arguments]
    if origin in (tuple, list):
        return [f"list of {_annotation_text(arguments[0])}"]
    if origin is dict:
        value_text = _annotation_text(arguments[1])
        return [f"{value_text} by name" if value_text != "anything" else "mapping"]
    if meanings.record_in(option) is not None:
        return ["settings"]
    if option in (int, float):
        return [_PLAIN_TYPES[option] + bounds]
    return [_PLAIN_TYPES.get(option, "anything")]


def _default_text(record: type[BaseModel], name: str) -> str:
    field = record.model_fields[name]
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True, validated_data={})
    if default is None or isinstance(default, BaseModel):
        return "None" if default is None else ""
    plain = record.model_construct().model_dump(mode="json", include={name}, warnings=False)[name]
    return plain if plain and isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
