"""`--on slurm` as a user gives it; sbatch is a stand-in that prints an id (tests/integration has a real slurm)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import orjson
import pytest

from tests.cli.conftest import Run

SBATCH = """#!/bin/sh
for last; do :; done
case "$last" in *"$REFUSED"*) echo 'no such partition' >&2; exit 1 ;; esac
echo "$@" >> "$SAID"
wc -l < "$SAID"
"""


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What sbatch was given, a line a call; REFUSED is the script that it does not take."""
    tools = tmp_path.parent / f"{tmp_path.name}-tools"
    tools.mkdir()
    (tools / "sbatch").write_text(SBATCH)
    (tools / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    monkeypatch.setenv("REFUSED", "nothing is refused")
    monkeypatch.setenv("SAID", str(tools / "said"))
    return tools / "said"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("run tiny --on slrum", "did you mean slurm"),
        ("sft --on ray", "cannot run on 'ray'"),
        ("filter --on rya", "did you mean ray"),
        ("run tiny --submit", "nothing to submit without --on slurm"),
        ("generate tiny --on slurm --forecast 5", "a forecast runs here"),
        ("run tiny --on slurm --set slurm.stages.eval.nodes=2", "eval runs on one node, not 2"),
        ("is-done train --run r", "unknown stage 'train'"),
    ],
)
def test_wrong_input_is_one_message_and_status_2(words: str, message: str, run_here: Run, tmp_path: Path) -> None:
    done = run_here(*words.split())
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert not list(tmp_path.iterdir()), "nothing written"


def test_a_recipe_becomes_a_script_a_stage_and_the_lines_that_chain_them(run_here: Run, tmp_path: Path) -> None:
    done = run_here("run", "tiny", "--on", "slurm", "--set", "slurm.partition=big")
    assert done.exit_code == 0, done.output
    folder = Path("runs/tiny/slurm")
    assert f"  generate=$(sbatch --parsable {folder}/generate.sbatch)\n" in done.stdout
    after = "--dependency=afterok:$generate --kill-on-invalid-dep=yes"
    assert f"  filter=$(sbatch --parsable {after} {folder}/filter.sbatch)\n" in done.stdout
    assert sorted(p.stem for p in (tmp_path / folder).iterdir()) == ["eval", "filter", "generate", "sft"]
    text = (tmp_path / folder / "sft.sbatch").read_text()
    assert "#SBATCH --partition=big\n" in text
    assert f"-m distill.cli sft --run {tmp_path}/runs/tiny --here" in text
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    stored = orjson.loads((tmp_path / "runs/tiny/run.json").read_bytes())["recipe"]
    assert stored["slurm"]["partition"] == "big", "the jobs read their recipe from the run folder"


def test_dry_run_prints_and_writes_nothing(run_here: Run, tmp_path: Path, said: Path) -> None:
    done = run_here("sft", "tiny", "--on", "slurm", "--submit", "--dry-run", "--set", "slurm.nodes=2")
    assert done.exit_code == 0, done.output
    assert "sft: runs/tiny/slurm/sft.sbatch, 2 nodes × 8 GPUs" in done.stdout
    assert "export DISTILL_NODES=2" in done.stdout
    assert "  sbatch runs/tiny/slurm/sft.sbatch" in done.stdout
    assert not list(tmp_path.iterdir())
    assert not said.exists()


def test_submit_gives_each_job_the_one_before(run_here: Run, said: Path) -> None:
    done = run_here("run", "tiny", "--on", "slurm", "--submit", "--run", "r")
    assert done.exit_code == 0, done.output
    given = said.read_text().splitlines()
    assert given[0] == "--parsable r/slurm/generate.sbatch"
    assert given[1] == "--parsable --dependency=afterok:1 --kill-on-invalid-dep=yes r/slurm/filter.sbatch"
    assert len(given) == 4
    assert "sft: job 3, after 2" in done.stdout
    assert "squeue --jobs=1,2,3,4" in done.stdout
    assert "tail -F r/slurm/generate-1.log" in done.stdout
    assert "scancel 1 2 3 4" in done.stdout


def test_a_refusal_names_what_is_already_queued(run_here: Run, said: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUSED", "sft")
    done = run_here("run", "tiny", "--on", "slurm", "--submit", "--run", "r")
    assert done.exit_code == 1
    assert "r/slurm/sft.sbatch: sbatch refused: no such partition" in done.stderr
    assert "scancel 1 2" in done.stderr
    assert len(said.read_text().splitlines()) == 2


def test_a_teacher_that_is_served_elsewhere_needs_no_gpu(run_here: Run) -> None:
    words = ["--set", "generate.backend.kind=vllm", "--set", "generate.backend.endpoints_file=r/endpoints.txt"]
    done = run_here("generate", "tiny", "--run", "r", "--on", "slurm", *words)
    assert "generate: r/slurm/generate.sbatch, 1 node × 16 CPUs" in done.stdout


@pytest.mark.slow
def test_what_is_finished_gets_no_job(run_here: Run, said: Path, tiny: Path) -> None:
    words = ["--set", "generate.backend.kind=scripted", "--set", "generate.backend.replies=[x]", "--limit", "2"]
    assert run_here("is-done", "generate", "--run", "r").exit_code == 3
    assert run_here("generate", "tiny", "--run", "r", *words).exit_code == 0
    assert run_here("is-done", "generate", "--run", "r").exit_code == 0
    done = run_here("run", "tiny", "--run", "r", "--on", "slurm", "--submit", *words)
    assert "generate: unchanged, no job" in done.stdout
    assert said.read_text().splitlines()[0] == "--parsable r/slurm/filter.sbatch"
    more = run_here("run", "tiny", "--run", "r", "--on", "slurm", *words[:-1], "3")
    assert "generate=$(" in more.stdout, "one more problem is work to do"


@pytest.mark.slow
def test_what_is_finished_gets_a_job_and_is_forgotten_when_it_is_to_be_done_again(run_here: Run, said: Path) -> None:
    words = [
        "--set",
        "generate.backend.kind=scripted",
        "--set",
        "generate.backend.replies=['</think>1']",
        "--limit",
        "2",
    ]
    assert run_here("generate", "tiny", "--run", "r", *words).exit_code == 0
    assert run_here("filter", "--run", "r", "--set", "filter.checks={finish: {}}").exit_code == 0
    assert "filter: unchanged, no job" in run_here("filter", "--run", "r", "--on", "slurm").stdout
    done = run_here("filter", "--run", "r", "--on", "slurm", "--redo", "--submit")
    assert done.exit_code == 0, done.output
    assert said.read_text() == "--parsable r/slurm/filter.sbatch\n"
    assert run_here("is-done", "filter", "--run", "r").exit_code == 3
    planned = run_here("filter", "--run", "r", "--redo", "--dry-run")
    assert "filter: would run" in planned.stdout
    assert "2 of 2 traces kept" in run_here("filter", "--run", "r", "--redo").stdout
