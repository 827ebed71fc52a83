"""A lock that a killed build left is told before training waits for it for ever; one that is held is not."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from distill.errors import RunError
from distill.training import build_locks

pytestmark = pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed")


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As torch's FileBaton leaves it, an hour old."""
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    path = tmp_path / "deepspeed_shm_comm" / "lock"
    path.parent.mkdir()
    os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    os.utime(path, (time.time() - 3600, time.time() - 3600))
    return path


def test_a_lock_that_nobody_holds_is_an_error_that_names_it(lock: Path) -> None:
    with pytest.raises(RunError, match=r"deepspeed_shm_comm/lock: .* was killed 60 minutes ago") as found:
        build_locks.check()
    assert found.value.fix == f"rm {lock}"
    lock.unlink()
    build_locks.check()


def test_a_build_that_goes_on_is_waited_for(lock: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "distill"), lock.open():
        build_locks.check()
    assert "deepspeed_shm_comm is being compiled by another process" in caplog.text


def test_a_young_lock_on_a_shared_disk_may_be_another_machines(
    lock: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.utime(lock)
    with pytest.raises(RunError, match="was killed 0 minutes ago"):
        build_locks.check()
    monkeypatch.setattr(build_locks, "_LOCAL_SYSTEMS", set())
    monkeypatch.setattr(build_locks, "_POLL_SECONDS", 0.1)
    other = threading.Timer(0.8, lock.unlink)
    other.start()
    with caplog.at_level(logging.WARNING, "distill"):
        build_locks.check()
    assert not lock.exists(), "it waited for the other machine"
    assert caplog.text.count("waiting for another machine") == 1
    monkeypatch.setattr(build_locks, "_STALE_AFTER", 0.5)
    lock.touch()
    with pytest.raises(RunError, match="rm "):
        build_locks.check()


def test_only_operators_of_deepspeed_count(lock: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lock.parent.rename(tmp_path / "somebody_elses")
    build_locks.check()
    # torch's own place, by Python and accelerator
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "torch_extensions"
    for build in ("py399_cpu", f"py{sys.version_info.major}{sys.version_info.minor}_cu130"):
        (folder / build / "cpu_adam").mkdir(parents=True)
        (folder / build / "cpu_adam" / "lock").touch()
    assert [found.parent.parent.name[-6:] for found in build_locks.locks({"cpu_adam"})] == ["_cu130"]
