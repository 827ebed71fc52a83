"""Stages as batch jobs, without the command line; sbatch is a stand-in that prints an id."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from distill import batch
from distill import recipe as recipes
from distill.errors import InputError, RunError
from distill.run import Run

SBATCH = """#!/bin/sh
for last; do :; done
case "$last" in *sft*) echo 'no such partition' >&2; exit 1 ;; esac
echo "$@" >> "$SUBMITTED"
wc -l < "$SUBMITTED"
"""


@pytest.fixture
def submitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What sbatch was given, a line a call; it refuses sft's script."""
    (tmp_path / "sbatch").write_text(SBATCH)
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("SUBMITTED", str(tmp_path / "submitted"))
    return tmp_path / "submitted"


def test_scripts_are_made_before_anything_is_written(tmp_path: Path) -> None:
    run = Run(tmp_path / "r")
    recipe = recipes.load("tiny", ["slurm.time='1:00:00'", "slurm.gpus_per_node=0"])
    scripts = batch.scripts(run, recipe, ("filter", "sft"))
    assert [script.stage for script in scripts] == ["filter", "sft"]
    assert scripts[1].size == "1 node × 16 CPUs, 1:00:00"
    assert not run.folder.exists()
    batch.write(run, recipe, scripts[1])
    assert (run.folder / "slurm" / "sft.sbatch").read_text() == scripts[1].text
    assert run.state()["recipe"]["slurm"]["time"] == "1:00:00", "the jobs read their recipe from the run folder"
    assert not batch.is_done("sft", run.folder)


def test_a_study_becomes_no_jobs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a study, which runs here"):
        batch.scripts(Run(tmp_path), recipes.load("tiny-study"), ("sft",))


def test_each_job_waits_for_the_one_before_and_a_refusal_says_what_to_cancel(tmp_path: Path, submitted: Path) -> None:
    run = Run(tmp_path / "r")
    recipe = recipes.load("tiny")
    scripts = batch.scripts(run, recipe, ("generate", "filter", "sft"))
    jobs = batch.submit(scripts)
    taken = [next(jobs), next(jobs)]
    with pytest.raises(RunError, match="no such partition") as caught:
        next(jobs)
    assert [(job.stage, job.id, job.after) for job in taken] == [("generate", "1", None), ("filter", "2", "1")]
    assert caught.value.fix == "those before it are submitted: scancel 1 2"
    assert submitted.read_text().splitlines()[1].startswith("--parsable --dependency=afterok:1 ")
