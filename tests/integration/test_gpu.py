"""Every way to train on GPUs, small: for the first day on a node that has them (`pytest -m gpu -n 0`).

What a machine cannot do (one GPU, no flash-attention, no bitsandbytes) is skipped with that reason.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from distill.machine import hardware
from tests.integration import test_training as training
from tests.integration.test_training import filtered, losses, trained

__all__ = ["filtered"]
pytestmark = pytest.mark.gpu
GPUS = hardware.gpus()
WAYS = {
    "single": (1, ()),
    "ddp": (2, ("strategy=ddp",)),
    "zero2": (1, ("strategy=zero2",)),
    "zero2-offload": (1, ("strategy=zero2-offload",)),
    "zero3": (2, ("strategy=zero3",)),
    "zero3-offload": (2, ("strategy=zero3-offload",)),
    "paged-8bit": (1, ("optimizer=paged_adamw_8bit",)),
    "lora": (1, ("method=lora", "learning_rate=2e-2")),
    "lora-zero3": (2, ("method=lora", "learning_rate=2e-2", "strategy=zero3")),
    "qlora": (1, ("method=qlora", "learning_rate=2e-2")),
    "sequence-parallel": (2, ("strategy=zero3", "sequence_parallel=2", "micro_batch=1", "attention=sdpa")),
    "flash-packed": (1, ("attention=flash_attention_2", "batching=packed", "max_length=512", "batch_size=2")),
    "checkpointing": (1, ("gradient_checkpointing=true",)),
}
NEEDS = {
    "zero": "deepspeed",
    "sequence": "deepspeed",
    "flash": "flash_attn",
    "qlora": "bitsandbytes",
    "paged": "bitsandbytes",
}


@pytest.mark.skipif(not GPUS, reason="needs a GPU")
@pytest.mark.parametrize("way", WAYS)
def test_each_way_of_training_learns_and_saves_a_student(filtered: Path, tmp_path: Path, way: str) -> None:
    processes, changes = WAYS[way]
    if processes > GPUS:
        pytest.skip(f"needs {processes} GPUs, there are {GPUS}")
    for part, package in NEEDS.items():
        if part in way and importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    rows = 1 if any(change.startswith(("micro_batch", "batch_size=2")) for change in changes) else 16 // processes
    spread = (f"processes={processes}", f"micro_batch={rows}", "attention=sdpa", "batching=grouped")
    summary = trained(filtered, tmp_path, way, *spread, *changes)
    found = losses(tmp_path / way)
    assert found[max(found)] < found[1] * 0.8
    assert summary["setup"]["processes"] == processes
    training.loads(tmp_path / way / "student")


@pytest.mark.skipif(not GPUS, reason="needs a GPU")
@pytest.mark.vllm
def test_the_smoke_recipe_runs_through(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "distill.cli", "run", "gpu-smoke", "--run", "smoke"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "smoke" / "scores.json").is_file()
