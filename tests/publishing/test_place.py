"""Into a plain folder, and whether what lies there loads."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from distill.errors import InputError, RunError
from distill.publishing import folder, loading
from distill.run import Run
from distill.stages import publish
from distill.stages.publish import Config
from tests.publishing.conftest import set_licence
from tests.training.worlds import reply, write_set


def act(run: Run, to: Path, **changes: Any) -> publish.PublishSummary:
    return publish.run(run, Config(**{"to": str(to), "load": False, **changes}), lambda step: None)


def test_a_folder_is_made_whole_and_a_second_time_left_alone(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "out" / "student"
    assert act(run, target).changed
    assert folder.file_table(target) == folder.file_table(run.folder / "publish")
    assert not act(run, target).changed
    (run.student / "added_tokens.json").write_text("{}")
    assert act(run, target).changed
    assert folder.file_table(target) == folder.file_table(run.folder / "publish")
    assert [path.name for path in target.parent.iterdir()] == ["student"]


def test_foreign_files_stay(run: Run, tmp_path: Path) -> None:
    target = tmp_path / "mine"
    target.mkdir()
    (target / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes\.txt"):
        act(run, target)
    assert (target / "notes.txt").read_text() == "mine"
    act(run, target, replace=True)
    assert not (target / "notes.txt").exists()


def test_what_does_not_load_does_not_take_the_place(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "out"
    act(run, target)
    before = folder.file_table(target)
    (run.sft / "train.parquet").write_bytes((run.sft / "train.parquet").read_bytes())
    (run.student / "added_tokens.json").write_text("{}")
    (run.student / "tokenizer.json").unlink()  # told before any process is started
    with pytest.raises(RunError, match=r"no tokenizer\.json"):
        act(run, target, load=True)
    assert folder.file_table(target) == before
    assert [path.name for path in target.parent.iterdir() if path.name.startswith(".out")] == []


@pytest.mark.parametrize("to", [".", "student", "publish", ".."])
def test_the_run_itself_is_no_target(run: Run, to: str) -> None:
    with pytest.raises(InputError, match="of the run itself"):
        act(run, run.folder / to, replace=True)
    assert run.json.is_file()


def test_texts_of_the_run_are_published_and_never_written_to(run: Run, tmp_path: Path) -> None:
    (run.student / "LICENSE").write_text("the agreement")
    (run.student / "README.md").write_text("the trainer's own card")
    act(run, tmp_path / "out")
    assert (tmp_path / "out" / "LICENSE").read_text() == "the agreement"
    assert (tmp_path / "out" / "README.md").read_text().startswith("---\n")
    assert (run.student / "README.md").read_text() == "the trainer's own card"


def test_weights_are_copied_not_shared(run: Run, tmp_path: Path) -> None:
    act(run, tmp_path / "out")
    name = "model.safetensors"
    assert (run.folder / "publish" / name).samefile(run.student / name)
    assert not (tmp_path / "out" / name).samefile(run.student / name)


@pytest.mark.slow
def test_a_dataset_loads_with_datasets(run: Run, tmp_path: Path) -> None:
    told = act(run, tmp_path / "rows", dataset=True, load=True)
    assert told.verified == "loads, 6 rows"
    with pytest.raises(RunError, match="has 6 rows"):
        loading.load_dataset(tmp_path / "rows", 7)


@pytest.mark.slow
def test_a_student_loads_and_its_replies_end(run: Run, tmp_path: Path, tiny: Path) -> None:
    shutil.rmtree(run.student)
    shutil.copytree(tiny / "teacher", run.student)
    rows = run.sft / "train.parquet"
    asked = "Using the numbers 2, 5, 10, make 40. Use each number exactly once, with + - * / and parentheses."
    thought = "Or 10-2=8, 8*5=40. That makes 40, the target is 40, yes."
    asked += " Put the expression in <answer></answer>."
    set_licence(write_set(rows, [(asked, reply(thought, "<answer>(10-2)*5</answer>"))]), "mit")
    told = act(run, tmp_path / "student", load=True)
    assert told.verified == "loads, 1 of 1 replies end"


@pytest.mark.slow
def test_a_student_whose_replies_never_end_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="none of 4 replies ended"):
        act(run, tmp_path / "student", load=True)  # the base has never seen such problems
    assert not (tmp_path / "student").exists()


@pytest.mark.slow
def test_weights_that_are_missing_are_found(run: Run, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = {
        name: w for name, w in load_file(run.student / "model.safetensors").items() if "layers.1.mlp" not in name
    }
    save_file(weights, run.student / "model.safetensors", {"format": "pt"})
    with pytest.raises(RunError, match="missing keys"):
        act(run, tmp_path / "student", load=True)
    assert not (tmp_path / "student").exists()
