"""The batch script of `distill serve`: its shape, its syntax, and that TERM reaches what it runs. Slurm itself is not
here but stand-ins (tests/shell.py); tests/integration/test_slurm.py has a real one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from pydantic import ValidationError

from distill.errors import InputError
from distill.machine.slurm import Slurm
from distill.models import presets
from distill.serving import Serving, slurm
from distill.serving.slurm import JobArray
from tests.shell import asked, directives, run


def script(teacher: str, tmp_path: Path, command: list[str], cluster: Slurm, **options: int) -> tuple[JobArray, str]:
    model = presets.as_model(presets.teacher(teacher))
    job = slurm.plan_array(model, Serving(**options), cluster)
    return job, slurm.script(job, model.name, command, cluster, tmp_path)


def test_r1_on_h100_nodes_is_one_job_of_two_nodes_for_each_replica(tmp_path: Path) -> None:
    job, text = script(
        "deepseek-r1", tmp_path, ["serve"], Slurm(partition="big", account="us", time="8:00:00"), replicas=3
    )
    assert (job.nodes, job.gpus, job.replicas, job.tasks) == (2, 8, 1, 3)
    wanted = [
        "--array=0-2",
        "--nodes=2",
        "--ntasks-per-node=1",
        "--gpus-per-node=8",
        "--signal=B:TERM@120",
        "--requeue",
    ]
    assert {*wanted, "--partition=big", "--account=us", "--time=8:00:00"} <= set(directives(text))
    assert "start --head" in text
    assert "RAY_AUTH_MODE=token" in text
    job, text = script("deepseek-r1", tmp_path, ["serve"], Slurm(gpu_memory=141))
    assert (job.nodes, job.replicas, job.tasks) == (1, 1, 1)
    assert "ray.scripts" not in text


def test_small_replicas_share_nodes_evenly(tmp_path: Path) -> None:
    job, text = script("deepseek-r1-distill-qwen-7b", tmp_path, ["serve"], Slurm(sbatch=("--mem=0",)), replicas=12)
    assert (job.nodes, job.gpus, job.replicas, job.tasks) == (1, 6, 6, 2)
    assert "--mem=0" in directives(text)
    assert not [line for line in directives(text) if "partition" in line or "account" in line]
    job, _ = script("qwq-32b", tmp_path, ["serve"], Slurm())
    assert (job.gpus, job.replicas, job.tasks) == (8, 4, 1), "a node's worth where no number is given"


def test_a_model_for_too_many_nodes_and_broken_lines_are_wrong_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not fit on 16 × 8 × 9 GB"):
        script("deepseek-r1", tmp_path, ["serve"], Slurm(gpu_memory=8))
    with pytest.raises(ValidationError, match="line break"):
        Slurm(setup=("module load a\nrm x",))
    with pytest.raises(InputError, match="line break"):
        script("qwq-32b", tmp_path / "a\nb", ["serve"], Slurm())
    with pytest.raises(InputError, match="jobs of `distill run`: nodes"):
        script("qwq-32b", tmp_path, ["serve"], Slurm(nodes=2))
    with pytest.raises(InputError, match="servers need GPUs"):
        script("qwq-32b", tmp_path, ["serve"], Slurm(gpus_per_node=0))


@pytest.mark.parametrize("teacher", ["deepseek-r1", "qwq-32b"])
def test_the_script_is_sound_shell(teacher: str, tmp_path: Path) -> None:
    cluster = Slurm(renewals=2, setup=("export A='b c'",))
    _, text = script(teacher, tmp_path, ["serve", "--run", "a folder; rm -rf /"], cluster)
    assert "'a folder; rm -rf /'" in text
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "-"], input=text, text=True, check=True)


PATIENT = """
import signal, sys, time
def end(*_):
    time.sleep(0.5); print('stopped cleanly', flush=True); sys.exit(0)
signal.signal(signal.SIGTERM, end)
print('ready', flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("restarts", "state", "wanted"),
    [("0", "RUNNING", "requeue 4711\n"), ("1", "RUNNING", ""), ("0", "CANCELLED", "")],
)
def test_term_is_passed_on_and_waited_for(restarts: str, state: str, wanted: str, tmp_path: Path) -> None:
    _, text = script("qwq-32b", tmp_path, [sys.executable, "-c", PATIENT], Slurm(renewals=1))
    with run(text, tmp_path, SLURM_RESTART_COUNT=restarts, STATE=state) as shell:
        assert shell.stdout
        assert shell.stdout.readline() == "ready\n"
        shell.send_signal(signal.SIGTERM)
        assert shell.communicate(timeout=20)[0] == "stopped cleanly\n"
        assert shell.returncode == 0
    assert asked(tmp_path) == wanted


def test_a_failure_is_the_jobs_failure_and_queues_nothing_again(tmp_path: Path) -> None:
    _, text = script("qwq-32b", tmp_path, [sys.executable, "-c", "raise SystemExit(3)"], Slurm(renewals=1))
    with run(text, tmp_path) as shell:
        shell.communicate(timeout=20)
    assert shell.returncode == 3
    assert asked(tmp_path) == ""


COUNT = """
import ray, sys
from distill.serving import Serving, cluster
cluster.connect(nodes=2)
print('nodes', sum(n['Alive'] for n in ray.nodes()), 'gpus', int(ray.cluster_resources()['GPU']), flush=True)
"""


@pytest.mark.integration
def test_the_ray_cluster_of_a_spanning_job_comes_together(tmp_path: Path) -> None:
    """Head and worker of one job, both on this machine; what the job runs sees two nodes of eight GPUs each."""
    pytest.importorskip("ray")
    _, text = script("deepseek-r1", tmp_path, [sys.executable, "-c", COUNT], Slurm())
    began = time.monotonic()
    job = str(os.getpid())  # its port follows from it
    with (
        TemporaryDirectory(prefix="d", dir="/tmp") as short,
        run(text, tmp_path, SLURM_JOB_ID=job, TMPDIR=short) as shell,
    ):
        told, _ = shell.communicate(timeout=200)
        assert (Path(short) / f"ray-{job}").is_dir(), "paths of sockets must be short, and none of another cluster"
    print(told, f"{time.monotonic() - began:.0f} s")
    assert shell.returncode == 0
    assert "nodes 2 gpus 16" in told
    assert not subprocess.run(["pgrep", "-f", f"gcs_server.*{20000 + int(job) % 10000}"], check=False, stdout=-1).stdout
