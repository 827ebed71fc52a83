"""Training for real: one process, two ZeRO-3 ranks, adapters, and what a kill or a stop leaves to go on from."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.processes import living_in
from tests.training import worlds

pytestmark = pytest.mark.integration
ROWS, STEPS = 96, 12  # two epochs of 16 rows a step
FIXED = ("epochs=2", "batch_size=16", "micro_batch=16", "gradient_checkpointing=false", "stop_check=0", "seed=3")


def replies() -> list[tuple[str, str]]:
    """Questions with replies of many lengths."""
    rows = []
    for n in range(ROWS):
        tries = "".join(f"Try {n}+{k}={n + k}. That is {n + k}, not {2 * n}.\n" for k in range(1 + n % 7))
        rows.append((f"Double {n}.", f"<think>\n{tries}So {n}*2={2 * n}, yes.\n</think>\n\n<answer>{n}*2</answer>"))
    return rows


@pytest.fixture(scope="module")
def filtered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    worlds.write_set(folder / "sft" / "train.parquet", replies())
    return folder


def command(filtered: Path, run: str, *changes: str) -> list[str]:
    settings = [word for change in (*FIXED, *changes) for word in ("--set", f"sft.{change}")]
    return [sys.executable, "-m", "distill.cli", "sft", "tiny", "--run", run, "--data", str(filtered), *settings]


def trained(filtered: Path, cwd: Path, run: str, *changes: str) -> dict[str, Any]:
    """Train to the end; what run.json says of it."""
    done = subprocess.run(
        command(filtered, run, *changes), cwd=cwd, capture_output=True, text=True, timeout=400, check=False
    )
    log = cwd / run / "training" / "launch.log"
    assert done.returncode == 0, done.stderr[-3000:] + (log.read_text()[-3000:] if log.is_file() else "")
    summary: dict[str, Any] = json.loads((cwd / run / "run.json").read_text())["stages"]["sft"]["summary"]
    return summary


def losses(run: Path) -> dict[int, float]:
    """Step to loss; of a step that was repeated after a kill, the last."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row["loss"] for row in rows if row["stage"] == "sft"}


@pytest.fixture(scope="module")
def unbroken(filtered: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, float]:
    cwd = tmp_path_factory.mktemp("unbroken")
    trained(filtered, cwd, "one")
    found = losses(cwd / "one")
    assert list(found) == list(range(1, STEPS + 1))
    assert found[STEPS] < found[1] / 2
    return found


@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="needs the deepspeed extra")
def test_two_zero3_ranks_lose_what_one_process_loses(
    filtered: Path, tmp_path: Path, unbroken: dict[int, float]
) -> None:
    summary = trained(filtered, tmp_path, "two", "strategy=zero3", "processes=2", "micro_batch=8")
    assert summary["setup"]["processes"] == 2
    found = losses(tmp_path / "two")
    assert list(found) == list(unbroken)
    # bf16 weights with an fp32 copy in the optimizer, against fp32 weights under autocast
    for step, loss in unbroken.items():
        assert found[step] == pytest.approx(loss, rel=0.05), step
    loads(tmp_path / "two" / "student")
    assert not living_in(tmp_path)


def loads(student: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(student)
    assert sum(p.numel() for p in model.parameters()) == 561_216
    tokenizer = AutoTokenizer.from_pretrained(student)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id == model.config.eos_token_id


def test_adapters_are_trained_and_merged(filtered: Path, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from distill.models import presets

    summary = trained(filtered, tmp_path, "lora", "method=lora", "lora.rank=8", "learning_rate=2e-2")
    assert summary["last_loss"] < summary["first_loss"]
    student = tmp_path / "lora" / "student"
    loads(student)
    base = presets.student("tiny").model
    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(student / "adapter"))
    merged = AutoModelForCausalLM.from_pretrained(student)
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    torch.testing.assert_close(merged(ids).logits, adapted(ids).logits, atol=0.15, rtol=0.05)
    plain = AutoModelForCausalLM.from_pretrained(base)
    assert (merged(ids).logits - plain(ids).logits).abs().max() > 0.5


def test_a_killed_run_goes_on_with_the_same_losses(filtered: Path, tmp_path: Path, unbroken: dict[int, float]) -> None:
    words = command(filtered, "killed", "checkpoints=6")
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        wait_for(lambda: step_of(tmp_path / "killed") >= 7, child)
        child.kill()
    whole = list((tmp_path / "killed" / "training" / "checkpoints").glob("checkpoint-*/whole.json"))
    assert whole
    # a checkpoint that a crash left half written is not gone on from
    half = tmp_path / "killed" / "training" / "checkpoints" / "checkpoint-11"
    half.mkdir()
    (half / "trainer_state.json").write_text("{")
    summary = trained(filtered, tmp_path, "killed", "checkpoints=6")
    assert 2 <= summary["resumed_at"] <= STEPS
    found = losses(tmp_path / "killed")
    assert found == pytest.approx(unbroken, rel=1e-4)


def test_a_stop_saves_a_checkpoint_and_ends_well(filtered: Path, tmp_path: Path, unbroken: dict[int, float]) -> None:
    words = command(filtered, "stopped", "checkpoints=0", "epochs=2")
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as child:
        wait_for(lambda: step_of(tmp_path / "stopped") >= 3, child)
        child.send_signal(signal.SIGTERM)
        _, said = child.communicate(timeout=120)
    assert child.returncode == 0
    if "stopped after step" not in said:  # it was over before the signal came
        return
    assert not (tmp_path / "stopped" / "student").exists()
    summary = trained(filtered, tmp_path, "stopped", "checkpoints=0")
    assert summary["resumed_at"] >= 3
    assert losses(tmp_path / "stopped") == pytest.approx(unbroken, rel=1e-4)


def step_of(run: Path) -> int:
    try:
        return int(json.loads((run / "training" / "progress.json").read_text())["step"])
    except (OSError, ValueError):
        return 0


def wait_for(reached: Any, child: subprocess.Popen[Any]) -> None:
    until = time.monotonic() + 240
    while not reached():
        assert time.monotonic() < until
        assert child.poll() is None, "it ended before it was killed"
        time.sleep(0.02)


def test_two_nodes_meet_and_only_the_first_keeps_the_run(
    filtered: Path, tmp_path: Path, unbroken: dict[int, float]
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = command(filtered, "nodes", "micro_batch=8", "checkpoints=2")
    told = {**os.environ, "DISTILL_NODES": "2", "DISTILL_MASTER": f"127.0.0.1:{port}", "OMP_NUM_THREADS": "1"}
    nodes = [
        subprocess.Popen(
            words, cwd=tmp_path, env={**told, "DISTILL_NODE_RANK": rank}, stderr=subprocess.PIPE, text=True
        )
        for rank in ("1", "0")
    ]
    said = [node.communicate(timeout=300)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], "\n".join(said)
    # the same fp32 weights under autocast as one process has: only the order of sums differs
    assert losses(tmp_path / "nodes") == pytest.approx(unbroken, rel=0.02)
    stages = json.loads((tmp_path / "nodes" / "run.json").read_text())["stages"]
    assert stages["sft"]["summary"]["setup"]["nodes"] == 2
    loads(tmp_path / "nodes" / "student")
