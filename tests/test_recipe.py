"""Recipes: typed, frozen, and a typo is told where it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from distill import recipe, resources
from distill.errors import InputError
from distill.filters import ChosenFilter
from distill.models import presets
from distill.problems import sets
from distill.run import Run
from distill.verifiers import ChosenVerifier


@pytest.mark.parametrize("name", recipe.names())
def test_every_shipped_recipe_loads_and_its_names_exist(name: str) -> None:
    loaded = recipe.load(name)
    assert loaded.name == name
    for preset in (presets.teacher(loaded.teacher), presets.student(loaded.student)):
        assert preset.recipe in recipe.names()
    for ref in (loaded.generate.problems or presets.teacher(loaded.teacher).problems, loaded.eval.problems):
        if ref:
            sets.find(ref)
    assert recipe.build(loaded.model_dump(mode="json")) == loaded, "run.json brings the same recipe back"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("filter.checks.length.max_tokns=3", r"filter\.checks\.length\.max_tokns: no such field[\s\S]*max_tokens"),
        (
            "filter.checks.lenght.max_tokens=3",
            r"filter\.checks\.lenght: unknown kind 'lenght'[\s\S]*did you mean length",
        ),
        ("filter.chekcs.length=3", r"filter\.chekcs: no such field[\s\S]*did you mean checks"),
        ("sft.epochs=abc", r"sft\.epochs: .*valid number.*'abc'\) \(epochs: Passes over the set; None takes [^.]*\)$"),
        (
            "filter.checks.length.max_tokens=x",
            r"filter\.checks\.length\.max_tokens: .*'x'\) \(max_tokens: Most tokens of the assistant's turn",
        ),
        ("generate.backend={kind: chat}", r"generate\.backend\.base_url: is required \(base_url: Address of the API"),
        ("student_facts.context=x", r"student_facts\.context: .*'x'\) \(context: Longest prompt \+ completion"),
        ("slurm.stages.sft.nodes=0", r"nodes: .*\(given: 0\) \(nodes: Nodes for training"),
        ("sft.lr=1", r"sft\.lr: no such field[\s\S]*learning_rate"),
        ("generate.samples=0", r"generate\.samples: .*greater than or equal to 1.*0"),
        ("generate.backend.kind=vlm", r"generate\.backend: unknown kind 'vlm'[\s\S]*did you mean vllm"),
        ("generate.backend={kind: scripted, delai: 1}", r"generate\.backend\.delai: no such field"),
        ("name.x=1", r"name holds 'tiny', which has no fields"),
        ("stages=[generate, evaluate]", r"stages\.1: .*'eval'"),
        ("nonsense", r"not of the form a\.b=value"),
        ("sft.epochs=[", "not YAML"),
    ],
)
def test_a_wrong_change_names_place_and_choices(change: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        recipe.load("tiny", [change])


def test_changes_are_typed_and_apply_in_order() -> None:
    loaded = recipe.load("tiny", ["filter.checks.length.max_tokens=7", "filter.checks.language=false", "sft.epochs=2"])
    assert loaded.filter.active()["length"].plain == {"max_tokens": 7}
    assert "language" not in loaded.filter.active()
    assert loaded.sft.epochs == 2.0


def test_a_check_without_settings_can_be_changed(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("teacher: tiny\nstudent: tiny\nfilter:\n  checks:\n    length:\n")
    assert recipe.load(str(path)).filter.active() == {"length": ChosenFilter.of(None, "length")}
    changed = recipe.load(str(path), ["filter.checks.length.max_tokens=9"])
    assert changed.filter.active() == {"length": ChosenFilter.of({"max_tokens": 9}, "length")}
    assert recipe.load(str(path)).name == "mine"


def test_recipes_are_frozen() -> None:
    with pytest.raises(ValidationError):
        recipe.load("tiny").sft.epochs = 3.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", r"mine\.yaml:\d+:\d+: is not YAML"),
        ("- 1", "should hold a mapping"),
        ("teacher: tiny", "student: is required"),
    ],
)
def test_a_broken_recipe_file_names_the_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        recipe.load(str(path))


def test_unknown_recipe_lists_the_known() -> None:
    with pytest.raises(InputError, match=r"did you mean tiny\? choices: .*r1-distill"):
        recipe.load("tinny")
    with pytest.raises(InputError, match="no such file"):
        recipe.load("nowhere.yaml")


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_every_preset_loads(role: Any) -> None:
    for name in presets.names(role):
        preset = getattr(presets, role)(name)
        assert preset.name == name
        assert preset.licence
        assert preset.parameters
        assert preset.recipe in recipe.names()
        presets.template(preset)


def test_presets_resolve_ids_paths_and_typos(tiny: Path) -> None:
    assert presets.teacher("some-org/Some-Model").model == "some-org/Some-Model"
    assert presets.student(str(tiny / "base")).name == "base"
    assert presets.as_model(presets.teacher("tiny")).context == 2048
    assert presets.context_of(str(tiny / "teacher")) == 2048
    with pytest.raises(InputError, match="did you mean deepseek-r1"):
        presets.teacher("deepseek-r2")
    with pytest.raises(InputError, match="no model folder"):
        presets.teacher(str(tiny))


@pytest.mark.parametrize("name", sets.shipped_sets())
def test_every_problem_set_is_well_formed(name: str) -> None:
    found, _, folder = sets.find(name)
    assert found.name == name
    ChosenVerifier.of(found.verifier)
    for path in sets.local_files(name, "train"):
        assert path.is_file(), folder


def test_on_is_a_word_and_only_true_and_false_are_booleans() -> None:
    assert resources.parse("{on: ray, off: 1, a: true, b: False}") == {"on": "ray", "off": 1, "a": True, "b": False}


def test_the_recipe_that_is_meant_is_the_named_else_the_runs_else_the_presets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    named, run = recipe.resolve("tiny", changes=["sft.epochs=2"])
    assert (named.name, named.sft.epochs, run.folder) == ("tiny", 2, Path("runs/tiny"))
    default, run = recipe.resolve(None)
    assert (default.name, run.folder) == (recipe.DEFAULT_RECIPE, Path("runs") / recipe.DEFAULT_RECIPE)
    of_preset, run = recipe.resolve(None, option_changes={"student": "tiny"})
    assert (of_preset.name, run.folder) == (presets.student("tiny").recipe, Path("runs/tiny"))
    folder = tmp_path / "mine"
    Run(folder).start(named.model_dump(mode="json"))
    stored, run = recipe.resolve(None, folder, ["sft.seed=5"])
    assert (stored.name, stored.sft.epochs, stored.sft.seed, run.folder) == ("tiny", 2, 5, folder)
    afresh, _ = recipe.resolve("tiny", folder)
    assert afresh.sft.epochs is None, "a named recipe is read afresh"
