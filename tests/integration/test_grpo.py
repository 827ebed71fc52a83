"""GRPO for real on a small student: it runs, a killed one goes on, guards end it, TRL takes our arguments."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import make_problem
from tests.integration.processes import living_in
from tests.integration.test_training import wait_for

pytestmark = pytest.mark.integration
STEPS = 6
FIXED = (
    "problems=null",
    f"steps={STEPS}",
    "batch_size=8",
    "micro_batch=8",
    "processes=1",
    "num_generations=4",
    "max_completion_length=24",
    "rewards={accuracy: {}, format: {}, shortness: {kind: shortness.py}}",
    "limits={clipped: null, drift: null}",
    "checkpoints=3",
    "samples_every=1",
    "seed=3",
)
EVAL = ("limit=4", "samples=2", "backend.kind=transformers")
# the base reasons badly and is cut here: only a reward that tells any two completions apart lets it learn something
SHORTNESS = """
from distill.rewards import Reward, Weighted
class Config(Weighted):
    pass
class Shortness(Reward):
    def __call__(self, rollouts, step):
        return [-len(set(rollout.trace.completion)) / 10 for rollout in rollouts]
def build(config, context):
    return Shortness()
"""


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """A working folder with a run that has problems and a student."""
    folder = tmp_path_factory.mktemp("grpo")
    (folder / "run").mkdir()
    problems = [make_problem(f"Using the numbers 3, 7, 8, make 29{'!' * n}") for n in range(5)]
    (folder / "run" / "problems.jsonl").write_text("".join(problem.model_dump_json() + "\n" for problem in problems))
    shutil.copytree(tiny / "base", folder / "run" / "student")
    (folder / "shortness.py").write_text(SHORTNESS)
    return folder


def copied(start: Path, to: Path) -> Path:
    shutil.copytree(start, to)
    return to


def command(*changes: str) -> list[str]:
    settings = [word for change in (*FIXED, *changes) for word in ("--set", f"grpo.{change}")]
    settings += [word for change in EVAL for word in ("--set", f"eval.{change}")]
    return [sys.executable, "-m", "distill.cli", "grpo", "tiny", "--run", "run", *settings]


def trained(cwd: Path, *changes: str, status: int = 0) -> str:
    done = subprocess.run(command(*changes), cwd=cwd, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == status, done.stderr[-3000:]
    return done.stderr


def rows(cwd: Path) -> dict[int, dict[str, Any]]:
    """Step to its row; of a step that was repeated after a kill, the last."""
    found = [json.loads(line) for line in (cwd / "run" / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row for row in found if row["stage"] == "grpo"}


@pytest.fixture(scope="module")
def unbroken(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cwd = copied(start, tmp_path_factory.mktemp("unbroken") / "here")
    trained(cwd)
    return cwd


def test_it_leaves_a_student_metrics_prompts_and_samples(unbroken: Path) -> None:
    from distill.models import presets
    from distill.models.chat import Tokenizer

    run = unbroken / "run"
    found = rows(unbroken)
    assert list(found) == list(range(1, STEPS + 1))
    for row in found.values():
        assert {"reward", "reward_std", "frac_reward_zero_std", "entropy", "completion_length", "clipped_ratio"} <= set(
            row
        )
        assert {"rewards/accuracy", "rewards/format", "rewards/shortness"} <= set(row)
        assert 0 < row["completion_length"] <= 24
    student = presets.student(str(run / "grpo"))
    assert Tokenizer(student.model).template == Tokenizer(str(run / "student")).template
    weights = [(run / name / "model.safetensors").read_bytes() for name in ("student", "grpo")]
    assert weights[0] != weights[1]
    assert (run / "grpo" / "prompts.parquet").is_file()
    samples = [json.loads(line) for line in (run / "grpo" / "samples.jsonl").read_text().splitlines()]
    assert {why for sample in samples for why in sample["why"]} >= {"highest_reward", "longest"}
    assert {sample["step"] for sample in samples} == set(range(STEPS))
    summary = json.loads((run / "run.json").read_text())["stages"]["grpo"]["summary"]
    assert (summary["steps"], summary["resumed_at"]) == (STEPS, 0)
    assert not (run / "training" / "grpo" / "checkpoints").exists()
    assert [row["role"] for row in json.loads((run / "scores.json").read_text())] == ["sft", "grpo"]
    told = json.loads((run / "eval" / "report.json").read_text())["sets"][0]["differences"]
    assert {(gap["first"], gap["second"], gap["problems"]) for gap in told} == {("grpo", "sft", 4)}
    assert not living_in(unbroken)


def test_a_killed_run_goes_on_and_ends_with_the_same_rewards(start: Path, unbroken: Path, tmp_path: Path) -> None:
    cwd = copied(start, tmp_path / "killed")
    folder = cwd / "run" / "training" / "grpo"
    with subprocess.Popen(command(), cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        wait_for(lambda: list(folder.glob("checkpoints/checkpoint-*/whole.json")), child)
        child.send_signal(signal.SIGKILL)
    trained(cwd)
    summary = json.loads((cwd / "run" / "run.json").read_text())["stages"]["grpo"]["summary"]
    assert summary["resumed_at"] >= 2
    before, after = rows(unbroken), rows(cwd)
    assert [after[step]["reward"] for step in before] == pytest.approx(
        [row["reward"] for row in before.values()], abs=1e-4
    )


def test_a_guard_ends_it_says_why_and_leaves_a_checkpoint(start: Path, tmp_path: Path) -> None:
    cwd = copied(start, tmp_path / "guarded")
    # too few tokens to answer: all completions of every group earn nothing
    dead = ("rewards={accuracy: {}}", "max_completion_length=4", "limits={window: 2, clipped: null, drift: null}")
    said = " ".join(trained(cwd, *dead, status=1).split())
    assert "stopped at step 2: 100% of the groups had no variance" in said, said
    assert "samples.jsonl" in said
    assert not (cwd / "run" / "grpo" / "config.json").exists()
    assert (cwd / "run" / "training" / "grpo" / "checkpoints" / "checkpoint-2" / "whole.json").is_file()


def test_trl_takes_our_arguments_for_vllm(tmp_path: Path) -> None:
    code = """
from trl import GRPOConfig
from distill.training.grpo import config as grpo
for how in ("server", "colocate", "generate"):
    config = grpo.Config(rollouts=how, epsilon_high=0.28, delta=4.0, num_iterations=2)
    ours = grpo.arguments(config)
    taken = GRPOConfig(output_dir="out", per_device_train_batch_size=8, use_cpu=True, bf16=False, **ours)
    assert taken.use_vllm == (how != "generate"), how
    assert how == "generate" or taken.vllm_mode == how
    assert (taken.epsilon_high, taken.delta, taken.num_iterations) == (0.28, 4.0, 2)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
