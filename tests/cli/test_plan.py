"""`distill plan`: what is printed, what is written, and what is said where nothing fits."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from distill import recipe as recipes
from distill.machine import hardware
from distill.models import presets
from distill.planning.setup import Hardware
from distill.training import config as settings
from tests.cli.conftest import Run


def test_a_plan_names_the_exact_model_the_parts_and_the_reason(run_here: Run) -> None:
    words = ["plan", "--student", "qwen2.5-7b", "--gpus", "8", "--gpu", "H100", "--tokens", "2e9"]
    done = run_here(*words, "--price-per-gpu-hour", "2.5", "--set", "sft.epochs=1")
    assert done.exit_code == 0, done.output
    assert "Qwen/Qwen2.5-7B, 7.62B parameters" in done.output
    assert "lacks 98" in done.output  # a whole copy on each GPU
    assert "→ ZeRO-2" in done.output
    for part in ("weights", "gradients", "optimizer", "activations", "logits", "buffers", "at the fullest"):
        assert part in done.output
    assert "without TRL's fused head" in done.output
    assert "2,000,000,000 tokens × 1 epochs" in done.output
    assert "if 35% of the GPUs' peak goes into the model" in done.output
    assert "costs" in done.output
    assert '"stage": 2' in done.output
    assert "-m accelerate.commands.launch --config_file" in done.output
    assert not list(Path().iterdir())


def test_no_price_no_cost_and_no_gpu_no_hours(run_here: Run) -> None:
    done = run_here("plan", "--student", "qwen2.5-7b", "--tokens", "1e9")
    assert "name the GPU with --gpu" in done.output
    assert "costs" not in done.output


def test_files_are_written_for_several_nodes(run_here: Run) -> None:
    words = ["plan", "--student", "qwen2.5-72b", "--nodes", "4", "--gpus", "8", "--out", "files"]
    done = run_here(*words, "--set", "sft.batch_size=64")
    assert done.exit_code == 0, done.output
    told = yaml.safe_load(Path("files/accelerate.yaml").read_text())
    assert (told["num_machines"], told["num_processes"]) == (4, 32)
    assert told["parallelism_config"]["parallelism_config_sp_size"] == 4
    assert json.loads(Path("files/deepspeed.json").read_text())["zero_optimization"]["stage"] == 3
    assert "--machine_rank RANK --main_process_ip HOST" in done.output


def test_what_does_not_fit_says_by_how_much_and_what_would_help(run_here: Run) -> None:
    done = run_here("plan", "--student", "qwen2.5-32b", "--gpus", "1", "--gpu-memory", "48", "--host-memory", "128")
    assert done.exit_code == 2
    assert "32.8B parameters at 32,768 tokens do not fit on 1 × 1 × 48 GiB" in done.output
    assert "--nodes" in done.output
    allowed = run_here(
        "plan",
        "--student",
        "qwen2.5-32b",
        "--gpus",
        "2",
        "--gpu-memory",
        "80",
        "--host-memory",
        "128",
        "--method",
        "auto",
    )
    assert allowed.exit_code == 0, allowed.output
    assert "→ LoRA" in allowed.output


def test_it_tells_what_sft_would_do_where_the_recipe_decides(run_here: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["plan", "--student", "qwen2.5-7b", "--gpus", "8"]
    by_hand = run_here(*words, "--set", "sft.strategy=zero3", "--set", "sft.micro_batch=2").output
    assert "→ ZeRO-3" in by_hand
    assert "64 = 2 × 4 passes × 8 replicas" in by_hand
    fewer = run_here(*words, "--set", "sft.processes=4", "--set", "sft.nodes=2").output
    assert "on 2 × 4 × GPU" in fewer
    assert "flash_attention_2, taken to be installed there" in fewer
    # on a machine with GPUs it is known what is installed
    monkeypatch.setattr(hardware, "gpus", lambda: 8)
    monkeypatch.setattr(hardware, "installed", lambda _: False)
    plain = run_here(*words).output
    assert "one document each; sdpa\n" in plain
    assert "taken to be" not in plain
    packed = run_here(*words, "--set", "sft.batching=packed", "--set", "sft.sequence_parallel=2")
    assert "packed rows need flash-attention" in " ".join(packed.output.split())


def test_on_a_cpu_it_tells_the_setup_of_sft(run_here: Run) -> None:
    recipe = recipes.load("tiny", ["sft.batch_size=48", "sft.processes=3"])
    student = presets.student("tiny")
    asked = settings.workload_of(recipe.sft, student, "eager", "grouped")
    setup = settings.setup(recipe.sft, Hardware(), presets.shape(student), asked)
    told = run_here(
        "plan", "--student", "tiny", "--gpus", "0", "--set", "sft.batch_size=48", "--set", "sft.processes=3"
    )
    assert f"48 = {setup.micro_batch} × {setup.accumulation} passes × 3 replicas" in told.output
    assert "one document each; eager" in told.output


def test_facts_that_a_recipe_gives_of_its_student_count(run_here: Run) -> None:
    done = run_here("plan", "--student", "tiny", "--gpus", "0", "--set", "student_facts.max_length=512")
    assert "rows of up to 512 tokens" in done.output


def test_the_set_of_a_run_is_counted(run_here: Run) -> None:
    Path("r/sft").mkdir(parents=True)
    pq.write_table(pa.table({"tokens": [100, 200, 300]}), "r/sft/train.parquet")
    done = run_here(
        "plan",
        "--student",
        "tiny",
        "--gpus",
        "0",
        "--data",
        "r",
        "--set",
        "sft.batch_size=2",
        "--set",
        "sft.micro_batch=1",
    )
    assert done.exit_code == 0, done.output
    assert "600 tokens × 6 epochs: 12 steps" in done.output
    assert "one process needs no launcher" in done.output
    assert run_here("plan", "--student", "tiny", "--gpus", "0", "--data", "nowhere").exit_code == 2


def test_a_wrong_method_and_a_wrong_gpu_are_named(run_here: Run) -> None:
    assert "did you mean qlora?" in run_here("plan", "--student", "tiny", "--method", "qlor").output
    done = run_here("plan", "--student", "qwen2.5-7b", "--gpu", "H10", "--tokens", "1e9")
    assert done.exit_code == 2
    assert "the speed of a 'H10' is not known" in done.output
