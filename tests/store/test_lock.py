"""The writer's lock: who holds it, and when it passes on."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from distill.errors import RunError
from distill.store import jsonl, lock
from distill.types import Metric

pytestmark = pytest.mark.slow  # it waits for processes, servers and disks

HOLD = """
import sys, time
from pathlib import Path
from distill.store import jsonl
log = jsonl.Log(Path(sys.argv[1]))
print("open", flush=True)
time.sleep(60)
"""


@contextlib.contextmanager
def holder(path: Path) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:  # type: ignore[misc]
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "open\n"
        try:
            yield process
        finally:
            process.kill()


def test_the_holder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    with holder(path) as process, pytest.raises(RunError) as found:
        jsonl.Log(path)
    assert f"another process is writing this log: process {process.pid} on " in str(found.value)
    assert "last sign of life" in str(found.value)


def test_after_kill_9_the_next_starts_at_once_even_behind_a_zombie(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    with holder(path) as process:
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and still in the list of processes
        began = time.monotonic()
        with jsonl.Log(path) as log:
            log.append(Metric(value=1))
        assert time.monotonic() - began < 5
    with holder(path) as process:
        process.kill()
        process.wait()
        with jsonl.Log(path) as log:
            log.append(Metric(value=2))
    assert [m.value for m in jsonl.read(path, Metric)] == [1, 2]


@pytest.mark.filterwarnings("ignore:Exception ignored in. <_io.FileIO:pytest.PytestUnraisableExceptionWarning")
def test_one_process_may_not_open_a_log_twice(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    with jsonl.Log(path), pytest.raises(RunError, match=f"process {os.getpid()} "):
        jsonl.Log(path)
    with jsonl.Log(path) as log:
        list(jsonl.rows(path))  # reading in the same process does not loosen it
        with pytest.raises(RunError, match="another process is writing"):
            jsonl.Log(path)
        log.append(Metric(value=1))
    log = jsonl.Log(path)
    del log  # dropped, as by an exception on the way
    gc.collect()
    jsonl.Log(path).close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.jsonl"]


def elsewhere(path: Path, age: float, duration: float) -> Path:
    """The lock file of a process on another machine."""
    found = path.with_name(path.name + ".lock")
    found.unlink(missing_ok=True)
    fields = ["pid=4242", "host=node7", "mode=lease", "token=abc", f"duration={duration!r}", "start=12345"]
    found.write_text("filelock/2\n" + "".join(field + "\n" for field in fields))
    os.utime(found, (time.time() - age, time.time() - age))
    return found


def test_a_holder_on_another_machine_is_left_alone_while_it_gives_signs_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.jsonl"
    elsewhere(path, 5, lock.LEASE)
    began = time.monotonic()
    with pytest.raises(RunError, match="process 4242 on node7 gave its last sign of life 5 s ago"):
        jsonl.Log(path)
    assert time.monotonic() - began < 5
    # a clock that runs an hour behind makes it look dead; it is watched, and left alone
    monkeypatch.setattr(lock, "LEASE", 1.0)
    monkeypatch.setattr(lock, "HEARTBEAT", 0.3)
    marker = elsewhere(path, 3600, 1.0)
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(0.2):
            os.utime(marker, (time.time() - 3600, time.time() - 3600))

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(RunError, match="on node7"):
            jsonl.Log(path)
    finally:
        ended.set()
        thread.join()


def test_a_holder_on_another_machine_that_is_gone_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.jsonl"
    monkeypatch.setattr(lock, "LEASE", 0.6)
    monkeypatch.setattr(lock, "HEARTBEAT", 0.2)
    elsewhere(path, 100, 0.6)
    began = time.monotonic()
    with jsonl.Log(path) as log:
        log.append(Metric(value=1))
    assert time.monotonic() - began >= 0.6
    assert [m.value for m in jsonl.read(path, Metric)] == [1]


def test_another_versions_lock_is_respected(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    elsewhere(path, 5, 17.0)
    with pytest.raises(RunError, match="on node7"):
        jsonl.Log(path)


def test_who_was_stopped_and_overtaken_writes_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.jsonl"
    monkeypatch.setattr(lock, "HEARTBEAT", 30.0)
    log = jsonl.Log(path)
    log.append(Metric(value=1))
    elsewhere(path, 0, lock.LEASE)
    monkeypatch.setattr(lock, "HEARTBEAT", 0.0)  # as if the time for one had passed
    with pytest.raises(RunError, match="lost the right to write"):
        log.append(Metric(value=2))
    log.close()
    assert path.with_name("x.jsonl.lock").exists(), "it is the other's"
    assert [m.value for m in jsonl.read(path, Metric)] == [1]
