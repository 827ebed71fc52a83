"""Commands as a user gives them: what they print, how they end."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.conftest import Run, distill
from tests.conftest import GOOD

Build = Callable[..., dict[str, Any]]


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
        ("filter --run nowhere", "run `distill generate` or `distill import` first"),
        ("sft --student tinny", "did you mean tiny"),
        ("show abc --run nowhere", "holds no traces"),
        ("ls teachrs", "did you mean teachers"),
        ("run tiny --limit 0", "Invalid value"),
        ("frobnicate", "No such command"),
    ],
)
def test_wrong_input_is_one_message_and_status_2(words: str, message: str, run_here: Run) -> None:
    done = run_here(*words.split())
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("name", "asked"), [("tinny", True), ("other", False), ("tiny", False)])
def test_a_mistyped_run_folder_is_asked_about(name: str, asked: bool, run_here: Run) -> None:
    (Path("runs") / "tiny").mkdir(parents=True)
    (Path("runs") / "tiny" / "run.json").write_text("{}")
    done = run_here("eval", "--run", f"runs/{name}", "--set", "eval.models=[sft]")
    assert done.exit_code == 2
    assert "the student is not trained yet" in done.stderr
    assert ("did you mean runs/tiny?" in " ".join(done.stderr.split())) is asked


@pytest.mark.slow
def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = distill("--debug", "run", "tinny", cwd=tmp_path)
    assert "Traceback" in done.stderr


def test_a_large_teacher_without_gpu_or_endpoint_stops_with_the_serve_command(run_here: Run) -> None:
    done = run_here("generate", "--teacher", "deepseek-r1")
    assert done.exit_code == 2
    assert "vllm serve deepseek-ai/DeepSeek-R1 --served-model-name deepseek-r1" in done.stderr
    assert "--endpoint" in done.stderr


@pytest.mark.parametrize(
    "what", ["teachers", "students", "problems", "verifiers", "filters", "backends", "recipes", "runs"]
)
def test_ls_lists(what: str, run_here: Run) -> None:
    done = run_here("ls", what)
    assert done.exit_code == 0, done.stderr
    expected = {"verifiers": "countdown", "filters": "repetition", "backends": "scripted", "runs": "folder"}
    assert expected.get(what, "tiny") in done.stdout


@pytest.mark.slow
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


@pytest.mark.slow
def test_dry_run_touches_nothing(tmp_path: Path) -> None:
    done = distill("run", "tiny", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("would run") == 4
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_endpoint_that_is_down_is_named(tmp_path: Path) -> None:
    done = distill("generate", "--teacher", "tiny", "--limit", "1", "--endpoint", "http://127.0.0.1:9", cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert "127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr


MINE = '''"""Counts words."""
from distill.types import Outcome, Record
from distill import verifiers


class Config(Record):
    words: int


class Verifier(verifiers.Verifier):
    def __init__(self, words):
        self.words = words

    def verify(self, gold, text):
        return Outcome(passed=len(text.split()) == self.words, reason="count")

    def key(self, gold, text):
        return len(text.split())


def build(config):
    return Verifier(config.words)
'''


@pytest.mark.slow
def test_own_problems_and_verifier_file(tmp_path: Path, scripted_recipe: Build) -> None:
    """A user's own files need no change to the package."""
    (tmp_path / "mine.py").write_text(MINE)
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


def slow_recipe(folder: Path, scripted_recipe: Build, replies: list[str]) -> str:
    recipe = scripted_recipe(replies, problems=400)
    recipe["generate"]["backend"] |= {"delay": 0.02, "concurrency": 4}
    return as_file(folder, recipe)


def start(file: str, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "distill.cli", "generate", file, "--run", "r"]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_traces(log: Path, count: int) -> None:
    until = time.monotonic() + 60
    while not log.exists() or log.read_bytes().count(b"\n") < count:
        assert time.monotonic() < until, "no traces appeared"
        time.sleep(0.01)


def trace_ids(log: Path) -> list[str]:
    return [json.loads(line)["id"] for line in log.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_is_clean_and_the_same_command_resumes(tmp_path: Path, scripted_recipe: Build, number: int) -> None:
    file = slow_recipe(tmp_path, scripted_recipe, [GOOD])
    log = tmp_path / "r" / "traces.jsonl"
    with start(file, tmp_path) as child:
        wait_for_traces(log, 20)
        child.send_signal(number)
        _, said = child.communicate(timeout=20)
    # a scheduler that ends a job before its walltime shall not take that for a failure
    assert child.returncode == (0 if number == signal.SIGTERM else 1)
    assert "stopped" in said
    assert "saved" in said
    assert "Traceback" not in said
    before = trace_ids(log)
    assert 20 <= len(before) < 800
    done = distill("generate", file, "--run", "r", "--set", "generate.backend.delay=0", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    after = trace_ids(log)
    assert after[: len(before)] == before
    assert len(after) == len(set(after)) == 800


@pytest.mark.slow
def test_kill_9_loses_no_trace_and_repeats_none(tmp_path: Path, scripted_recipe: Build) -> None:
    file = slow_recipe(tmp_path, scripted_recipe, [GOOD * 40])
    log = tmp_path / "r" / "traces.jsonl"
    for count in (10, 60, 130):
        with start(file, tmp_path) as child:
            wait_for_traces(log, count)
            child.kill()
            child.communicate()
    done = distill("generate", file, "--run", "r", "--set", "generate.backend.delay=0", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(trace_ids(log)) == len(set(trace_ids(log))) == 800


@pytest.mark.slow
def test_a_full_disk_is_one_message_and_the_same_command_resumes(tmp_path: Path, scripted_recipe: Build) -> None:
    recipe = scripted_recipe([GOOD * 40], problems=60)
    file = as_file(tmp_path, recipe)
    command = [sys.executable, "-m", "distill.cli", "generate", file, "--run", "r"]
    limited = f"ulimit -f 60; exec {shlex.join(command)}"  # a file that may not grow is a disk that is full
    full = subprocess.run(["bash", "-c", limited], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert full.returncode == 1
    assert "traces.jsonl: cannot write: File too large" in full.stderr.replace("\n", "")
    assert "Traceback" not in full.stderr
    log = tmp_path / "r" / "traces.jsonl"
    whole = log.read_bytes().count(b"\n")
    assert whole > 0
    done = distill("generate", file, "--run", "r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(trace_ids(log)) == len(set(trace_ids(log))) == 120
