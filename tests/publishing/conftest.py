"""A finished run made by hand, and the fake Hub as the one that the client speaks to."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.utils
import pytest
from huggingface_hub import constants

from distill.run import Run, write_json
from tests.publishing.hub import TOKEN, Hub
from tests.training.worlds import reply, write_set


@pytest.fixture
def run(tmp_path: Path, tiny: Path) -> Run:
    """A run of the tiny recipe whose student is the tiny base."""
    return make_run(tmp_path / "run", tiny)


def make_run(folder: Path, tiny: Path, **changes: Any) -> Run:
    made = Run(folder)
    folder.mkdir(parents=True)
    shutil.copytree(tiny / "base", made.student)
    (made.student / "training_args.bin").write_bytes(b"pickle")
    rows = [(f"What is {n} * 2?", reply(f"{n} * 2 = {2 * n}", f"<answer>{2 * n}</answer>")) for n in range(6)]
    set_licence(write_set(made.sft / "train.parquet", rows), "apache-2.0")
    made.traces_file.write_bytes(b'{"id": "a"}\n')
    checks = [{"check": "correct", "rejects": 2, "only": 2, "left": 6, "reasons": {"wrong_value": 2}}]
    write_json(made.funnel, {"traces": 8, "checks": checks, "undecidable": 0, "accepted": 6, "kept": 6, "mix": []})
    scores = [score("teacher", 0.8), score("base", 0.1), score("sft", 0.5)]
    write_json(made.scores_file, scores)
    setup = {"method": "full", "strategy": "single", "processes": 1, "nodes": 1, "cpu": True, "max_length": 512}
    sft = {"rows": 6, "steps": 3, "setup": setup, "tokens": 60, "loss_tokens": 40, "first_loss": 2.5, "last_loss": 0.5}
    recipe = {"name": "tiny", "teacher": "tiny", "student": "tiny", "sft": {"batch_size": 4}, **changes}
    stages = {"sft": {"summary": sft}, "generate": {"summary": {"traces": 8, "problems": 6, "tokens": 900}}}
    write_json(made.json, {"recipe": recipe, "versions": {"python": "3.11.7", "trl": "1.16.0"}, "stages": stages})
    return made


def set_licence(path: Path, licence: str | None, teacher: str = "tiny") -> None:
    """Give all rows of a set one licence and one teacher."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    for name, value in (("licence", licence), ("teacher", teacher)):
        column = pyarrow.array([value] * len(table), pyarrow.string())
        table = table.set_column(table.column_names.index(name), name, column)
    pyarrow.parquet.write_table(table, path)


def score(role: str, value: float, set: str = "countdown-tiny") -> dict[str, Any]:
    metrics = {
        "pass@1": {"value": value, "low": value - 0.05, "high": value + 0.05},
        "cons@4": {"value": value + 0.1, "low": value, "high": value + 0.2},
        "truncated": {"value": 0.12, "low": None, "high": None},
        "tokens": {"value": 183.0, "low": 160.0, "high": 200.0},
    }
    return {"model": role, "role": role, "set": set, "n": 4, "metrics": metrics}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    shown = not huggingface_hub.utils.are_progress_bars_disabled()
    huggingface_hub.utils.disable_progress_bars()
    with Hub().running() as made:
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # what a process started by a test may reach
        yield made
    if shown and not os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS"):
        huggingface_hub.utils.enable_progress_bars()
