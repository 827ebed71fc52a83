"""`--on slurm` on a real slurm: a controller and two nodes, all on this machine, without an accounting database.

Needs Debian's slurm-wlm and munge. Everything of theirs lies in a temporary folder and ends with the tests.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml

from distill.machine import slurm
from distill.machine.hardware import installed
from distill.machine.slurm import Slurm
from distill.models import presets
from distill.serving import Serving
from distill.serving import slurm as serving
from tests.conftest import GOOD

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch")
MISSING = [name for name in NEEDED if not shutil.which(name)]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {MISSING}; apt-get install slurm-wlm munge")
Build = Callable[..., dict[str, Any]]

CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
# how long a job that was queued again has to wait, too
AuthInfo=socket={folder}/munge/socket,cred_expire=5
SlurmctldPort={ports[0]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,bf_interval=2
MpiDefault=none
ReturnToService=2
KillWait=5
GresTypes=gpu
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 Gres=gpu:1
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 Gres=gpu:1
PartitionName=work Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Cluster:
    """The commands of a user who is logged in on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "COLUMNS": "160", "HF_HUB_OFFLINE": "1"}

    def run(self, *words: str, cwd: Path | None = None) -> str:
        done = subprocess.run(words, cwd=cwd, env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
        return done.stdout

    def distill(self, *words: str, cwd: Path) -> str:
        return self.run(sys.executable, "-m", "distill.cli", *words, cwd=cwd)

    def job(self, number: str) -> dict[str, str]:
        shown = self.run("scontrol", "--oneliner", "show", "job", number)
        return dict(pair.split("=", 1) for pair in shown.split() if "=" in pair)

    def state(self, number: str) -> str:
        return self.job(number)["JobState"]

    def until(self, seen: Callable[[], bool], seconds: float, what: str) -> None:
        end = time.monotonic() + seconds
        while not seen():
            assert time.monotonic() < end, f"not within {seconds} s: {what}\n{self.words()}"
            time.sleep(0.3)

    def words(self) -> str:
        """The queue and the last lines of slurm's own logs, for a test that fails."""
        queue = subprocess.run(["squeue"], env=self.env, capture_output=True, text=True, check=False).stdout
        logs = sorted(self.folder.glob("*.log"))
        return queue + "".join(f"== {log.name}\n{log.read_text(errors='replace')[-2000:]}\n" for log in logs)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with TemporaryDirectory(prefix="slurm", dir="/tmp") as name:  # the path of a socket must be short
        folder = Path(name)
        _configure(folder)
        found = Cluster(folder)
        munge = folder / "munge"
        started = []
        try:
            words = [f"--{what.replace('_', '-')}={munge / what}" for what in ("socket", "pid_file", "log_file")]
            keys = [f"--key-file={munge / 'key'}", f"--seed-file={munge / 'seed'}"]
            started.append(_start(found, "munged", "--foreground", *words, *keys))
            found.until((munge / "socket").exists, 10, "munged listens")
            started.append(_start(found, "slurmctld", "-D"))
            started += [_start(found, "slurmd", "-D", "-N", node) for node in ("n1", "n2")]
            found.until(lambda: found.run("sinfo", "-h", "-o", "%T %D").strip() == "idle 2", 30, "two idle nodes")
            yield found
        finally:
            _stop(found, started)


def _configure(folder: Path) -> None:
    folder.chmod(0o711)  # munge wants its socket to be within everybody's reach
    (folder / "munge").mkdir(mode=0o711)
    (folder / "munge" / "key").write_bytes(os.urandom(1024))
    (folder / "munge" / "key").chmod(0o600)
    (folder / "state").mkdir()
    with socket.socket() as a, socket.socket() as b, socket.socket() as c:
        for each in (a, b, c):
            each.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in (a, b, c)]
    host, user = socket.gethostname().partition(".")[0], pwd.getpwuid(os.getuid()).pw_name
    (folder / "slurm.conf").write_text(CONF.format(folder=folder, host=host, user=user, ports=ports))
    (folder / "gres.conf").write_text("Name=gpu File=/dev/null\n")


def _start(cluster: Cluster, *words: str) -> subprocess.Popen[bytes]:
    with (cluster.folder / f"{words[0]}.start.log").open("ab") as log:
        return subprocess.Popen(words, env=cluster.env, stdout=log, stderr=log)


def _stop(cluster: Cluster, started: list[subprocess.Popen[bytes]]) -> None:
    """Jobs first: their processes are not the daemons' children."""
    if len(started) < 4:  # it never came up
        _end(started)
        return
    subprocess.run(["scancel", f"--user={os.getuid()}"], env=cluster.env, check=False, timeout=30)
    for _ in range(50):
        left = subprocess.run(["squeue", "--noheader"], env=cluster.env, stdout=-1, check=False, timeout=30).stdout
        if not left:
            break
        time.sleep(0.3)
    _end(started)


