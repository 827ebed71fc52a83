"""What was published is used as others will: by its name, from the Hub, by `datasets` and by vLLM."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from distill.backends import Backend, ChosenBackend
from distill.models.chat import Tokenizer
from distill.models.model import Model
from distill.models.reasoning import Tags
from distill.models.request import Request
from distill.run import Run
from distill.types import Message, Sampling
from tests.publishing.hub import TOKEN, Hub

ASKED = (
    "Using the numbers 2, 5, 10, make 40. Use each number exactly once, with + - * / and parentheses. Put the"
    " expression in <answer></answer>."
)


@pytest.fixture
def reached(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The Hub, with all that a process needs to reach it and a cache of its own."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    return hub


def publish(run: Run, *words: str) -> str:
    command = [sys.executable, "-m", "distill.cli", "publish", "--run", str(run.folder), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_datasets_loads_a_published_set_by_its_name(run: Run, reached: Hub) -> None:
    assert "loads, 6 rows" in publish(run, "--to", "someone/traces", "--dataset")
    code = "from datasets import load_dataset\nprint(load_dataset('someone/traces', split='train').num_rows)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "6", done.stderr


@pytest.mark.vllm
@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")
def test_vllm_serves_a_published_student_by_its_name(
    run: Run, reached: Hub, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(run.student)
    shutil.copytree(tiny / "teacher", run.student)
    publish(run, "--to", "someone/student", "--set", "publish.load=false")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert "HF_HUB_OFFLINE" not in os.environ
    model = Model(name="student", path="someone/student", context=1024)
    made: Backend = ChosenBackend.of({"kind": "vllm"}).build(model, tmp_path / "log")
    ids = Tokenizer(str(run.student)).prompt([Message(role="user", content=ASKED)], Tags()).ids
    request = Request(id="one", ids=ids, sampling=Sampling(temperature=0.6, top_p=0.95, max_tokens=600), seed=1)
    with asyncio.Runner() as runner:
        try:
            runner.run(made.open())
            reply = runner.run(made.complete(request))
        finally:
            runner.run(made.close())
    assert reply.finish in ("stop", "length")
    assert len(reply.text) > 10
