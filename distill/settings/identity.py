"""Which settings can change a result, for the fingerprints of stages.

A fingerprint is for the years: it holds only settings that can change a stage's result (`NO_RESULT` marks the others),
and only those that are set away from their defaults, so that a new setting makes no old work stale. It is kept in
run.json in the clear, so that a stage which starts again can say why.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Iterator, Mapping

import orjson
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from distill.plugins import ByName, Chosen
from distill.settings import meanings
from distill.types import NoResult, Record

Settings = dict[str, object]
"""Dotted names of settings that differ from their defaults, to their values as JSON has them."""
LOCAL_ENGINES = frozenset({"auto", "vllm", "transformers"})
"""Backends that sample the same model with the same parameters; which of them did is no part of a result."""
_SHOWN = 60
"""Characters of a value that a reason shows."""


def settings_of(config: Record, prefix: str = "") -> Settings:
    """The settings of a config that can change a result and differ from their defaults.

    Args:
        prefix: put before every name.
    """
    plain = config.model_dump(mode="json")
    named = _changed(type(config), plain, _defaults(type(config)), prefix, dict(config))
    return dict(sorted(_as_stored(dict(named)).items()))


def has_result(field: FieldInfo) -> bool:
    """Whether a setting can change what comes of a stage."""
    return not any(isinstance(mark, NoResult) for mark in field.metadata)


def record_in(annotation: object) -> type[BaseModel] | None:
    """The kind of Record that a field holds, alone, or beside other types, or by names; None if it holds none."""
    for option in meanings.options(annotation):
        by_name = typing.get_origin(option) is dict
        if record := meanings.record_in(typing.get_args(option)[1] if by_name else option):
            return record
    return None


def changed_settings(earlier: Settings, current: Settings) -> list[str]:
    """What differs between two states of settings, as `learning_rate 1e-05 → 2e-05`."""
    return [
        f"{name} {_shown(earlier, name)} → {_shown(current, name)}"
        for name in sorted({*earlier, *current})
        if earlier.get(name, _DEFAULT) != current.get(name, _DEFAULT)
    ]


_DEFAULT = object()


def _shown(settings: Settings, name: str) -> str:
    if name not in settings:
        return "default"
    text = json.dumps(settings[name], ensure_ascii=False)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _as_stored(settings: Settings) -> Settings:
    """Settings as they come back from run.json."""
    stored: Settings = orjson.loads(orjson.dumps(settings))
    return stored


def _defaults(record_type: type[BaseModel]) -> Settings:
    """The defaults of a record's fields as JSON has them; a field that must be given is not among them."""
    return {
        name: to_jsonable_python(field.get_default(call_default_factory=True))
        for name, field in record_type.model_fields.items()
        if not field.is_required()
    }


def _changed(
    record_type: type[BaseModel], plain: Settings, defaults: Settings, prefix: str, values: Settings
) -> Iterator[tuple[str, object]]:
    """Names and values of a record's settings that have a result and differ from `defaults`.

    Args:
        values: the record's fields as they are, not as JSON has them: kinds' settings among them.
    """
    for field_name, field in record_type.model_fields.items():
        if not has_result(field):
            continue
        name = prefix + field_name
        value = plain.get(field_name)
        default = defaults.get(field_name, _DEFAULT)
        if isinstance(chosen := values.get(field_name), Chosen):
            yield from _changed_kind(chosen, name, chosen.default)
        elif any(isinstance(mark, ByName) for mark in field.metadata):
            yield from _changed_kinds(values.get(field_name), name, default)
        elif (inner := record_in(field.annotation)) and isinstance(value, dict):
            yield from _changed_record(inner, name, value, default, by_name=typing.get_origin(field.annotation) is dict)
        elif value != default:
            yield name, value


def _changed_record(
    record_type: type[BaseModel], name: str, value: Settings, default: object, *, by_name: bool
) -> Iterator[tuple[str, object]]:
    if by_name:
        for key, part in value.items():
            assert isinstance(part, dict)
            yield f"{name}.{key}", {}
            yield from _changed(record_type, part, _defaults(record_type), f"{name}.{key}.", {})
        return
    if not isinstance(default, dict):  # that it is there at all is a setting
        yield name, {}
        default = _defaults(record_type)
    yield from _changed(record_type, value, default, f"{name}.", {})


def _changed_kinds(choices: object, name: str, default: object) -> Iterator[tuple[str, object]]:
    """Settings of checks or rewards by their names in their order."""
    active = _active(choices)
    if list(active) != list(_active(default)):
        yield name, list(active)
    for key, chosen in active.items():
        assert isinstance(chosen, Chosen)
        yield from _changed_kind(chosen, f"{name}.{key}", key)


def _changed_kind(chosen: Chosen, name: str, usual_kind: str | None) -> Iterator[tuple[str, object]]:
    if chosen.kind not in {usual_kind, *LOCAL_ENGINES}:
        yield f"{name}.kind", chosen.kind
    if chosen.kind != "auto":  # whatever it comes to samples the same
        yield from settings_of(chosen.config, prefix=f"{name}.").items()


def _active(kinds: object) -> Settings:
    """The kinds that are not switched off."""
    if not isinstance(kinds, Mapping):
        return {}
    return {name: chosen for name, chosen in kinds.items() if chosen is not False}
