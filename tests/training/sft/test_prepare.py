"""What is written before the first step of SFT, and which checkpoints may be gone on from."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill.errors import InputError
from distill.models import presets
from distill.progress import LogLines
from distill.run import Run
from distill.training import config as settings
from distill.training.job import TrainingJob
from distill.training.sft import prepare
from distill.training.sft.config import Config
from tests.training import worlds


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return worlds.write_set(tmp_path / "train.parquet", [(f"Double {n}.", worlds.reply()) for n in range(24)])


def prepared(data: Path, keep: bool = True, **config: object) -> TrainingJob:
    run = Run(data.parent / "run")
    settings = Config.model_validate({"max_length": 400, "batch_size": 8, **config})
    return prepare.prepare(run, presets.student("tiny"), settings, data, LogLines(), keep=keep).job


def test_the_processes_are_told_where_everything_is(data: Path) -> None:
    job = prepared(data, seed=5)
    folder = data.parent / "run" / "training"
    assert TrainingJob.model_validate_json((folder / "job.json").read_bytes()) == job
    assert {path.name for path in folder.iterdir()} == {"fingerprint", "job.json", "rows.parquet"}
    assert (job.rows, job.name, job.seed) == (str(folder / "rows.parquet"), "run", 5)
    assert (job.setup.batch, job.batching, job.attention) == (8, "grouped", "eager")


@pytest.mark.parametrize(
    ("change", "stay"),
    [({}, True), ({"log_to": ["tensorboard"]}, True), ({"seed": 1}, False), ({"limit": 9}, False)],
    ids=["nothing", "a tracker", "the seed", "the rows"],
)
def test_checkpoints_go_with_the_settings_and_rows_that_they_are_of(
    data: Path, change: dict[str, object], stay: bool, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = prepared(data).checkpoint_folder
    checkpoints.mkdir()
    prepared(data, keep=False, **change)
    assert checkpoints.is_dir(), "a look removes nothing"
    assert ("would be removed" in caplog.text) is not stay
    prepared(data, **change)
    assert checkpoints.is_dir() is stay


def test_another_set_of_the_same_size_is_another_training(data: Path) -> None:
    checkpoints = prepared(data).checkpoint_folder
    checkpoints.mkdir()
    worlds.write_set(data, [(f"Triple {n}.", worlds.reply()) for n in range(24)])
    prepared(data)
    assert not checkpoints.exists()


def test_a_look_counts_what_would_be_written(data: Path) -> None:
    settings = Config(max_length=400, batch_size=8)
    run, student = Run(data.parent / "run"), presets.student("tiny")
    seen = prepare.prepare(run, student, settings, data, LogLines(), keep=False)
    assert not run.folder.exists()
    assert prepare.prepare(run, student, settings, data, LogLines()) == seen


def test_a_process_without_a_gpu_of_its_own_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings.hardware, "gpus", lambda: 1)
    monkeypatch.setattr(settings.hardware, "gpu_memory", lambda: {"0": 80 << 30})
    assert settings.usable_hardware(Config(processes=1)).gpus == settings.usable_hardware(Config()).gpus == 1
    with pytest.raises(InputError, match=r"grpo\.processes: 2 processes need a GPU each, and this machine has 1"):
        settings.usable_hardware(Config(processes=2), "grpo")
