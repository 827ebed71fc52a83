"""The schema that editors complete recipes by: current, true of what ships, and false of what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from distill import resources
from distill.explaining import schema

RECIPES = resources.folder("recipes")
SHIPPED = sorted(
    [*RECIPES.glob("*.yaml"), *RECIPES.glob("examples/*/recipe.yaml"), *RECIPES.glob("examples/*/re*.yaml")]
)


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    loaded = json.loads((RECIPES / "recipe.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(loaded)
    return Draft202012Validator(loaded)


def test_the_shipped_schema_is_current() -> None:
    written = (RECIPES / "recipe.schema.json").read_text(encoding="utf-8")
    assert written == schema.text(), "distill settings --schema > recipes/recipe.schema.json"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(RECIPES)))
def test_every_shipped_recipe_passes_and_names_the_schema(path: Path, validator: Draft202012Validator) -> None:
    faults = [f"{fault.json_path}: {fault.message}" for fault in validator.iter_errors(resources.load_yaml(path))]
    assert not faults
    head, _, schema_path = path.read_text(encoding="utf-8").partition("\n")[0].partition("$schema=")
    assert head == "# yaml-language-server: "
    assert (path.parent / schema_path).resolve() == (RECIPES / "recipe.schema.json").resolve()


@pytest.mark.parametrize(
    "changes",
    [
        {"filter": {"checks": {"length": None, "language": True, "finish": False}}},
        {"filter": {"checks": {"short": {"kind": "length", "max_tokens": 3}, "mine": {"kind": "./mine.py", "a": 1}}}},
        {"filter": {"checks": {"length": {"kind": "./mine.py", "a": 1}}}},
        {"generate": {"backend": {"endpoints": ["http://node:8000"]}}},
        {"eval": {"backend": {"kind": "chat", "base_url": "https://host/v1"}}},
        {"grpo": {"rewards": {"format": False, "accuracy": {"weight": 2}}}},
        {"student_facts": {"template": "r1-zero"}, "slurm": {"stages": {"sft": {"nodes": 4}}}},
    ],
)
def test_what_recipes_may_say_passes(changes: dict[str, Any], validator: Draft202012Validator) -> None:
    assert validator.is_valid({"extends": "tiny", **changes})
    assert validator.is_valid({"teacher": "tiny", "student": "tiny", **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"sfft": {}},
        {"sft": {"epochs": "many"}},
        {"sft": {"epochs": 0}},
        {"sft": {"lr": 1}},
        {"stages": ["evaluate"]},
        {"filter": {"checks": {"lenght": {}}}},
        {"filter": {"checks": {"length": {"max_tokns": 1}}}},
        {"filter": {"checks": {"mine": {"kind": "lenght"}}}},
        {"generate": {"backend": {"kind": "vlm"}}},
        {"generate": {"backend": {"kind": "vllm", "base_url": "https://host/v1"}}},
        {"generate": {"backend": {"prot": 1}}},
        {"grpo": {"rewards": {"format": {"weight": "much"}}}},
        {"slurm": {"stages": {"sft": {"node": 4}}}},
        {"student_facts": {"tmplate": "r1-zero"}},
    ],
)
def test_what_is_wrong_in_a_recipe_fails(changes: dict[str, Any], validator: Draft202012Validator) -> None:
    assert not validator.is_valid({"extends": "tiny", **changes})


def test_a_recipe_names_both_models_or_the_recipe_that_it_extends(validator: Draft202012Validator) -> None:
    assert not validator.is_valid({"teacher": "tiny"})


def test_editors_are_told_what_a_setting_means(validator: Draft202012Validator) -> None:
    definitions = validator.schema["$defs"]
    length = next(definition for name, definition in definitions.items() if name.endswith("filters__length__Config"))
    assert length["properties"]["max_tokens"]["description"].startswith("Most tokens of the assistant's turn")
