"""What a server is asked to be, as options and changes say it."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill.errors import InputError
from distill.serving import slurm
from distill.serving.request import read_options, request


def test_changes_are_of_vllm_of_the_batch_job_or_of_ours() -> None:
    changes = ["serve.max-model-len=65536", "serve.compilation-config.level=3", "slurm.partition=gpu", "restarts=1"]
    options, cluster = read_options({"host": "0.0.0.0", "port": None}, changes)
    assert options.serve == {"max-model-len": 65536, "compilation-config.level": 3}
    assert (options.host, options.port, options.restarts) == ("0.0.0.0", None, 1)
    assert cluster.partition == "gpu"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("restart=1", r"no such field[\s\S]*did you mean restarts"),
        ("slurm.partitoin=a", r"slurm\.partitoin: no such field[\s\S]*did you mean partition"),
        ("slurm", "not of the form name=value"),
        ("sluurm.time=1", r"no such group[\s\S]*serve.ARGUMENT, slurm.OPTION"),
        ("restarts=-1", "greater than or equal to 0"),
    ],
)
def test_a_wrong_change_is_named(change: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_options({}, [change])


def test_folder_and_endpoints_follow_from_the_teacher_unless_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    wanted = request("tiny")
    assert (wanted.launcher, wanted.folder) == ("here", Path("runs/tiny"))
    assert wanted.endpoints == tmp_path / "runs" / "tiny" / "endpoints.txt"
    assert request("tiny", folder=Path("r"), endpoints=Path("e.txt")).endpoints == tmp_path / "e.txt"
    with pytest.raises(InputError, match="did you mean slurm"):
        request("tiny", "slrm")


def test_a_task_of_the_array_serves_what_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    changes = ["slurm.partition=gpu", "serve.max-model-len=65536"]
    wanted = request("deepseek-r1", "slurm", Path("r"), option_changes={"replicas": 2}, changes=changes)
    job, text = slurm.request_script(wanted)
    assert (job.tasks, job.nodes, job.replicas) == (2, 2, 1)
    assert f"--on ray --replicas 1 --port 0 --host 0.0.0.0 --run {tmp_path}/r" in text
    assert "--set serve.max-model-len=65536 --set nodes=2" in text
    assert "--set slurm" not in text