def _end(started: list[subprocess.Popen[bytes]]) -> None:
    for process in reversed(started):
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def recipe(folder: Path, data: dict[str, Any], **changes: Any) -> str:
    """A recipe's file, for jobs of one CPU."""
    data["slurm"] = {"cpus": 1, "gpus_per_node": 0, "partition": "work", **changes}
    data["stages"] = ["generate", "filter"]
    (folder / "scripted.yaml").write_text(yaml.safe_dump(data))
    return "scripted.yaml"


def submitted(said: str) -> list[str]:
    return re.findall(r": job (\d+)", said)


@pytest.mark.integration
def test_a_walltime_stops_generate_a_requeue_finishes_it_and_only_then_filter_starts(
    cluster: Cluster, tmp_path: Path, scripted_recipe: Build
) -> None:
    place = tmp_path / "a 100% folder"
    place.mkdir()
    data = scripted_recipe([GOOD], problems=300)  # 600 traces, ten a second: no limit of a minute is later
    data["generate"]["backend"] |= {"delay": 0.1, "concurrency": 1}
    words = ["run", recipe(place, data, time="00:01:00", notice=15, renewals=3), "--run", "r", "--on", "slurm"]
    began = time.monotonic()
    generate, judge = submitted(cluster.distill(*words, "--submit", cwd=place))
    cluster.until(lambda: cluster.state(generate) == "RUNNING", 20, "generate runs")
    assert cluster.job(judge)["Dependency"].startswith(f"afterok:{generate}")
    cluster.until((place / "r" / "traces.jsonl").exists, 40, "generate samples")
    # a job reads its recipe when it starts: this is for the second time, so that it soon ends
    cluster.distill(*words, "--set", "generate.backend.delay=0", cwd=place)
    cluster.until(lambda: cluster.job(generate)["Restarts"] == "1", 90, "the limit")
    before = (place / "r" / "traces.jsonl").read_bytes().count(b"\n")
    assert 0 < before < 600
    assert cluster.state(judge) == "PENDING"
    cluster.until(lambda: cluster.state(judge) == "COMPLETED", 120, "the chain is done")
    assert cluster.state(generate) == "COMPLETED"
    log = (place / "r" / "slurm" / f"generate-{generate}.log").read_text()
    assert "stopped by SIGTERM" in log, log
    ids = [json.loads(line)["id"] for line in (place / "r" / "traces.jsonl").read_text().splitlines()]
    assert len(ids) == len(set(ids)) == 600
    stages = json.loads((place / "r" / "run.json").read_text())["stages"]
    assert stages["filter"]["summary"]["kept"] == 600
    print(f"{before} traces before the limit; the chain took {time.monotonic() - began:.0f} s")


@pytest.mark.integration
def test_scancel_is_final_and_a_failure_ends_the_chain(
    cluster: Cluster, tmp_path: Path, scripted_recipe: Build
) -> None:
    data = scripted_recipe([GOOD], problems=400)
    data["generate"]["backend"] |= {"delay": 0.1, "concurrency": 1}
    words = ["run", recipe(tmp_path, data), "--on", "slurm", "--submit", "--run"]
    first, second = submitted(cluster.distill(*words, "cancelled", cwd=tmp_path))
    (tmp_path / "bad.jsonl").write_text("[]\n")
    broken = ["--set", "generate.problems=bad.jsonl"]
    failed, never = submitted(cluster.distill(*words, "failed", *broken, cwd=tmp_path))
    cluster.until((tmp_path / "cancelled" / "traces.jsonl").exists, 40, "generate samples")
    cluster.run("scancel", first)
    cluster.until(lambda: cluster.state(second) == "CANCELLED", 60, "what waits for a cancelled job is cancelled")
    assert cluster.job(first) | {"JobState": "CANCELLED", "Restarts": "0"} == cluster.job(first)
    log = (tmp_path / "cancelled" / "slurm" / f"generate-{first}.log").read_text()
    assert "stopped by SIGTERM" in log, f"it had time to stop in good order: {log}"
    cluster.until(lambda: cluster.state(never) == "CANCELLED", 60, "what waits for a failure is cancelled")
    assert cluster.job(failed) | {"JobState": "FAILED", "Restarts": "0", "ExitCode": "2:0"} == cluster.job(failed)
    assert not (tmp_path / "failed" / "slurm" / f"filter-{never}.log").exists()


