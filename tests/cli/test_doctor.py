"""`distill doctor` as a user gives it, on a machine that is well and on one that is not; TAB completion."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from distill.cli import listing
from distill.cli.app import app
from distill.cli.complete import LISTS
from typer.testing import CliRunner


def examined(folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """`distill doctor`, which imports torch, TRL and vLLM: seconds, and minutes on a machine that is busy."""
    return subprocess.run(
        [sys.executable, "-m", "distill.cli", "doctor"],
        cwd=folder,
        env={**os.environ, "COLUMNS": "160", **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


START = "import sys; from distill.cli import main; sys.argv = ['distill']; main()"


@pytest.mark.slow
def test_a_machine_that_is_well(tmp_path: Path) -> None:
    done = examined(tmp_path, HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "`distill run tiny` should work here" in done.stdout
    for name in ("python", "packages", "GPUs", "torch", "transformers", "vllm", "Hub", "sandbox", "disk", "file locks"):
        assert f"\n{name} " in f"\n{done.stdout}"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_machine_that_is_not_well(tmp_path: Path) -> None:
    """A torchvision that does not fit torch, a terminal without UTF-8, a Hub out of reach: all told, no traceback."""
    broken = tmp_path / "site"
    (broken / "torchvision").mkdir(parents=True)
    text = "raise RuntimeError('operator torchvision::nms does not exist')"
    (broken / "torchvision/__init__.py").write_text(text)
    work = tmp_path / "work"
    work.mkdir()
    token = "hf_" + "s" * 34
    env = {"HF_TOKEN": token, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
    done = examined(work, PYTHONPATH=str(broken), PYTHONIOENCODING="ascii", **env)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert "nms does not exist" in done.stdout
    assert "pip uninstall -y torchvision torchaudio torchcodec" in done.stdout
    assert "\nHub " in done.stdout
    assert "mend first:" in done.stdout
    assert "terminal" in done.stdout.split("mend first:")[1]
    assert token not in done.stdout + done.stderr


def asked(line: str) -> dict[str, str]:
    """How the script of `--install-completion` asks for bash."""
    return {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), "_DISTILL_COMPLETE": "complete_bash"}


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("distill doc", ["doctor"]),
        ("distill run gpu", ["gpu-smoke"]),
        ("distill run ./o", ["./own.yaml"]),
        ("distill sft --student qwen2.5-math-1", ["qwen2.5-math-1.5b"]),
        ("distill import rows.jsonl --map openr1", ["openr1-math"]),
        ("distill filter --run ", ["runs/mine"]),
        ("distill ls rew", ["rewards"]),
    ],
)
def test_tab_completes_names_and_own_files(
    line: str, offered: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/mine").mkdir(parents=True)
    (tmp_path / "runs/mine/run.json").write_text("{}")
    (tmp_path / "own.yaml").write_text("")
    assert CliRunner().invoke(app, [], env=asked(line), prog_name="distill").stdout.split() == offered


@pytest.mark.slow
def test_the_command_itself_completes(tmp_path: Path) -> None:
    env = {**os.environ, **asked("distill generate --teacher ")}
    done = subprocess.run(
        [sys.executable, "-c", START], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    assert "deepseek-r1" in done.stdout.split()
    assert not done.stderr


def test_completion_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom distill.cli.complete import problems, recipes, runs, students, teachers, verifiers\n"
        "assert all(offer('') for offer in (problems, recipes, students, teachers, verifiers)) and not runs('')\n"
        "heavy = {'torch', 'vllm', 'datasets', 'transformers', 'numpy', 'huggingface_hub'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_what_ls_lists_is_what_tab_offers() -> None:
    assert set(LISTS) == set(listing.LISTINGS)
