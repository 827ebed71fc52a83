"""Which of several processes does the work: one, or one on each node for the stages that can be spread."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill import pipeline
from distill import recipe as recipes
from distill.errors import InputError
from distill.progress import LogLines
from distill.run import Run
from distill.training import launch


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (launch.NODES, launch.RANK, launch.MASTER, "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)


def test_one_process_and_the_nodes_of_a_job_know_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launch.node_rank(["generate"]) == 0
    monkeypatch.setenv(launch.NODES, "2")
    monkeypatch.setenv(launch.RANK, "1")
    # as the batch script starts it: one task on each node
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    monkeypatch.setenv("SLURM_LOCALID", "0")
    with pytest.raises(InputError, match=r"DISTILL_MASTER: is not set on a further node\n.*host:port"):
        launch.node_rank([])
    monkeypatch.setenv(launch.MASTER, "first:29500")
    assert launch.node_rank([]) == 1
    monkeypatch.setenv(launch.RANK, "0")
    assert launch.node_rank([]) == 0
    monkeypatch.setenv(launch.RANK, "first")
    with pytest.raises(InputError, match="DISTILL_NODE_RANK: is no number: 'first'"):
        launch.node_rank([])


@pytest.mark.parametrize("stage", ["generate", "filter", "grpo", "eval"])
def test_further_nodes_of_what_one_process_does_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: pipeline.StageName
) -> None:
    run, recipe = Run(tmp_path / "run"), recipes.load("tiny")
    monkeypatch.setenv(launch.NODES, "2")
    for rank in ("0", "1"):
        monkeypatch.setenv(launch.RANK, rank)
        said = rf"{stage} is done by one process on one node, .* node {rank} of 2\n.*start it once"
        with pytest.raises(InputError, match=said):
            list(pipeline.run_stages(run, recipe, (stage,), LogLines()))
    assert not run.folder.exists()


def test_several_tasks_of_one_step_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    for task in "03":
        monkeypatch.setenv("SLURM_LOCALID", task)
        for alone in (["generate"], []):
            with pytest.raises(InputError, match=r"srun started 4 of this command[\s\S]*--ntasks=1"):
                launch.node_rank(alone)
    # two tasks on one node of several
    monkeypatch.setenv(launch.RANK, "0")
    with pytest.raises(InputError, match="srun started 4"):
        launch.node_rank([])
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    monkeypatch.delenv(launch.RANK)
    monkeypatch.setenv("SLURM_LOCALID", "0")
    assert launch.node_rank(["generate"]) == 0
