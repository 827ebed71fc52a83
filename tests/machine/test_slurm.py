"""A stage's batch script: what it asks for and how it ends, with stand-ins for slurm's commands (tests/shell.py)."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from distill import recipe as recipes
from distill.errors import InputError
from distill.machine import slurm
from distill.machine.slurm import Slurm
from distill.run import Run
from tests.conftest import GOOD
from tests.shell import asked, directives, run

Build = Callable[..., dict[str, Any]]


def script(stage: str, folder: Path, cluster: Slurm, **options: Any) -> str:
    return slurm.stage_script(stage, "mine", folder, cluster.for_stage(stage), **options)


def test_training_takes_the_nodes_and_filtering_no_gpu(tmp_path: Path) -> None:
    cluster = Slurm(nodes=4, partition="big", time="8:00:00", cpus=12, stages={"generate": {"gpus_per_node": 2}})
    train = directives(script("sft", tmp_path, cluster))
    assert {"--nodes=4", "--gpus-per-node=8", "--cpus-per-gpu=8", "--partition=big", "--requeue"} <= {*train}
    assert {"--job-name=mine-sft", "--time=8:00:00", "--signal=B:TERM@120", f"--chdir={Path.cwd()}"} <= {*train}
    judge = directives(script("filter", tmp_path, cluster))
    assert {"--nodes=1", "--cpus-per-task=12"} <= {*judge}
    assert not [line for line in judge if "gpu" in line]
    assert {"--nodes=1", "--gpus-per-node=2"} <= {*directives(script("generate", tmp_path, cluster))}
    assert cluster.for_stage("generate", served=True).gpus_per_node == 2, "what is said of a stage counts"
    assert Slurm().for_stage("generate", served=True).gpus_per_node == 0


def test_what_is_wrong_with_a_stage_is_told_with_its_place() -> None:
    with pytest.raises(InputError, match=r"slurm.stages.sft.gpus_per_nod: no such field\n.*gpus_per_node"):
        Slurm(stages={"sft": {"gpus_per_nod": 1}}).for_stage("sft")
    with pytest.raises(InputError, match=r"slurm.stages.sft: nodes: .*greater than or equal to 1"):
        Slurm(stages={"sft": {"nodes": 0}}).for_stage("sft")
    with pytest.raises(InputError, match=r"slurm.stages.filter.nodes: filter runs on one node, not 2"):
        Slurm(stages={"filter": {"nodes": 2}}).for_stage("filter")
    with pytest.raises(InputError, match=r"slurm.stages.stf: no such stage\n.*did you mean sft"):
        recipes.load("tiny", ["slurm.stages.stf.nodes=2"])
    with pytest.raises(InputError, match=r"slurm.partitoin: no such field|did you mean partition"):
        recipes.load("tiny", ["slurm.partitoin=a"])
    with pytest.raises(InputError, match="in quotes"):
        recipes.load("tiny", ["slurm.time=12:00:00"])
    with pytest.raises(ValidationError, match="line break"):
        Slurm(partition="a\nb")


def test_a_recipe_that_went_through_run_json_asks_for_the_same() -> None:
    recipe = recipes.load("tiny", ["slurm.account=us", "slurm.stages.sft.nodes=3"])
    again = recipes.build(recipe.model_dump(mode="json"))
    assert again.slurm.for_stage("sft") == recipe.slurm.for_stage("sft")
    assert (again.slurm.for_stage("sft").nodes, again.slurm.for_stage("sft").account) == (3, "us")


@pytest.mark.parametrize("stage", ["generate", "sft"])
def test_the_script_is_sound_shell(stage: str, tmp_path: Path) -> None:
    text = script(stage, tmp_path / "a folder; 100%", Slurm(nodes=2, setup=("module load 'b c'",)))
    assert f"--output='{tmp_path}/a folder; 100%%/slurm'/{stage}-%j.log" in directives(text)
    assert text.index("module load") < text.index("set -u")
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "-"], input=text, text=True, check=True)


def test_a_launcher_counts_and_its_own_srun_takes_the_place_of_ours(tmp_path: Path) -> None:
    box = script("eval", tmp_path, Slurm(), prefix=["apptainer", "exec", "a.sif"], python="python3")
    ours = "srun --job-name=distill --nodes=1 --ntasks=1 --cpu-bind=none"
    task = 'bash -c "$task" task \\\n   '
    assert f"{ours} {task} apptainer exec a.sif python3 -m distill.cli eval --run" in box
    own = script("eval", tmp_path, Slurm(), prefix=["srun", "--gpus", "4"], python="python3")
    assert f"\nsrun --job-name=distill --gpus 4 {task} python3 -m distill.cli eval --run" in own
    assert "--cpu-bind" not in own


@pytest.mark.slow
def test_every_node_learns_its_number_and_where_to_meet(tmp_path: Path) -> None:
    told = tmp_path / "node"
    told.write_text('#!/bin/bash\necho "$DISTILL_NODE_RANK of $DISTILL_NODES at $DISTILL_MASTER: $3 $6"\nexit 1\n')
    told.chmod(0o755)
    text = script("sft", tmp_path, Slurm(nodes=2), python=str(told))
    with run(text, tmp_path) as shell:
        said = shell.communicate(timeout=20)[0].splitlines()
    host = subprocess.run(["hostname"], capture_output=True, text=True, check=True).stdout.strip()
    assert sorted(said) == [f"{rank} of 2 at {host}:24711: sft --here" for rank in (0, 1)]


@pytest.mark.slow
def test_a_stopped_stage_goes_back_into_the_queue_and_a_finished_one_does_not(
    tmp_path: Path, scripted_recipe: Build
) -> None:
    data = scripted_recipe([GOOD], problems=100)
    data["generate"]["backend"] |= {"delay": 0.02, "concurrency": 1}
    recipe = recipes.build(data)
    folder = Run(tmp_path / "r")
    folder.start(recipe.model_dump(mode="json"))
    text = script("generate", folder.folder, Slurm(renewals=1))
    with run(text, tmp_path) as shell:
        while not folder.traces_file.exists() or folder.traces_file.stat().st_size < 1000:
            assert shell.poll() is None
        shell.send_signal(signal.SIGTERM)
        shell.communicate(timeout=30)
    assert asked(tmp_path) == "requeue 4711\n"
    assert shell.returncode == 1, "what waits for this job must not start"
    with run(text, tmp_path, SLURM_RESTART_COUNT="1") as shell:
        shell.communicate(timeout=60)
    assert shell.returncode == 0
    assert asked(tmp_path) == "requeue 4711\n"
    assert folder.traces_file.read_bytes().count(b"\n") == 200


@pytest.mark.slow
def test_what_fails_is_not_tried_again(tmp_path: Path) -> None:
    text = script("generate", tmp_path / "empty", Slurm(), python=sys.executable)
    text = text.replace("-m distill.cli generate", "-c 'raise SystemExit(3)'", 1)
    with run(text, tmp_path) as shell:
        shell.communicate(timeout=20)
    assert shell.returncode == 3
    assert asked(tmp_path) == ""
