"""A dry run changes nothing on disk, whatever lies in the run folder: not even checkpoints that it would remove."""

from __future__ import annotations

import hashlib
import logging
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.conftest import GOOD, make_problem, make_trace
from tests.publishing.conftest import make_run
from tests.training import worlds


def snapshot(folder: Path) -> dict[str, tuple[int, str] | None]:
    """Path to time and content; None for a folder."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        if path.is_file()
        else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def run(tmp_path: Path, tiny: Path) -> Path:
    """A run with traces, a set, a student, and checkpoints of other settings than today's."""
    folder = tmp_path / "run"
    problems = [make_problem(f"Using the numbers 3, 7, 8, make 29{'!' * n}") for n in range(4)]
    traces = [make_trace(GOOD, problem_id=problem.id, id=f"t{n}") for n, problem in enumerate(problems)]
    worlds.write_set(folder / "sft" / "train.parquet", [(f"Double {n}.", worlds.reply()) for n in range(24)])
    for name, records in (("problems", problems), ("traces", traces)):
        (folder / f"{name}.jsonl").write_text("".join(record.model_dump_json() + "\n" for record in records))
    shutil.copytree(tiny / "base", folder / "student")
    for place in ("training", "training/grpo"):
        (folder / place / "checkpoints" / "checkpoint-3").mkdir(parents=True)
        (folder / place / "checkpoints" / "checkpoint-3" / "whole.json").write_text('{"step": 3}')
        (folder / place / "fingerprint").write_text("of other settings")
    return folder


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("run tiny", "generate"),
        ("generate tiny --limit 4", "generate"),
        ("filter tiny", "kept"),
        ("sft tiny", "training"),
        ("sft tiny --set sft.strategy=ddp --set sft.processes=2 --set sft.micro_batch=8", "accelerate"),
        pytest.param("grpo tiny", "GRPO of", marks=pytest.mark.slow),
        ("eval tiny", "eval"),
        *((f"{stage} tiny --on slurm", "#SBATCH") for stage in ("generate", "filter", "sft", "grpo", "eval")),
        ("run tiny --on slurm --submit", "#SBATCH"),
    ],
)
def test_nothing_changes(run: Path, run_here: Run, words: str, said: str) -> None:
    before = snapshot(run.parent)
    done = run_here(*words.split(), "--run", str(run), "--dry-run")
    assert done.exit_code == 0, done.output
    assert said in done.output
    assert snapshot(run.parent) == before


def test_what_a_real_filter_left_is_only_read(run: Path, run_here: Run) -> None:
    assert run_here("filter", "tiny", "--run", str(run)).exit_code == 0
    log = logging.getLogger("distill")
    for handler in list(log.handlers):  # of log.txt, which else ends with the command's process
        log.removeHandler(handler)
        handler.close()
    before = snapshot(run)
    done = run_here("filter", "tiny", "--run", str(run), "--dry-run", "--set", "filter.checks.length.max_tokens=3")
    assert done.exit_code == 0, done.output
    assert snapshot(run) == before


@pytest.mark.slow
def test_checkpoints_that_would_go_are_named(run: Path, run_here: Run, caplog: pytest.LogCaptureFixture) -> None:
    for stage, folder in (("sft", run / "training"), ("grpo", run / "training" / "grpo")):
        assert run_here(stage, "tiny", "--run", str(run), "--dry-run").exit_code == 0
        assert f"would be removed: {folder / 'checkpoints'}" in caplog.text


@pytest.mark.vllm
def test_serving_is_only_told(run: Path, run_here: Run) -> None:
    before = snapshot(run.parent)
    done = run_here("serve", "--teacher", "tiny", "--replicas", "1", "--run", str(run), "--dry-run")
    assert done.exit_code == 0, done.output
    assert snapshot(run.parent) == before


def test_publish_writes_what_it_would_publish_and_nothing_else(tmp_path: Path, tiny: Path, run_here: Run) -> None:
    run = make_run(tmp_path / "run", tiny)
    before = snapshot(tmp_path)
    done = run_here("publish", "--run", str(run.folder), "--to", "org/name", "--dry-run")
    assert done.exit_code == 0, done.output
    after = snapshot(tmp_path)
    assert {name: seen for name, seen in after.items() if not name.startswith("run/publish")} == before
