"""Settings: each is there, with a meaning that can be read alone."""

from __future__ import annotations

import re

import pytest

from distill import plugins
from distill.errors import InputError
from distill.explaining import places
from distill.explaining.places import Setting, below, every

ALL = list(every())
LEANING = re.compile(
    r"(So|Too|Also|Same|The same|It|Its|They|Their|This|That|These|Those|Likewise|As above|Per|Ditto|With it|Its own"
    r"|With a rubric|As many|See|Ours|What)\b"
)
"""How a text begins that needs another, or that names no thing."""


@pytest.mark.parametrize("setting", ALL, ids=lambda setting: setting.place)
def test_every_setting_has_a_meaning_that_stands_alone(setting: Setting) -> None:
    assert re.match(r"[A-Z`]", setting.meaning), f"{setting.place} has no meaning, or one without a beginning"
    assert len(setting.meaning.split()) >= 3
    assert setting.meaning.endswith((".", ".`", ".)"))
    assert not LEANING.match(setting.meaning), setting.meaning
    assert "\n" not in setting.meaning


@pytest.mark.parametrize(
    "setting", [setting for setting in ALL if setting.default == "None"], ids=lambda setting: setting.place
)
def test_a_setting_that_nobody_needs_to_give_says_what_none_means(setting: Setting) -> None:
    assert "None" in setting.meaning, f"{setting.place}: {setting.meaning}"


def test_every_kind_is_reached_and_every_place_is_named_once() -> None:
    named_places = [setting.place for setting in ALL]
    assert len(named_places) == len({*named_places})
    for family_place, family in places.FAMILIES.items():
        assert {f"{family_place}.{kind}" for kind in plugins.names(family)} <= {*named_places}
    assert {"sft.lora.rank", "filter.checks.correct.vote.share", "slurm.stages.NAME.nodes"} <= {*named_places}


@pytest.mark.parametrize(
    ("place", "type_text", "default"),
    [
        ("sft.epochs", "number > 0 | None", "None"),
        ("sft.strategy", "single | ddp | zero2 | zero3 | zero2-offload | zero3-offload | auto", "auto"),
        ("filter.checks.length.max_tokens", "int ≥ 1", "16384"),
        ("filter.checks.correct.vote.share", "number > 0, ≤ 1", "0.5"),
        ("generate.backend", "a kind", '{"kind": "auto"}'),
        ("filter.checks", "kinds by name", '{"correct": {}}'),
        ("study.arms.NAME.stages", "list of generate | filter | sft | grpo | eval", "required"),
        ("filter.mix", "settings by name", "{}"),
        ("sft.lora", "settings", ""),
        ("eval.lighteval.python", "path", "required"),
        ("generate.backend.vllm.headers", "text by name", "{}"),
        ("sft.gradient_checkpointing", "true | false", "true"),
    ],
)
def test_type_and_default_are_words(place: str, type_text: str, default: str) -> None:
    [setting] = [setting for setting in ALL if setting.place == place]
    assert (setting.type, setting.default) == (type_text, default)


def test_a_place_shows_what_is_directly_below_it_or_itself() -> None:
    assert [setting.place for setting in below("filter.checks.length")] == [
        "filter.checks.length.min_tokens",
        "filter.checks.length.max_tokens",
    ]
    assert [setting.place for setting in below("sft.epochs")] == ["sft.epochs"]
    assert [setting.name for setting in below("generate.backend")] == plugins.names("backends")
    assert [setting.place for setting in below("verifiers.math")] == ["verifiers.math"]
    assert {"teacher", "sft", "publish", "verifiers"} <= {setting.name for setting in below()}


def test_a_name_of_ones_own_stands_for_any() -> None:
    assert below("study.arms.mine.after")[0].place == "study.arms.NAME.after"
    assert below("slurm.stages.sft")[0].place == "slurm.stages.NAME.nodes"
    assert "stages" not in {setting.name for setting in below("slurm.stages.sft")}


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("stf", r"no such setting: stf\s+→ did you mean sft\? choices: .*eval, filter"),
        ("filter.checks.lenght", r"did you mean length\?"),
        ("sft.epochs.x", r"sft\.epochs has no settings of its own"),
        ("generate.backend.vlm.port", r"did you mean vllm\?"),
    ],
)
def test_a_typo_is_told_with_the_nearest_names(place: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        below(place)
