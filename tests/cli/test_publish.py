"""`distill publish` on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill.stages.publish import Config
from tests.cli.conftest import Run
from tests.publishing.conftest import make_run, set_licence


def test_a_dry_run_writes_the_folder_and_sends_nothing(run_here: Run, tmp_path: Path, tiny: Path) -> None:
    run = make_run(tmp_path / "r", tiny)
    done = run_here("publish", "--run", str(run.folder), "--to", "org/name", "--dry-run")
    assert done.exit_code == 0, done.output
    assert "model.safetensors" in done.output
    assert "it would go to org/name (model, private)" in done.output
    assert (run.folder / "publish" / "README.md").is_file()


@pytest.mark.slow
def test_a_licence_stops_it_with_a_remedy(run_here: Run, tmp_path: Path, tiny: Path) -> None:
    run = make_run(tmp_path / "r", tiny)
    set_licence(run.sft / "train.parquet", "cc-by-nc-4.0")
    words = ("publish", "--run", str(run.folder), "--to", "./out", "--set", "publish.load=false")
    done = run_here(*words)
    assert done.exit_code == 2
    assert "not for commercial use" in done.output
    assert "publish.accept=[cc-by-nc-4.0]" in done.output
    assert not (tmp_path / "out").exists()
    assert "stops" in run_here(*words, "--dry-run").output
    done = run_here(*words, "--set", "publish.accept=[cc-by-nc-4.0]")
    assert done.exit_code == 0, done.output
    assert "published" in done.output
    done = run_here(*words, "--set", "publish.accept=[cc-by-nc-4.0]")
    assert "nothing to do" in done.output


def test_a_wrong_setting_names_the_right_ones(run_here: Run, tmp_path: Path, tiny: Path) -> None:
    run = make_run(tmp_path / "r", tiny)
    done = run_here("publish", "--run", str(run.folder), "--to", "a/b", "--set", "publish.acept=[x]")
    assert done.exit_code == 2
    assert "did you mean publish.accept?" in done.output
    assert Config(to="./x").folder == Path("x")
    done = run_here("publish", "--run", str(tmp_path / "none"), "--to", "a/b")
    assert done.exit_code == 2
    assert "no run folder" in done.output
