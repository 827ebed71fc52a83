"""Freshness: what changed runs again, what did not is skipped, nothing is sampled twice."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill import pipeline
from distill import recipe as recipes
from distill.errors import InputError, RunError
from distill.models import presets
from distill.progress import LogLines
from distill.recipe import StageName
from distill.run import Run
from distill.stages.generate import GenerateSummary, SetAside
from distill.store import jsonl
from tests.conftest import GOOD

Build = Callable[..., dict[str, Any]]
TWO: tuple[StageName, ...] = ("generate", "filter")


def go(run: Run, recipe: dict[str, Any], *changes: str, stages: tuple[StageName, ...] = TWO) -> list[bool]:
    """Runs stages and says which did something."""
    copy = json.loads(json.dumps(recipe))
    done = pipeline.run_stages(run, recipes.build(copy, changes), stages, LogLines())
    return [not each.fresh for each in done]


def ids(run: Run) -> list[str]:
    return [str(row["id"]) for _, row in jsonl.rows(run.traces_file)]


def test_unchanged_stages_are_skipped_and_a_threshold_never_samples_again(
    tmp_path: Path, scripted_recipe: Build
) -> None:
    run, recipe = Run(tmp_path), scripted_recipe([GOOD])
    assert go(run, recipe) == [True, True]
    before = ids(run)
    assert go(run, recipe) == [False, False]
    assert go(run, recipe, "filter.checks.length={max_tokens: 100}") == [False, True]
    assert go(run, recipe, "filter.checks.length={max_tokens: 100}") == [False, False]
    assert go(run, recipe, "generate.samples=3") == [True, True]
    assert ids(run)[: len(before)] == before
    assert len(ids(run)) == 18
    assert len(set(ids(run))) == 18


@pytest.mark.slow
def test_a_touched_copy_is_fresh_and_an_edited_output_is_not(tmp_path: Path, scripted_recipe: Build) -> None:
    run, recipe = Run(tmp_path / "a"), scripted_recipe([GOOD])
    go(run, recipe)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert go(Run(tmp_path / "b"), recipe) == [False, False]
    run.verdicts_file.write_text("")
    assert go(run, recipe) == [False, True]


def test_what_is_stale_begins_with_the_first_stage_that_is_not_fresh(tmp_path: Path, scripted_recipe: Build) -> None:
    run = Run(tmp_path / "a")
    go(run, scripted_recipe([GOOD]))
    recipe = recipes.build(scripted_recipe([GOOD]))
    stages: tuple[StageName, ...] = (*TWO, "sft")
    assert pipeline.stale_stages(run, recipe, TWO) == ()
    assert pipeline.stale_stages(run, recipe, stages) == ("sft",)
    changed = recipes.build(scripted_recipe([GOOD]), ["generate.samples=3"])
    assert pipeline.stale_stages(run, changed, stages) == stages, "what comes after a stale stage is stale"
    assert pipeline.stale_stages(Run(tmp_path / "none"), recipe, TWO) == TWO


def test_run_json_holds_recipe_versions_and_fingerprints(tmp_path: Path, scripted_recipe: Build) -> None:
    run = Run(tmp_path)
    go(run, scripted_recipe([GOOD]))
    state = run.state()
    assert recipes.build(state["recipe"]).generate.samples == 2
    assert {"python", "distill", "torch", "trl"} <= set(state["versions"])
    assert set(state["stages"]) == set(TWO)
    assert state["stages"]["generate"]["fingerprint"]


@pytest.mark.slow
def test_another_sampling_under_an_existing_log_is_a_hard_stop(tmp_path: Path, scripted_recipe: Build) -> None:
    run, recipe = Run(tmp_path), scripted_recipe([GOOD])
    go(run, recipe)
    before = ids(run)
    with pytest.raises(InputError, match=r"sampled differently \(sampling: .*0\.6.*0\.7"):
        go(run, recipe, "generate.sampling.temperature=0.7")
    assert ids(run) == before
    assert go(run, recipe) == [True, False], "back to what it was: nothing to sample, the filter still fresh"


@pytest.mark.slow
def test_broken_problem_rows_are_set_aside(tmp_path: Path, scripted_recipe: Build) -> None:
    rows = tmp_path / "mine.jsonl"
    rows.write_text('{"problem": "a", "answer": "1"}\nbroken\n{"problem": "b", "answer": "2"}\n')
    run = Run(tmp_path / "run")
    recipe = scripted_recipe([GOOD])
    recipe["generate"]["problems"] = str(rows)
    recipe["filter"] = {"checks": {"finish": {}}}
    list_of = list(pipeline.run_stages(run, recipes.build(recipe), TWO, LogLines()))
    summary = list_of[0].summary
    assert isinstance(summary, GenerateSummary)
    assert summary.rejected_problems == 1
    assert summary.first_rejected == (SetAside(line=2, reason="is not a JSON object"),)
    assert summary.line().endswith("set aside in problems.rejected.jsonl (first: line 2, is not a JSON object)")
    assert [row["line"] for _, row in jsonl.rows(run.rejected)] == [2]
    rows.write_text("broken\n")
    with pytest.raises(InputError, match="no usable problem"):
        go(Run(tmp_path / "other"), recipe)


@pytest.mark.slow
def test_a_problem_file_that_changes_makes_generate_stale(tmp_path: Path, scripted_recipe: Build) -> None:
    rows = tmp_path / "mine.jsonl"
    rows.write_text('{"problem": "a", "answer": "1"}\n')
    run = Run(tmp_path / "run")
    recipe = scripted_recipe([GOOD])
    recipe["generate"]["problems"] = str(rows)
    assert go(run, recipe) == [True, True]
    with rows.open("a") as file:
        file.write('{"problem": "b", "answer": "2"}\n')
    assert go(run, recipe) == [True, True]
    assert len(ids(run)) == 4


@pytest.mark.slow
def test_a_stage_can_have_its_own_launcher(tmp_path: Path, scripted_recipe: Build) -> None:
    log = tmp_path / "launched"
    launcher = tmp_path / "launch"
    launcher.write_text(f'#!/bin/sh\necho "$@" >> {log}\nshift\nexec "$@"\n')
    launcher.chmod(0o755)
    import sys

    recipe = scripted_recipe([GOOD])
    recipe["launchers"] = {"filter": {"prefix": [str(launcher), "--"], "python": sys.executable}}
    run = Run(tmp_path / "run")
    assert go(run, recipe) == [True, True]
    assert f"-m distill.cli filter --run {run.folder} --here" in log.read_text()
    assert run.stage("filter")["summary"]["kept"] == 12
    recipe["launchers"]["filter"]["prefix"] = ["/bin/false"]
    with pytest.raises(RunError, match=r"launchers\.filter: its launcher ended with status 1"):
        go(run, recipe, "filter.select.per_problem=1")


def test_sft_and_eval_say_what_is_missing(tmp_path: Path, scripted_recipe: Build) -> None:
    run, recipe = Run(tmp_path), scripted_recipe([GOOD])
    with pytest.raises(InputError, match=r"no set to train on[\s\S]*distill filter"):
        go(run, recipe, stages=("sft",))
    with pytest.raises(InputError, match=r"not trained yet[\s\S]*distill sft"):
        go(run, recipe, stages=("eval",))


def test_a_large_student_without_gpus_stops_at_once(
    tmp_path: Path, scripted_recipe: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill.machine.hardware.gpus", lambda: 0)
    run, recipe = Run(tmp_path), scripted_recipe([GOOD])
    go(run, recipe)
    with pytest.raises(InputError, match=r"qwen2\.5-7b \(Qwen/Qwen2\.5-7B\) needs GPUs"):
        go(run, recipe, "student=qwen2.5-7b", stages=("sft",))


def test_eval_scores_from_the_scripted_backend(tmp_path: Path, scripted_recipe: Build) -> None:
    """Every second reply is `1`, which no Countdown target is: all scores are 0 and all ends are told apart."""
    recipe = scripted_recipe([GOOD])
    backend = {"kind": "scripted", "replies": ["x</think><answer>1</answer>", "never closed"]}
    recipe["eval"] = {"limit": 8, "samples": 4, "models": ["teacher", "base"], "backend": backend}
    run = Run(tmp_path)
    assert go(run, recipe, stages=("eval",)) == [True]
    rows = json.loads(run.scores_file.read_text())
    assert [(row["role"], row["set"], row["n"]) for row in rows] == [
        ("teacher", "countdown-tiny", 4),
        ("base", "countdown-tiny", 4),
    ]
    metrics = rows[0]["metrics"]
    assert metrics["pass@1"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert 0 < metrics["closed"]["value"] < 1
    assert list(metrics)[:4] == ["pass@1", "pass@2", "pass@4", "cons@4"]
    assert go(run, recipe, stages=("eval",)) == [False]
    assert presets.teacher("tiny").name == rows[0]["model"]


CHECK = """from distill.filters import Filter
from distill.types import Outcome, Record

