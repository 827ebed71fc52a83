"""`distill run` of a study: its plan, its table, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import Run

REPLIES = ["12.\n</think>\n\n<answer>12</answer>", "13.\n</think>\n\n<answer>13</answer>"]


def a_study(folder: Path) -> str:
    """A recipe of two arms that need no training."""
    rows = [{"problem": f"What is {n} + {12 - n}?", "answer": "12"} for n in range(3)]
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "extends": "tiny",
        "description": "two ways to sum",
        "eval": {"problems": "sums.jsonl", "samples": 2, "backend": {"kind": "scripted", "replies": REPLIES}},
        "study": {
            "seeds": [1, 2],
            "against": ["base"],
            "arms": {
                "base": {"stages": ["eval"], "description": "as it came"},
                "cold": {"stages": ["eval"], "set": {"eval.sampling.temperature": 0.1}},
            },
        },
    }
    (folder / "sums.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    return "sums.yaml"


@pytest.mark.slow
def test_the_plan_then_the_table_then_nothing_to_do(tmp_path: Path, run_here: Run) -> None:
    recipe = a_study(tmp_path)
    planned = run_here("run", recipe, "--dry-run")
    assert planned.exit_code == 0
    assert "4 runs, runs/sums/ARM-SEED, seeds 1, 2" in planned.stdout
    assert "0 of 2" in planned.stdout
    assert "not known yet, as none was done: eval" in planned.stdout
    assert not (tmp_path / "runs").exists()
    done = run_here("run", recipe)
    assert done.exit_code == 0
    for words in ("sums: 3 problems × 2 samples", "each seed alone", "base-1", "cold-2", "− base", "budget"):
        assert words in done.stdout
    text = (tmp_path / "runs" / "sums" / "study.md").read_text()
    assert text.startswith("# sums\n\ntwo ways to sum\n")
    assert "| arm | pass@1 | − base | tokens |" in text
    assert "- base: as it came" in text
    assert run_here("run", recipe).stdout == done.stdout
    assert "2 of 2" in run_here("run", recipe, "--dry-run").stdout
    assert "runs/sums/cold-2" in run_here("ls", "runs").stdout


def test_a_study_is_run_whole_and_here(tmp_path: Path, run_here: Run) -> None:
    recipe = a_study(tmp_path)
    alone = run_here("eval", recipe)
    assert alone.exit_code == 2
    assert "the recipe sums is a study" in alone.stderr
    assert "distill run sums.yaml" in alone.stderr
    assert "which runs here" in run_here("run", recipe, "--on", "slurm").stderr
    assert not (tmp_path / "runs").exists()


def test_a_study_is_not_done_again_as_a_whole(tmp_path: Path, run_here: Run) -> None:
    done = run_here("run", a_study(tmp_path), "--redo", "--dry-run")
    assert done.exit_code == 2
    assert "--redo: a study's runs are done again one by one" in done.stderr.replace("\n", " ")
