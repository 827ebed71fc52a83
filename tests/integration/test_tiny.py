"""`distill run tiny` for real: cut down through transformers, in full through vLLM, with kill -9 in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import datasets
import pytest

from distill.machine.hardware import installed
from tests.integration.processes import living_in

needs_vllm = pytest.mark.skipif(not installed("vllm"), reason="vLLM is not installed")


def distill(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "distill.cli", *words],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "180", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout, done.stderr)
    return done


def backend(kind: str) -> list[str]:
    return ["--set", f"generate.backend.kind={kind}", "--set", f"eval.backend.kind={kind}"]


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def scores(run: Path) -> dict[str, dict[str, dict[str, float]]]:
    return {row["role"]: row["metrics"] for row in json.loads((run / "scores.json").read_text())}


def nothing_to_do(words: list[str], cwd: Path) -> None:
    run = cwd / "runs" / "tiny"
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.name != "log.txt"}
    began = time.monotonic()
    again = distill(*words, cwd=cwd)
    seconds = time.monotonic() - began
    assert again.returncode == 0
    assert again.stdout.count("unchanged") == 4
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.name != "log.txt"} == before
    print(f"a finished run ends in {seconds:.1f} s")


@pytest.mark.integration
def test_cut_down_run_through_transformers(tmp_path: Path) -> None:
    epochs = 6
    words = ["run", "tiny", *backend("transformers"), "--limit", "40", "--set", f"sft.epochs={epochs}"]
    words += ["--set", "eval.samples=2"]
    done = distill(*words, cwd=tmp_path)
    assert done.returncode == 0
    run = tmp_path / "runs" / "tiny"
    assert len(rows(run / "traces.jsonl")) == 40
    trained = datasets.load_dataset("parquet", data_files=str(run / "sft" / "train.parquet"), split="train")
    assert 10 < len(trained) <= 40
    assert set(scores(run)) == {"teacher", "base", "sft"}
    assert scores(run)["teacher"]["pass@1"]["value"] > scores(run)["base"]["pass@1"]["value"]
    assert "pass@1" in done.stdout
    losses = [row["loss"] for row in rows(run / "metrics.jsonl") if row["stage"] == "sft"]
    epoch = len(losses) // epochs
    assert epoch >= 1
    assert sum(losses[-epoch:]) < sum(losses[:epoch]), "batches differ in difficulty, epochs do not"
    nothing_to_do(words, tmp_path)
    threshold = distill(*words, "--set", "filter.checks.length.max_tokens=150", "--dry-run", cwd=tmp_path)
    assert "generate: unchanged" in threshold.stdout
    assert threshold.stdout.count("would run") == 3


def check_saved_student(student: Path) -> None:
    """Generation stops only where tokenizer, config and generation config agree on the end token."""
    from transformers import AutoTokenizer, GenerationConfig

    tokenizer = AutoTokenizer.from_pretrained(student)
    config = json.loads((student / "config.json").read_text())
    generation = GenerationConfig.from_pretrained(student)
    assert tokenizer.eos_token == "<|im_end|>"
    assert config["eos_token_id"] == tokenizer.eos_token_id == generation.eos_token_id
    assert config["pad_token_id"] == tokenizer.pad_token_id != tokenizer.eos_token_id
    text = tokenizer.apply_chat_template([{"role": "user", "content": "x"}], add_generation_prompt=True, tokenize=False)
    assert text.endswith("<think>\n")


@pytest.mark.integration
def test_the_student_is_saved_for_serving_and_learns_eos_only_in_the_loss(tmp_path: Path) -> None:
    words = [*backend("transformers"), "--run", "r", "--limit", "24"]
    assert distill("generate", "tiny", *words, cwd=tmp_path).returncode == 0
    assert distill("filter", "--run", "r", cwd=tmp_path).returncode == 0
    short = ["sft", "--run", "r", "--set", "sft.epochs=1", "--set", "sft.max_length=128"]
    refused = distill(*short, cwd=tmp_path)
    assert refused.returncode == 1
    assert " keeps " in refused.stderr, "what length would keep how much"
    assert not (tmp_path / "r" / "student").exists()
    done = distill(*short, "--set", "sft.max_dropped=1", cwd=tmp_path)
    assert done.returncode == 0
    state = json.loads((tmp_path / "r" / "run.json").read_text())
    summary = state["stages"]["sft"]["summary"]
    trained = datasets.load_dataset("parquet", data_files=str(tmp_path / "r" / "sft" / "train.parquet"), split="train")
    assert summary["rows"] + summary["dropped_too_long"] == len(trained)
    assert summary["dropped_too_long"] > 0, "long rows are left out and counted"
    check_saved_student(tmp_path / "r" / "student")


def kill_and_resume(kind: str, cwd: Path, limit: int, at: list[int]) -> None:
    words = ["generate", "tiny", *backend(kind), "--run", "k", "--limit", str(limit)]
    log = cwd / "k" / "traces.jsonl"
    for count in at:
        with subprocess.Popen([sys.executable, "-m", "distill.cli", *words], cwd=cwd) as child:
            until = time.monotonic() + 300
            while not log.exists() or log.read_bytes().count(b"\n") < count:
                assert time.monotonic() < until
                assert child.poll() is None, "it ended before it was killed"
                time.sleep(0.02)
            os.kill(child.pid, signal.SIGKILL)
    whole = log.read_bytes()
    kept = [json.loads(line)["id"] for line in whole[: whole.rfind(b"\n") + 1].splitlines()]
    assert len(kept) >= at[-1]
    assert distill(*words, cwd=cwd).returncode == 0
    ids = [row["id"] for row in rows(log)]
    assert ids[: len(kept)] == kept, "no trace lost"
    assert len(ids) == len(set(ids)) == limit, "none twice"


@pytest.mark.integration
def test_kill_9_through_transformers(tmp_path: Path) -> None:
    kill_and_resume("transformers", tmp_path, 300, [20, 120])


@pytest.mark.vllm
@needs_vllm
def test_kill_9_through_vllm_leaves_no_engine_behind(tmp_path: Path) -> None:
    kill_and_resume("vllm", tmp_path, 600, [60, 250])
    time.sleep(1)
    assert not living_in(tmp_path), "servers start in the folder of the command that started them"


@pytest.mark.vllm
@needs_vllm
def test_the_whole_recipe_through_vllm(tmp_path: Path) -> None:
    began = time.monotonic()
    done = distill("run", "tiny", *backend("vllm"), cwd=tmp_path)
    print(f"the whole recipe through vLLM took {time.monotonic() - began:.0f} s")
    assert done.returncode == 0
    run = tmp_path / "runs" / "tiny"
    found = scores(run)
    base, sft, teacher = (found[role]["pass@1"]["value"] for role in ("base", "sft", "teacher"))
    assert teacher >= 0.75
    assert sft >= base + 0.35
    reasons = {reason for row in json.loads((run / "funnel.json").read_text())["checks"] for reason in row["reasons"]}
    assert len(reasons) >= 5, reasons
    nothing_to_do(["run", "tiny", *backend("vllm")], tmp_path)
    written = rows(run / "eval" / "sft.jsonl")
    there = [row for row in written if "</answer>" in row["completion"]]
    ended = [row for row in there if row["finish"] == "stop" and row["completion"].endswith("</answer>")]
    cut = sum(row["finish"] == "length" for row in written)
    print(f"EOS right after </answer>: {len(ended)} of {len(there)}; cut: {cut} of {len(written)}")
    assert len(ended) >= 0.995 * len(there) > 0