@pytest.mark.integration
def test_training_on_two_nodes_starts_one_launcher_on_each(cluster: Cluster, tmp_path: Path) -> None:
    told = tmp_path / "node"
    told.write_text(
        '#!/bin/bash\necho "$DISTILL_NODE_RANK of $DISTILL_NODES at $DISTILL_MASTER on $SLURMD_NODENAME"\nexit 4\n'
    )
    told.chmod(0o755)
    job = Slurm(nodes=2, gpus_per_node=1, cpus_per_gpu=1).for_stage("sft")
    path = tmp_path / "sft.sbatch"
    (tmp_path / "slurm").mkdir()
    path.write_text(slurm.stage_script("sft", "mine", tmp_path, job, python=str(told)))
    number = cluster.run(*slurm.sbatch(path)).strip()
    cluster.until(lambda: cluster.state(number) == "FAILED", 30, "the job ends")
    assert cluster.job(number)["ExitCode"] == "4:0"
    log = (tmp_path / "slurm" / f"sft-{number}.log").read_text().splitlines()
    port = 20000 + int(number)
    assert {f"{rank} of 2 at n1:{port} on n{rank + 1}" for rank in (0, 1)} <= set(log), log


PATIENT = """
import signal, subprocess, sys, time
child = subprocess.Popen(['sleep', '600'], start_new_session=True)
def end(*_):
    time.sleep(0.5); print('stopped cleanly' if child.poll() is None else 'its child is gone', flush=True)
    child.kill(); sys.exit(0)
signal.signal(signal.SIGTERM, end)
print('ready', flush=True)
time.sleep(600)
"""


@pytest.mark.integration
def test_a_server_has_time_to_stop_and_is_queued_again_as_often_as_asked(cluster: Cluster, tmp_path: Path) -> None:
    model = presets.as_model(presets.teacher("tiny"))
    options = Slurm(gpus_per_node=1, cpus_per_gpu=1, renewals=1)
    job = serving.plan_array(model, Serving(), options)
    path = tmp_path / "serve.sbatch"
    path.write_text(serving.script(job, "tiny", [sys.executable, "-c", PATIENT], options, tmp_path))
    number = cluster.run(*slurm.sbatch(path)).strip()
    log = tmp_path / f"slurm-{number}_0.log"

    def said(word: str) -> int:
        return log.read_text().count(word) if log.exists() else 0

    for stopped in (1, 2):
        cluster.until(lambda times=stopped: said("ready") == times, 40, "it runs")
        cluster.run("scancel", "--batch", "--signal=TERM", f"{number}_0")  # as slurm does before the limit
        cluster.until(lambda times=stopped: said("stopped cleanly") == times, 20, "it stops")
    cluster.until(lambda: cluster.state(f"{number}_0") in ("COMPLETED", "FAILED"), 20, "it ends")
    assert cluster.job(f"{number}_0")["Restarts"] == "1"


@pytest.mark.vllm
@pytest.mark.skipif(not installed("vllm"), reason="vLLM is not installed")
def test_a_job_serves_the_teacher_and_another_samples_it(cluster: Cluster, tmp_path: Path) -> None:
    place = ["--run", "r", "--on", "slurm", "--submit", "--set", "slurm.partition=work"]
    one = ["--set", "slurm.gpus_per_node=1", "--set", "slurm.cpus_per_gpu=1"]
    (server,) = submitted(cluster.distill("serve", "--teacher", "tiny", *place, *one, cwd=tmp_path))
    addresses = tmp_path / "r" / "endpoints.txt"
    follow = ["--set", "generate.backend.kind=vllm", "--set", "generate.backend.endpoints_file=r/endpoints.txt"]
    words = ["generate", "tiny", "--limit", "40", *place, "--set", "slurm.cpus=1", *follow]
    (sampler,) = submitted(cluster.distill(*words, cwd=tmp_path))
    cluster.until(lambda: cluster.state(sampler) in ("COMPLETED", "FAILED"), 550, "it is sampled")
    assert cluster.state(sampler) == "COMPLETED", (tmp_path / "r" / "slurm" / f"generate-{sampler}.log").read_text()
    assert (tmp_path / "r" / "traces.jsonl").read_bytes().count(b"\n") == 40
    assert "http" in addresses.read_text()
    cluster.run("scancel", server)
    cluster.until(lambda: "http" not in addresses.read_text(), 30, "a server takes its address back")


@pytest.mark.integration
def test_several_tasks_of_a_step_are_refused_and_a_batch_script_for_several_is_not(
    cluster: Cluster, tmp_path: Path
) -> None:
    words = [sys.executable, "-m", "distill.cli", "filter", "tiny", "--run", "r"]

    def said(*srun: str) -> str:
        done = subprocess.run(
            [*srun, *words], cwd=tmp_path, env=cluster.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 2, done.stderr
        return done.stderr

    assert said("srun", "--ntasks=2", "--overcommit").count("srun started 2 of this command") == 2
    assert "there are no traces to filter" in said("srun", "--ntasks=1")
    # the script itself is no task, however many its steps may have
    batch = ["sbatch", "--wait", "--ntasks=2", "--output=said.txt", f"--wrap={shlex.join(words)}"]
    subprocess.run(batch, cwd=tmp_path, env=cluster.env, capture_output=True, check=False)
    assert "there are no traces to filter" in (tmp_path / "said.txt").read_text()
