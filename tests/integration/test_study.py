"""A study for real, cut down: killed in the middle it goes on, done it does nothing; its numbers are recomputed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import yaml

from distill.stages import load_problems
from distill.store import jsonl
from distill.types import Trace
from distill.verifiers import Verifiers
from tests.integration.processes import living_in

pytestmark = pytest.mark.integration
ROLES = {"base": "base", "sft": "sft", "sft-grpo": "grpo"}
RECIPE: dict[str, Any] = {
    "extends": "tiny",
    "generate": {"limit": 40, "backend": {"kind": "transformers"}},
    "sft": {"epochs": 1, "stop_check": 0},
    # after so short a training all completions are cut, which guards would stop
    "grpo": {
        "steps": 2,
        "batch_size": 16,
        "micro_batch": 8,
        "num_generations": 4,
        "max_completion_length": 32,
        "limits": {"zero_variance": None, "clipped": None, "drift": None, "entropy": None},
    },
    "eval": {"limit": 5, "samples": 2, "sampling": {"max_tokens": 64}, "backend": {"kind": "transformers"}},
    "study": {
        "seeds": [4, 5],
        "at_once": 2,
        "against": ["base", "sft"],
        "arms": {
            "teacher": {"stages": ["generate"]},
            "base": {"stages": ["eval"]},
            "sft": {"stages": ["filter", "sft", "eval"], "after": "teacher"},
            "sft-grpo": {"stages": ["grpo", "eval"], "after": "sft"},
        },
    },
}


def command(cwd: Path) -> list[str]:
    (cwd / "small.yaml").write_text(yaml.safe_dump(RECIPE, sort_keys=False))
    return [sys.executable, "-m", "distill.cli", "run", "small.yaml", "--run", "study"]


def finished(cwd: Path) -> str:
    env = {**os.environ, "COLUMNS": "160"}
    done = subprocess.run(command(cwd), cwd=cwd, env=env, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def shares(study: Path, arm: str, seed: int) -> tuple[dict[str, float], float]:
    """Problem to share of right samples, and the mean tokens of a sample, by the stored generations."""
    problems = {problem.id: problem for problem in load_problems("countdown-tiny", "test", 5)[0]}
    right: dict[str, list[bool]] = {}
    tokens = []
    for trace in jsonl.read(study / f"{arm}-{seed}" / "eval" / f"{ROLES[arm]}.jsonl", Trace):
        right.setdefault(trace.problem_id, []).append(bool(Verifiers().judge(problems[trace.problem_id], trace).passed))
        tokens.append(trace.usage.completion)
    assert [len(group) for group in right.values()] == [2] * 5
    return {id: mean(group) for id, group in right.items()}, mean(tokens)


def test_a_killed_study_goes_on_and_its_table_is_that_of_the_generations(tmp_path: Path) -> None:
    study = tmp_path / "study"
    with subprocess.Popen(command(tmp_path), cwd=tmp_path, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr
        while not (study / "sft-4" / "student" / "config.json").is_file():
            assert child.poll() is None, child.stderr.read()[-3000:]
            time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
    until = time.monotonic() + 30
    while living_in(tmp_path):
        assert time.monotonic() < until, "workers end with the command that started them"
        time.sleep(0.1)
    before = {path: path.read_bytes() for path in study.glob("*/traces.jsonl")}

    def stages(name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((study / name / "run.json").read_text())["stages"]
        return found

    did = {name: stages(name) for name in ("teacher-4", "sft-4")}
    shown = finished(tmp_path)
    assert len(list(study.glob("*/traces.jsonl"))) == 2, "one pool of traces a seed"
    assert all(path.read_bytes().startswith(text) for path, text in before.items())
    (table,) = json.loads((study / "study.json").read_text())["tables"]
    rows = {row["arm"]: row for row in table["rows"]}
    assert (list(rows), table["problems"], table["samples"]) == ([*ROLES], 5, 2)
    found = {(arm, seed): shares(study, arm, seed) for arm in ROLES for seed in (4, 5)}
    for arm, row in rows.items():
        assert arm in shown
        for one in row["seeds"]:
            right, tokens = found[arm, one["seed"]]
            assert one["metrics"]["pass@1"]["value"] == pytest.approx(mean(right.values()))
            assert one["metrics"]["tokens"]["value"] == pytest.approx(tokens)
        assert row["metrics"]["pass@1"]["value"] == pytest.approx(
            mean(mean(found[arm, seed][0].values()) for seed in (4, 5))
        )
        for gap in row["differences"]:
            for one in gap["seeds"]:
                ours, theirs = (found[name, one["seed"]][0] for name in (arm, gap["against"]))
                assert one["value"]["value"] == pytest.approx(mean(ours[id] - theirs[id] for id in ours))
    assert {gap["against"] for gap in rows["sft-grpo"]["differences"]} == {"base", "sft"}

    assert (study / "sft-grpo-4" / "student").resolve() == (study / "sft-4" / "student").resolve()
    assert stages("teacher-4") == did["teacher-4"], "what was done before the kill is not done again"
    assert stages("sft-4").items() >= did["sft-4"].items()
    files = {path: path.stat().st_mtime_ns for path in study.rglob("*") if path.is_file() and path.name != "log.txt"}
    began = time.monotonic()
    again = finished(tmp_path)
    assert all(arm in again for arm in ROLES)
    assert shown.endswith(again), "DeepSpeed may have logged something before the tables"
    print(f"a finished study ends in {time.monotonic() - began:.1f} s")
    assert files == {path: path.stat().st_mtime_ns for path in files}
