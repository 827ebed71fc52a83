"""Files and folders that are replaced whole: the old one or the new one, never half, and the new one on the disk."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from distill.errors import RunError
from distill.store.replacing import replace_folder, replacing, replacing_path


def in_child(path: Path, lines: str) -> subprocess.CompletedProcess[str]:
    """Replace `path` in a process of its own by more than a file's buffer holds."""
    code = (
        "import os, resource, signal, sys\nfrom pathlib import Path\nfrom distill.errors import RunError\n"
        "from distill.store.replacing import replacing\npath = Path(sys.argv[1])\n"
    )
    command = [sys.executable, "-c", code + lines, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_new_file_takes_the_old_ones_place_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.json"
    with replacing(path) as file:
        file.write(b"old")
    with replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == ["x.json"]


def test_what_fails_in_the_block_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b"old")

    def failing() -> None:
        with replacing(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        failing()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x.json"]


def test_a_file_that_the_block_cannot_read_is_not_called_one_that_cannot_be_written(tmp_path: Path) -> None:
    source = tmp_path / "elsewhere" / "source.jsonl"

    def copying() -> None:
        with replacing(tmp_path / "x.json") as file:
            file.write(source.read_bytes())

    with pytest.raises(FileNotFoundError, match=r"source\.jsonl"):
        copying()
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_kill_between_writing_and_renaming_leaves_the_old_file(tmp_path: Path, step: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b"old")
    killed = f"os.{step} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
    child = in_child(path, killed + "with replacing(path) as file:\n    file.write(b'new')\n")
    assert child.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    assert (tmp_path / "x.json.partial").read_bytes() == b"new", "the kill came after the writing"
    with replacing(path) as file:
        file.write(b"newer")
    assert path.read_bytes() == b"newer"
    assert os.listdir(tmp_path) == ["x.json"], "the next writer clears up"


def test_a_full_disk_is_one_clear_error_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b"old")
    child = in_child(
        path,
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n    with replacing(path) as file:\n        file.write(b'x' * 100_000)\n"
        "except RunError as error:\n    print(error.where, error.message)\n",
    )
    assert child.stdout == f"{path} cannot write: File too large\n"
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x.json"]


def calls_to_the_disk(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []
    fsync = os.fsync
    rename = os.replace

    def noting_fsync(handle: int) -> None:
        calls.append(f"sync {Path(os.readlink(f'/proc/self/fd/{handle}')).name}")
        fsync(handle)

    def noting_rename(source: Path, target: Path) -> None:
        calls.append(f"rename {source.name} {target.name}")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(os, "replace", noting_rename)
    return calls


def test_the_file_is_synced_before_the_rename_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = calls_to_the_disk(monkeypatch)
    with replacing(tmp_path / "x.json") as file:
        file.write(b"new")
    assert calls == ["sync x.json.partial", "rename x.json.partial x.json", f"sync {tmp_path.name}"]


def test_what_need_not_outlive_a_loss_of_power_is_not_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = calls_to_the_disk(monkeypatch)
    with replacing(tmp_path / "x.json", durable=False) as file:
        file.write(b"new")
    assert calls == ["rename x.json.partial x.json"]


def test_a_sync_that_fails_is_an_error_and_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b"old")

    def failing_fsync(_: int) -> None:  # over NFS a full quota shows only here
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "fsync", failing_fsync)
    with pytest.raises(RunError, match=r"x\.json: cannot write: Disk quota exceeded"), replacing(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x.json"]


def test_writers_with_names_of_their_own_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "x.index"
    with replacing_path(path, partial=tmp_path / "x.index.1.partial") as first:
        first.write_bytes(b"first")
        with replacing_path(path, partial=tmp_path / "x.index.2.partial") as second:
            second.write_bytes(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["x.index"]


@pytest.mark.parametrize("old_files", [None, [], ["a", "b"]])
def test_a_folder_takes_the_place_of_another(tmp_path: Path, old_files: list[str] | None) -> None:
    target = tmp_path / "student"
    if old_files is not None:
        target.mkdir()
        for name in old_files:
            (target / name).write_bytes(b"old")
    fresh = tmp_path / "trained"
    fresh.mkdir()
    (fresh / "a").write_bytes(b"new")
    replace_folder(fresh, target)
    assert os.listdir(tmp_path) == ["student"]
    assert os.listdir(target) == ["a"]
    assert (target / "a").read_bytes() == b"new"


def test_a_folder_that_cannot_be_replaced_is_put_back(tmp_path: Path) -> None:
    target = tmp_path / "student"
    target.mkdir()
    (target / "a").write_bytes(b"old")
    with pytest.raises(RunError, match=r"student: cannot write"):
        replace_folder(tmp_path / "missing", target)
    assert os.listdir(tmp_path) == ["student"]
    assert (target / "a").read_bytes() == b"old"
