"""Settings of a stage that no recipe holds: its options and `--set STAGE.NAME=VALUE`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from distill import resources
from distill.errors import InputError, from_validation, suggest
from distill.types import Record

C = TypeVar("C", bound=Record)


def build(config: type[C], stage: str, named: Mapping[str, Any], changes: Sequence[str]) -> C:
    """The settings of a stage, built from its defaults, the options and `--set`.

    Args:
        named: what options say, by field; None is not said.

    Raises:
        InputError: an unknown name, or a value that does not fit.
    """
    values = {name: value for name, value in named.items() if value is not None}
    for change in changes:
        name, equals, text = change.partition("=")
        field = name.removeprefix(f"{stage}.")
        if not equals:
            raise InputError(f"--set {change!r} is not of the form {stage}.name=value")
        if field == name or field not in config.model_fields:
            setting_names = [f"{stage}.{field_name}" for field_name in config.model_fields]
            raise InputError(f"--set {name}: no such setting of {stage}", fix=suggest(name, setting_names))
        try:
            values[field] = resources.parse(text)
        except yaml.YAMLError as error:
            raise InputError(f"--set {name}: the value {text!r} is not YAML") from error
    try:
        return config.model_validate(values)
    except ValidationError as error:
        raise from_validation(error, "settings", stage, config) from error
