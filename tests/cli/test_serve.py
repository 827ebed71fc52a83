"""`distill serve` as a user gives it; nothing here starts vLLM (tests/integration does)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Run, distill


def serve(*words: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return distill("serve", *words, cwd=cwd, **env)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--teacher deepsek-r1", "did you mean deepseek-r1"),
        ("--teacher tiny --on slrm", "did you mean slurm"),
        ("--teacher tiny --set restart=1", "did you mean restarts"),
        ("--teacher qwq-32b --on slurm --set slurm.partitoin=a", "did you mean partition"),
        ("--teacher tiny --set slurm", "not of the form name=value"),
        ("--teacher tiny --set sluurm.time=1", "serve.ARGUMENT, slurm.OPTION"),
        ("--teacher tiny --set restarts=-1", "greater than or equal to 0"),
        ("--teacher tiny --replicas 0", "Invalid value"),
        ("--teacher deepseek-r1 --on slurm --set slurm.gpu_memory=4", "does not fit on 16 × 8 × 4 GB"),
    ],
)
def test_wrong_input_is_one_message_and_status_2(words: str, message: str, run_here: Run, tmp_path: Path) -> None:
    done = run_here("serve", *words.split())
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir()), "nothing written"


@pytest.mark.vllm
def test_dry_run_prints_the_exact_commands(tmp_path: Path) -> None:
    done = serve("--teacher", "tiny", "--replicas", "2", "--port", "0", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "tiny: 2 replicas, on here" in done.stdout
    assert done.stdout.count("-m vllm.entrypoints.openai.api_server") == 2
    assert done.stdout.count("VLLM_CPU_KVCACHE_SPACE=1") in (0, 2)
    assert str(tmp_path / "runs" / "tiny" / "endpoints.txt") in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_on_slurm_the_script_is_written_and_its_line_printed(tmp_path: Path) -> None:
    words = ["--teacher", "deepseek-r1", "--on", "slurm", "--run", "r", "--replicas", "2"]
    words += ["--set", "slurm.partition=gpu", "--set", "serve.max-model-len=65536"]
    done = serve(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "deepseek-r1: 2 replicas, tensor 8 × pipeline 2 each, on slurm" in done.stdout
    assert "2 jobs of 2 nodes × 8 GPUs" in done.stdout
    assert "submit it: sbatch r/serve.sbatch" in done.stdout
    text = (tmp_path / "r" / "serve.sbatch").read_text()
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    assert f"--endpoints-file {tmp_path}/r/endpoints.txt" in text
    assert "--set serve.max-model-len=65536 --set nodes=2" in text
    assert "--on ray --replicas 1" in text


@pytest.mark.slow
def test_submit_passes_on_what_sbatch_says(tmp_path: Path) -> None:
    words = ["--teacher", "qwq-32b", "--on", "slurm", "--run", "r", "--submit"]
    missing = serve(*words, cwd=tmp_path, PATH="/nowhere")
    assert missing.returncode == 2
    assert "no `sbatch` here" in missing.stderr
    tool = tmp_path / "sbatch"
    tool.write_text('#!/bin/sh\ntest "$1" = --parsable && test -f "$2" && echo "9;here" || exit 1\n')
    tool.chmod(0o755)
    done = serve(*words, cwd=tmp_path, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    assert "submitted: job 9\n" in done.stdout
    tool.write_text("#!/bin/sh\necho 'invalid account' >&2; exit 1\n")
    refused = serve(*words, cwd=tmp_path, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert refused.returncode == 1
    assert "sbatch refused: invalid account" in refused.stderr
