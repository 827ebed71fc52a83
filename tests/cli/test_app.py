"""Commands as a user gives them: what they print, how they end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import GOOD

Build = Callable[..., dict[str, Any]]


def distill(*words: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "distill.cli", *words],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "160", **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def as_file(folder: Path, recipe: dict[str, Any]) -> str:
    path = folder / "scripted.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return str(path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("run tinny", "unknown recipe 'tinny'"),
        ("run tiny --set filter.checks.length.max_tokns=3", "filter.checks.length.max_tokns: no such field"),
        ("generate --teacher deepsek-r1", "did you mean deepseek-r1"),
        ("generate --teacher tiny --problems nope.jsonl", "no such problem file"),
        ("filter --run nowhere", "run `distill generate` first"),
        ("sft --student tinny", "did you mean tiny"),
        ("show abc --run nowhere", "holds no traces"),
        ("ls teachrs", "did you mean teachers"),
        ("run tiny --limit 0", "Invalid value"),
        ("frobnicate", "No such command"),
    ],
)
def test_wrong_input_is_one_message_and_status_2(words: str, message: str, tmp_path: Path) -> None:
    done = distill(*words.split(), cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = distill("--debug", "run", "tinny", cwd=tmp_path)
    assert "Traceback" in done.stderr


def test_a_large_teacher_without_gpu_or_endpoint_stops_with_the_serve_command(tmp_path: Path) -> None:
    done = distill("generate", "--teacher", "deepseek-r1", cwd=tmp_path)
    assert done.returncode == 2
    assert "vllm serve deepseek-ai/DeepSeek-R1 --served-model-name deepseek-r1" in done.stderr
    assert "--endpoint" in done.stderr


@pytest.mark.parametrize(
    "what", ["teachers", "students", "problems", "verifiers", "filters", "backends", "recipes", "runs"]
)
def test_ls_lists(what: str, tmp_path: Path) -> None:
    done = distill("ls", what, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    expected = {"verifiers": "countdown", "filters": "repetition", "backends": "scripted", "runs": "folder"}
    assert expected.get(what, "tiny") in done.stdout


def test_stage_by_stage_finds_the_recipe_in_the_run_folder(tmp_path: Path, scripted_recipe: Build) -> None:
    file = as_file(tmp_path, scripted_recipe([GOOD, "\x1b[31mnever closed \u202e"]))
    run = ["--run", "r"]
    first = distill("generate", file, *run, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "12 traces of 6 problems (12 new" in first.stdout
    assert "next: distill filter" in first.stdout
    second = distill("filter", *run, cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert "think_not_closed" in second.stdout
    again = distill("filter", *run, cwd=tmp_path)
    assert "filter unchanged" in again.stdout
    rows = [json.loads(line) for line in (tmp_path / "r" / "verdicts.jsonl").read_text().splitlines()]
    rejected = next(row["trace_id"] for row in rows if row["check"] == "decision" and not row["passed"])
    shown = distill("show", rejected[:8], *run, cwd=tmp_path)
    assert "never closed" in shown.stdout
    assert "think_not_closed" in shown.stdout
    assert "\x1b[31m" not in shown.stdout, "model output must not drive the terminal"
    assert "\u202e" not in shown.stdout
    assert "filter: done" in (tmp_path / "r" / "log.txt").read_text()
    problem = distill(
        "show", json.loads((tmp_path / "r" / "problems.jsonl").read_text().splitlines()[0])["id"], *run, cwd=tmp_path
    )
    assert "gold answer" in problem.stdout
    other = distill("run", "tiny", *run, "--limit", "1", cwd=tmp_path)
    assert other.returncode == 2
    assert "holds a run of recipe 'scripted', not 'tiny'" in other.stderr


def test_dry_run_touches_nothing(tmp_path: Path) -> None:
    done = distill("run", "tiny", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("would run") == 4
    assert list(tmp_path.iterdir()) == []


def test_an_endpoint_that_is_down_is_named(tmp_path: Path) -> None:
    done = distill("generate", "--teacher", "tiny", "--limit", "1", "--endpoint", "http://127.0.0.1:9", cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert "127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr


def test_own_problems_and_verifier_file(tmp_path: Path, scripted_recipe: Build) -> None:
    """A user's own files need no change to the package."""
    (tmp_path / "mine.py").write_text(
        '"""Counts words."""\nfrom distill.types import Outcome, Record\n\n\nclass Config(Record):\n    words: int\n\n\n'
        "class Verifier:\n    def __init__(self, words):\n        self.words = words\n\n"
        "    def verify(self, gold, text):\n        return Outcome(passed=len(text.split()) == self.words, reason='count')\n\n"
        "    def key(self, gold, text):\n        return len(text.split())\n\n\n"
        "def build(config):\n    return Verifier(config.words)\n"
    )
    row = {"problem": "Say two words.", "answer": 2, "verifier": {"kind": "./mine.py", "words": 2}}
    (tmp_path / "p.jsonl").write_text(json.dumps(row) + "\n")
    recipe = scripted_recipe(["hm</think>two words", "hm</think>three words here"])
    recipe["generate"]["samples"] = 8
    recipe["filter"] = {"checks": {"correct": {}}}
    file = as_file(tmp_path, recipe)
    assert distill("generate", file, "--problems", "p.jsonl", "--run", "r", cwd=tmp_path).returncode == 0
    done = distill("filter", "--run", "r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "count" in done.stdout
