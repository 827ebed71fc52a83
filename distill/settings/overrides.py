"""Settings changed by name, `a.b=value`: read, and put into plain data. The one reader of `--set`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import yaml
from pydantic import ValidationError

from distill import resources
from distill.errors import InputError, from_validation, suggest
from distill.types import Record

C = TypeVar("C", bound=Record)


class Override(NamedTuple):
    """A change of one setting."""

    name: str
    """The setting's dotted name."""
    value: object


def parse(change: str, form: str = "a.b=value") -> Override:
    """Read a change; its value is YAML.

    Args:
        form: how a change is written where it is given, for the error.

    Raises:
        InputError: it has no name or no `=`, or its value is not YAML.
    """
    name, equals, text = change.partition("=")
    if not equals or not name:
        raise InputError(f"--set {change!r} is not of the form {form}")
    try:
        return Override(name, resources.parse(text))
    except yaml.YAMLError as error:
        raise InputError(f"--set {name}: the value {text!r} is not YAML") from error


def apply(settings: dict[str, object], name: str, value: object) -> None:
    """Put a value at a dotted name of nested mappings; mappings on the way are made where there are none.

    Raises:
        InputError: a part of the name holds a value that has no fields.
    """
    *path, key = name.split(".")
    mapping = settings
    for depth, part in enumerate(path):
        child = mapping.setdefault(part, {})
        if child is None or child is True:  # `length:` or `length: true` switch a check on with its defaults
            child = {}
            mapping[part] = child
        if not isinstance(child, dict):
            raise InputError(f"--set {name}: {'.'.join(path[: depth + 1])} holds {child!r}, which has no fields")
        mapping = child
    mapping[key] = value


def apply_all(
    settings: dict[str, object], changes: Sequence[str], option_changes: Mapping[str, object] | None = None
) -> None:
    """Apply changes in their order, after those that come from an option of their own.

    Raises:
        InputError: a change cannot be read or does not fit.
    """
    for name, value in (option_changes or {}).items():
        apply(settings, name, value)
    for change in changes:
        apply(settings, *parse(change))


def configure(config: type[C], group: str, options: Mapping[str, object], changes: Sequence[str]) -> C:
    """The settings of something that no recipe holds, from its defaults, options and changes `group.name=value`.

    Args:
        options: what options say, by field; None is not said.

    Raises:
        InputError: an unknown name, or a value that does not fit.
    """
    values = {name: value for name, value in options.items() if value is not None}
    for change in changes:
        name, value = parse(change, form=f"{group}.name=value")
        field = name.removeprefix(f"{group}.")
        if field == name or field not in config.model_fields:
            setting_names = [f"{group}.{field_name}" for field_name in config.model_fields]
            raise InputError(f"--set {name}: no such setting of {group}", fix=suggest(name, setting_names))
        values[field] = value
    try:
        return config.model_validate(values)
    except ValidationError as error:
        raise from_validation(error, "settings", group, config) from error
