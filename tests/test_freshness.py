"""What is in a stage's fingerprint, by name; and a run folder of an earlier version, which goes on from where it is."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from distill import pipeline, plugins
from distill import recipe as recipes
from distill.models import presets
from distill.progress import LogLines
from distill.recipe import Recipe
from distill.run import Run
from distill.settings import identity
from distill.stages import filter, sft
from distill.stages.filter import Config as FilterConfig
from distill.stages.filter import FilterSummary
from distill.stages.generate import Config as GenerateConfig
from distill.stages.sft import Config as SftConfig
from distill.store import jsonl
from distill.types import Record
from tests.conftest import make_job

EARLIER = Path(__file__).parent / "data" / "earlier_run"
WITHOUT_RESULT = {
    "generate": {"retry_failed", "preflight", "price"},
    "filter": {"traces", "examples", "on", "processes"},
    "sft": {
        *("strategy", "nodes", "processes", "gpu_memory", "sequence_parallel", "gradient_checkpointing"),
        *("checkpoints", "log_to", "max_dropped", "data", "stop_check"),
    },
    "grpo": {
        *("strategy", "nodes", "processes", "gpu_memory", "sequence_parallel", "gradient_checkpointing"),
        *("checkpoints", "log_to", "rollouts", "vllm", "limits", "samples_every", "data"),
    },
    "eval": {"lighteval.python", "lighteval.concurrency"},
    "teacher": {
        *(
            "description",
            "model",
            "revision",
            "parameters",
            "active",
            "precision",
            "heads",
            "kv_heads",
            "cache",
            "licence",
        ),
        *("serve", "hardware", "recipe"),
    },
    "student": {
        *(
            "description",
            "model",
            "revision",
            "parameters",
            "active",
            "precision",
            "heads",
            "kv_heads",
            "cache",
            "licence",
        ),
        *("serve", "hardware", "recipe", "shape"),
    },
    "backends.chat": {
        *("api_key_env", "headers", "proxy", "ca", "base_url", "concurrency", "requests_per_minute"),
        *("tokens_per_minute", "stream", "silence", "timeout", "patience", "budget_field", "price_in", "price_out"),
    },
    "backends.vllm": {
        *("api_key_env", "headers", "proxy", "ca", "endpoints", "endpoints_file", "replicas", "port", "concurrency"),
        *("timeout", "patience", "start_timeout", "cpu_cache"),
    },
    "backends.transformers": {"batch"},
    "backends.scripted": {"delay", "fail_first", "fail_after", "concurrency"},
    "filters.correct": {
        f"judge.{name}"
        for name in (
            *("api_key_env", "headers", "proxy", "ca", "endpoint", "concurrency", "requests_per_minute"),
            *("tokens_per_minute", "stream", "silence", "timeout", "patience"),
        )
    },
}


def without_result(record_type: type[Record], prefix: str = "") -> Iterator[str]:
    """Dotted names of the settings that are in no fingerprint; nothing below one of them is named."""
    for name, field in record_type.model_fields.items():
        if not identity.has_result(field):
            yield prefix + name
        elif inner := identity.record_in(field.annotation):
            yield from without_result(inner, f"{prefix}{name}.")


def test_these_settings_and_no_others_are_in_no_fingerprint() -> None:
    configs: dict[str, type[Record]] = {"teacher": presets.Teacher, "student": presets.Student}
    for stage in recipes.ALL_STAGES:
        configs[stage] = type(getattr(recipes.load("tiny"), stage))
    for family in ("backends", "filters", "rewards"):
        configs |= {f"{family}.{kind}": plugins.load(family, kind).Config for kind in plugins.names(family)}
    left_out = {name: set(without_result(config)) for name, config in configs.items()}
    assert {name: settings for name, settings in left_out.items() if settings} == WITHOUT_RESULT


def test_only_what_is_set_away_from_its_default_counts() -> None:
    assert identity.settings_of(SftConfig()) == {}
    assert identity.settings_of(SftConfig(seed=0, epochs=None, processes=4, log_to=("wandb",))) == {}
    changed = SftConfig.model_validate({"epochs": 2, "lora": {"rank": 8}, "checkpoints": 0})
    assert identity.settings_of(changed) == {"epochs": 2.0, "lora.rank": 8}


def test_a_new_setting_changes_no_fingerprint() -> None:
    class Before(Record):
        rate: float = 1.0

    class After(Before):
        new: int = 3

    assert identity.settings_of(Before(rate=2)) == identity.settings_of(After(rate=2)) == {"rate": 2.0}
    assert identity.settings_of(After(new=4)) == {"new": 4}


def test_a_part_that_is_there_counts_even_with_its_defaults_and_so_do_parts_by_name() -> None:
    class Part(Record):
        size: int = 1

    class Whole(Record):
        part: Part | None = None
        parts: dict[str, Part] = {}

    assert identity.settings_of(Whole(part=Part())) == {"part": {}}
    parts = {"b": Part(size=2), "a": Part()}
    assert identity.settings_of(Whole(parts=parts)) == {"parts.a": {}, "parts.b": {}, "parts.b.size": 2}


def test_checks_count_by_name_in_their_order_with_what_their_kinds_are_told() -> None:
    def settings(checks: dict[str, object]) -> identity.Settings:
        return identity.settings_of(FilterConfig.model_validate({"checks": checks}))

    assert settings({"correct": {}}) == settings({"correct": None, "length": False}) == {}
    assert settings({"length": {"max_tokens": 9, "min_tokens": 1}, "correct": True}) == {
        "checks": ["length", "correct"],
        "checks.length.max_tokens": 9,
    }
    assert settings({"short": {"kind": "length"}})["checks.short.kind"] == "length"
    judge = {"endpoint": "http://one:1", "model": "m"}
    elsewhere = {**judge, "endpoint": "http://two:2", "concurrency": 3}
    assert settings({"correct": {"judge": judge}}) == settings({"correct": {"judge": elsewhere}})
    assert settings({"correct": {"judge": judge}}) != settings({"correct": {"judge": {**judge, "model": "n"}}})


def test_which_engine_samples_a_model_is_no_part_of_a_result_but_another_api_is() -> None:
    def settings(backend: dict[str, object]) -> identity.Settings:
        return identity.settings_of(GenerateConfig.model_validate({"backend": backend}))

    assert settings({"kind": "auto"}) == settings({"kind": "vllm", "endpoints": ["http://node1:8000"]}) == {}
    assert settings({"kind": "transformers", "batch": 2}) == {}
    api = {"kind": "chat", "base_url": "https://host/v1", "extra": {"effort": "low"}}
    assert settings(api) == {"backend.kind": "chat", "backend.extra": {"effort": "low"}}


def test_a_preset_counts_by_its_weights_and_by_what_steers_or_trains_it() -> None:
    student = presets.student("tiny")
    described = student.model_copy(update={"description": "another", "licence": "mit", "hardware": "one GPU"})
    assert presets.identity_of("student", student) == presets.identity_of("student", described)
    assert presets.identity_of("student", student.model_copy(update={"eos": "<end>"}))["eos"] == "<end>"


def test_advice_of_a_preset_counts_where_it_is_followed(tmp_path: Path) -> None:
    job = make_job(tmp_path, SftConfig())
    followed = sft.STAGE.settings(job)
    assert followed["learning_rate"] == job.student.learning_rate
    assert not [name for name in followed if name.startswith("teacher.")]
    same = SftConfig(learning_rate=job.student.learning_rate)
    assert sft.STAGE.settings(make_job(tmp_path, same)) == followed
    replaced = sft.STAGE.settings(make_job(tmp_path, SftConfig(learning_rate=0.5)))
    assert replaced == {**followed, "learning_rate": 0.5}
    filtered = filter.STAGE.settings(make_job(tmp_path, FilterConfig()))
    assert not {"learning_rate", "student.learning_rate"} & {*filtered}
    assert filtered["student.eos"] == job.student.eos


def test_reasons_name_what_has_changed() -> None:
    assert identity.changed_settings({"learning_rate": 1e-05}, {"learning_rate": 2e-05, "limit": 3}) == [
        "learning_rate 1e-05 → 2e-05",
        "limit default → 3",
    ]
    one, two = {"seen": "s", "hash": "1"}, {"seen": "s", "hash": "2"}
    assert pipeline.changed_inputs({"a": one, "b": two}, {"moved/a": one, "moved/b": two}) == []
    assert pipeline.changed_inputs({"a": one, "b": None}, {"a": two}) == ["a has changed", "b is gone"]
    assert pipeline.changed_inputs({"x/a": one}, {"y/a": two}) == ["y/a has changed"]
    assert pipeline.changed_inputs({"a": one}, {"a": one, "b": two}) == ["b is new"]
    assert pipeline.changed_inputs({"a": one, "b": two}, {"b": two, "a": one}) == ["its inputs are in another order"]


@pytest.fixture
def earlier(tmp_path: Path, tiny: Path) -> Run:
    """The run of an earlier version, in a folder of its own."""
    run = Run(tmp_path / "run")
    shutil.copytree(EARLIER, run.folder)
    shutil.copytree(tiny / "base", run.student)
    return run


def stored_recipe(run: Run, *changes: str) -> Recipe:
    return recipes.build(dict(run.state()["recipe"]), changes)


def reasons(run: Run, recipe: Recipe) -> dict[str, list[str]]:
    """Why each stage of a recipe would run, where it would."""
    why = {
        stage: pipeline.reasons_to_run(pipeline.job(run, recipe, stage, LogLines()), stage) for stage in recipe.stages
    }
    return {stage: lines for stage, lines in why.items() if lines}


def test_what_an_earlier_version_finished_is_fresh_and_its_summaries_are_read(
    earlier: Run, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = stored_recipe(earlier)
    with caplog.at_level(logging.INFO, "distill"):
        results = list(pipeline.run_stages(earlier, recipe, recipe.stages, LogLines()))
    assert [result.fresh for result in results] == [True] * 4
    assert "sft: unchanged, nothing to do; finished by an earlier version, --redo does it again" in caplog.messages
    assert [result.summary.line() for result in results] == [
        "12 traces of 12 problems (12 new, 1,965 tokens at 255/s)",
        "9 of 12 traces kept, 1,019 student tokens",
        "9 rows, 1 steps, loss 2.787 → 2.787, 1 of 4 replies stop",
        "4 problems",
    ]


def test_a_summary_is_kept_as_an_earlier_version_kept_it(earlier: Run) -> None:
    for stage in recipes.DEFAULT_STAGES:
        kept = earlier.stage(stage)["summary"]
        assert pipeline.STAGES[stage].summary.model_validate(kept).model_dump(mode="json") == kept


def test_a_changed_tracker_retrains_nothing_and_a_changed_learning_rate_does(earlier: Run) -> None:
    watched = ("sft.log_to=[trackio]", "sft.checkpoints=1", "sft.processes=2", "filter.examples=1")
    assert reasons(earlier, stored_recipe(earlier, *watched, "generate.preflight=false")) == {}
    faster = stored_recipe(earlier, "sft.learning_rate=2e-5")
    assert reasons(earlier, faster) == {"sft": ["learning_rate 0.002 → 2e-05"]}


def test_settings_of_an_earlier_version_outlive_the_recipe_that_held_them(earlier: Run) -> None:
    before = stored_recipe(earlier)
    faster = stored_recipe(earlier, "sft.learning_rate=2e-5")
    pipeline.start(earlier, faster)
    assert earlier.state()["recipe"]["sft"]["learning_rate"] == 2e-5
    assert reasons(earlier, faster) == {"sft": ["learning_rate 0.002 → 2e-05"]}
    assert reasons(earlier, before) == {}


def test_an_earlier_run_is_filtered_again_and_says_why_the_next_stage_starts(
    earlier: Run, caplog: pytest.LogCaptureFixture
) -> None:
    shorter = stored_recipe(earlier, "filter.checks.length.max_tokens=100")
    with caplog.at_level(logging.INFO, "distill"):
        (result,) = pipeline.run_stages(earlier, shorter, ("filter",), LogLines())
    assert isinstance(result.summary, FilterSummary)
    assert (result.fresh, result.summary.traces) == (False, 12)
    assert 0 < result.summary.kept < 9
    assert "filter: starts again: checks.length.max_tokens 320 → 100" in caplog.messages
    assert reasons(earlier, shorter) == {"sft": [f"{earlier.sft / 'train.parquet'} has changed"]}
    (again,) = pipeline.run_stages(earlier, shorter, ("filter",), LogLines())
    assert again.fresh


def test_an_earlier_run_goes_on_sampling_where_it_was(earlier: Run) -> None:
    ids = [row["id"] for _, row in jsonl.rows(earlier.traces_file)]
    backend = "generate.backend={kind: scripted, replies: ['</think>1']}"
    (result,) = pipeline.run_stages(
        earlier, stored_recipe(earlier, "generate.limit=14", backend), ("generate",), LogLines()
    )
    assert not result.fresh
    sampled = [row["id"] for _, row in jsonl.rows(earlier.traces_file)]
    assert sampled[:12] == ids
    assert len(sampled) == 14


def test_what_is_finished_is_done_again_when_asked(earlier: Run) -> None:
    recipe = stored_recipe(earlier)
    (result,) = pipeline.run_stages(earlier, recipe, ("filter",), LogLines(), redo=True)
    assert not result.fresh
    assert result.summary.line().startswith("9 of 12 traces kept")
    assert reasons(earlier, recipe) == {}
