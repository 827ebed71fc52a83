"""distill grpo up to its first step: prompts, guards, settings; and what it refuses. Training is in integration/."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from distill.cli import training_previews
from rich.console import Console

from distill import pipeline
from distill import recipe as recipes
from distill.errors import InputError
from distill.progress import LogLines
from distill.run import Run
from distill.stages.grpo import GrpoPreview
from distill.training.grpo import config as grpo_config
from distill.training.grpo.trainer import GrpoJob
from tests.conftest import make_problem


@pytest.fixture
def run(tmp_path: Path, tiny: Path) -> Run:
    """A run with problems, two pass rates, and the base in the student's place."""
    found = Run(tmp_path / "run")
    found.folder.mkdir()
    problems = [make_problem(f"Make 29 of 3, 7, 8{'!' * n}") for n in range(4)]
    found.problems.write_text("".join(problem.model_dump_json() + "\n" for problem in problems))
    found.rates.write_text(
        f'{{"problem_id":"{problems[0].id}","pass_rate":1.0}}\n{{"problem_id":"{problems[1].id}","pass_rate":0.5}}\n'
    )
    shutil.copytree(tiny / "base", found.student)
    return found


def preview(run: Run, *changes: str) -> GrpoPreview:
    plain = ("problems=null", "rewards={accuracy: {}, format: {}}", "processes=1")
    recipe = recipes.load("tiny", [f"grpo.{change}" for change in (*plain, *changes)])
    found = pipeline.preview(run, recipe, "grpo", LogLines())
    assert isinstance(found, GrpoPreview)
    return found


def job(run: Run, *changes: str) -> GrpoJob:
    found = preview(run, *changes).job
    assert isinstance(found, GrpoJob)
    return found


def test_what_it_would_do(run: Run) -> None:
    found = preview(run, "pass_rate.high=0.9", "steps=null", "epochs=6", "batch_size=64")
    assert (found.prompts.rows, found.prompts.outside, found.prompts.unknown) == (3, 1, 2)
    made = found.job
    assert made.steps == 3  # 18 groups, 8 a step
    assert found.rewards == {"accuracy": [0, 1], "format": [0, 1]}
    assert found.command[1:3] == ["-m", "distill.training.grpo.worker"]
    assert made.model == str(run.student)
    assert made.setup.batch == 64
    assert made.arguments["loss_type"] == "grpo"
    assert "use_vllm" not in made.arguments
    shown = io.StringIO()
    training_previews.preview_grpo(Console(file=shown, width=160), found)
    for words in ("3 of up to", "1 by pass rate", "8 prompts × 8 completions", "gave 0, 1 to synthetic", "grpo.worker"):
        assert words in shown.getvalue()


@pytest.mark.slow
def test_checkpoints_survive_what_only_watches(run: Run) -> None:
    def fingerprint(*changes: str) -> str:
        return job(run, *changes).fingerprint("rows")

    first = fingerprint()
    assert fingerprint("limits.drift=9", "samples_every=1") == first
    for change in ("beta=0.1", "rewards.format.weight=0.2", "order=prioritised", "seed=1", "num_generations=4"):
        assert fingerprint(change) != first, change


def test_it_starts_from_the_base_without_a_student(run: Run) -> None:
    shutil.rmtree(run.student)
    with pytest.raises(InputError, match=r"no student yet\n.*grpo\.start=base"):
        preview(run)
    assert job(run, "start=base").model.endswith("tiny/base")


def test_r1_zero_asks_a_base_in_plain_text_and_rewards_its_format(run: Run) -> None:
    shutil.rmtree(run.student)
    small = ("batch_size=64", "max_completion_length=320", "problems=countdown-tiny", "limit=16", "steps=2")
    facts = ["student=tiny", "student_facts.eos=<|im_end|>", "student_facts.pad=<|endoftext|>"]
    recipe = recipes.load("r1-zero", [*facts, *(f"grpo.{change}" for change in small)])
    found = pipeline.preview(run, recipe, "grpo", LogLines())
    assert isinstance(found, GrpoPreview)
    assert found.rewards == {"accuracy": [0, 1], "format": [0, 1]}
    assert (found.prompts.rows, found.prompts.unknown) == (16, 16)
    made = found.job
    assert made.model.endswith("tiny/base")
    assert "User: " in made.template
    assert (made.eos, made.arguments["beta"]) == ("<|im_end|>", 0.001)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["batch_size=60", "micro_batch=60"], r"grpo\.batch_size.*60 completions a step.*whole groups of 8"),
        (["rollouts=colocate"], r"grpo\.rollouts: colocate needs a GPU"),
        (["pass_rate={low: 0.8, high: 0.2}"], r"low \(0\.8\) is above high"),
        (["rewards.acuracy={}"], r"did you mean accuracy"),
        (["rewards={accuracy: false}"], r"no reward is left"),
        (["nodes=2"], r"grpo\.nodes"),
        (["loss_type=ppo"], r"grpo\.loss_type"),
        (["max_length=340"], r"no prompt is left.*more than 20 tokens"),
        (["rewards={length: {warmup: 9999999}}"], r"grpo\.rewards\.length: can never fire"),
    ],
)
def test_it_refuses(run: Run, changes: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        preview(run, *changes)


def test_problems_can_come_from_elsewhere(run: Run, tmp_path: Path) -> None:
    run.problems.unlink()
    with pytest.raises(InputError, match="distill generate"):
        preview(run)
    assert preview(run, "problems=countdown-tiny", "limit=16").prompts.rows == 16
    other = Run(tmp_path / "other")
    other.folder.mkdir()
    other.problems.write_text(make_problem().model_dump_json() + "\n")
    assert preview(run, f"data={other.folder}").prompts.rows == 1


def test_vllm_arguments_are_those_of_trl(monkeypatch: pytest.MonkeyPatch) -> None:
    config = grpo_config.Config(rollouts="server", vllm=grpo_config.Vllm(server_base_url="http://gpu7:8000"))
    found = grpo_config.arguments(config)
    assert (found["use_vllm"], found["vllm_mode"]) == (True, "server")
    assert found["vllm_server_base_url"] == "http://gpu7:8000"
    assert "epsilon_high" not in found
    monkeypatch.setattr(grpo_config.hardware, "gpus", lambda: 8)
    monkeypatch.setattr(grpo_config.hardware, "installed", lambda package: package == "vllm")
    assert grpo_config.arguments(grpo_config.Config())["vllm_mode"] == "colocate"
    assert "use_vllm" not in grpo_config.arguments(grpo_config.Config(rollouts="generate"))


def test_grpo_is_a_stage_that_recipes_ask_for() -> None:
    assert recipes.load("tiny").stages == ("generate", "filter", "sft", "eval")
    asked = recipes.load("tiny", ["stages=[generate, filter, sft, grpo, eval]"])
    assert asked.stages == recipes.ALL_STAGES
