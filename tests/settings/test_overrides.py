"""Changes by name: read, applied to plain data, and told apart from typos."""

from __future__ import annotations

from typing import Any

import pytest

from distill.errors import InputError
from distill.settings import overrides
from distill.stages import publish


def test_a_change_is_a_name_and_a_yaml_value() -> None:
    assert overrides.parse("sft.epochs=2") == ("sft.epochs", 2)
    assert overrides.parse("eval.models=[sft]") == ("eval.models", ["sft"])
    assert overrides.parse("a=b=c") == ("a", "b=c")
    assert overrides.parse("filter.on=on") == ("filter.on", "on"), "on is a word"
    assert overrides.parse("a=") == ("a", None)


@pytest.mark.parametrize("change", ["nonsense", "=2", ""])
def test_a_change_without_name_or_value_is_told_how_it_is_written(change: str) -> None:
    with pytest.raises(InputError, match=r"is not of the form serve\.x=y"):
        overrides.parse(change, form="serve.x=y")
    with pytest.raises(InputError, match=r"--set a: the value '\[' is not YAML"):
        overrides.parse("a=[")


def test_changes_go_into_nested_mappings_after_those_of_options() -> None:
    settings: dict[str, Any] = {"checks": {"length": True, "language": None}, "name": "r"}
    overrides.apply_all(settings, ["checks.length.max=7", "name=b", "name=c"], {"name": "a", "x.y": [1]})
    assert settings == {"checks": {"length": {"max": 7}, "language": None}, "name": "c", "x": {"y": [1]}}
    with pytest.raises(InputError, match=r"--set name\.first\.z: name holds 'c', which has no fields"):
        overrides.apply(settings, "name.first.z", 1)


def test_what_no_recipe_holds_is_configured_from_options_and_changes() -> None:
    config = overrides.configure(
        publish.Config, "publish", {"to": "a/b", "public": None}, ["publish.accept=[mit]", "publish.to=c/d"]
    )
    assert (config.to, config.public, config.accept) == ("c/d", False, ("mit",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("publish.acept=[x]", r"no such setting of publish[\s\S]*did you mean publish.accept"),
        ("accept=[x]", "no such setting of publish"),
        ("accept", r"not of the form publish\.name=value"),
        ("publish.public=7", r"settings: publish\.public: .*7"),
    ],
)
def test_a_wrong_change_of_such_settings_names_them(change: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        overrides.configure(publish.Config, "publish", {"to": "a/b"}, [change])
