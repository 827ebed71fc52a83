"""The run folder and freshness."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from distill.errors import InputError, RunError
from distill.run import Run, stamp, write_json


def test_state_is_merged_and_stages_are_forgotten(tmp_path: Path) -> None:
    run = Run(tmp_path / "r")
    run.start({"name": "a"})
    run.finish("generate", {"fingerprint": "x"})
    run.finish("filter", {"fingerprint": "y"})
    run.forget("generate")
    assert run.stage("generate") == {}
    assert run.stage("filter") == {"fingerprint": "y"}
    assert "python" in run.state()["versions"]


def test_a_folder_of_another_recipe_is_refused(tmp_path: Path) -> None:
    Run(tmp_path).start({"name": "a"})
    with pytest.raises(InputError, match="holds a run of recipe 'a', not 'b'"):
        Run(tmp_path).start({"name": "b"})


def test_broken_run_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run\.json: is not JSON"):
        Run(tmp_path).state()


def test_stamps_see_content_not_time(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("one")
    first = stamp(path)
    assert first == stamp(path, first)
    os.utime(path, (1, 1))
    touched = stamp(path, first)
    assert touched is not None
    assert first is not None
    assert touched["hash"] == first["hash"]
    path.write_text("two")
    assert stamp(path, first)["hash"] != first["hash"]  # type: ignore[index]
    assert stamp(tmp_path / "none") is None
    folder = stamp(tmp_path)
    (tmp_path / "g").write_text("")
    assert stamp(tmp_path) != folder


def test_a_process_reads_an_old_file_once_and_a_new_one_again(tmp_path: Path) -> None:
    def stamped(text: str, when: float) -> str:
        path = tmp_path / "f"
        path.write_text(text)
        os.utime(path, (when, when))
        found = stamp(path)
        assert found is not None
        return str(found["hash"])

    first = stamped("one", 1000.0)
    assert stamped("two", 1000.0) == first, "equal size and time: not read again"
    assert stamped("two", 1001.0) != first
    now = time.time()
    assert stamped("one", now) != stamped("two", now), "its time is too young to tell two changes apart"


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "x.json.partial").symlink_to("/dev/full")
    with pytest.raises(RunError, match=r"x\.json: cannot write: No space left"):
        write_json(tmp_path / "x.json", {"a": "b" * 10_000})