class Config(Record):
    pass

class Anything(Filter):
    def __call__(self, problem, trace):
        return Outcome(passed=True)

def build(config, context):
    return Anything()
"""


def test_a_check_whose_code_changes_judges_again_and_samples_nothing(
    tmp_path: Path, scripted_recipe: Build, caplog: pytest.LogCaptureFixture
) -> None:
    check = tmp_path / "mine.py"
    check.write_text(CHECK)
    run, recipe = Run(tmp_path / "run"), scripted_recipe([GOOD])
    recipe["filter"]["checks"]["mine"] = {"kind": str(check)}
    assert go(run, recipe) == [True, True]
    check.write_text(CHECK + "# another word\n")
    with caplog.at_level(logging.INFO, "distill"):
        assert go(run, recipe) == [False, True]
    assert "filter: starts again: mine: what it goes by has changed" in caplog.messages
    assert go(run, recipe) == [False, False]


def test_what_another_version_finished_is_done_again_only_when_asked(
    tmp_path: Path, scripted_recipe: Build, caplog: pytest.LogCaptureFixture
) -> None:
    run, recipe = Run(tmp_path), scripted_recipe([GOOD])
    go(run, recipe)
    run.finish("filter", {**run.stage("filter"), "distill": "0.0.7", "fingerprint": "of another formula"})
    with caplog.at_level(logging.INFO, "distill"):
        assert go(run, recipe) == [False, False]
    assert "generate: unchanged, nothing to do" in caplog.messages
    assert "filter: unchanged, nothing to do; finished by distill 0.0.7, --redo does it again" in caplog.messages
    (redone,) = pipeline.run_stages(run, recipes.build(recipe), ("filter",), LogLines(), redo=True)
    assert not redone.fresh
    assert run.stage("filter")["distill"] != "0.0.7"


def test_an_output_that_was_edited_is_named(tmp_path: Path, scripted_recipe: Build) -> None:
    run, recipe = Run(tmp_path), scripted_recipe([GOOD])
    go(run, recipe)
    run.verdicts_file.write_text("")
    stage_job = pipeline.job(run, recipes.build(recipe), "filter", LogLines())
    assert pipeline.reasons_to_run(stage_job, "filter") == [f"{run.verdicts_file} is not as it left it"]
    run.verdicts_file.unlink()
    assert pipeline.reasons_to_run(stage_job, "filter") == [f"{run.verdicts_file} is gone"]
