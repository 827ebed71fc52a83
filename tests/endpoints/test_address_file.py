"""The shared file of endpoints: sections of several owners, of the dead, and lines that a person wrote."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from distill.endpoints.address_file import EndpointsFile
from distill.endpoints.addresses import AddressList
from distill.store.lock import WriterLock


def read(path: Path) -> list[str]:
    """As the backend reads it."""
    return AddressList(path).read()


def test_addresses_come_and_go_without_touching_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "endpoints.txt"
    path.parent.mkdir()
    path.write_text("http://by-hand:8000  # the one in the cellar\n")
    mine = EndpointsFile(path)
    mine.put(["http://a:1", "http://a:2"])
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    job = EndpointsFile(path)
    job.put(["http://b:1"])
    mine.put(["http://a:2"])
    assert read(path) == ["http://by-hand:8000", "http://a:2", "http://b:1"]
    again = EndpointsFile(path)  # the job was queued again and runs elsewhere
    again.put(["http://c:1"])
    assert read(path) == ["http://by-hand:8000", "http://a:2", "http://c:1"]
    mine.put([])
    again.put([])
    assert read(path) == ["http://by-hand:8000"]
    assert "served by" not in path.read_text()


def test_what_a_dead_process_left_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.txt"
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    path.write_text(
        f"# served by {socket.gethostname()}:{ended.pid}\nhttp://dead:1\n# served by elsewhere:{ended.pid}\nhttp://far:1\n"
    )
    EndpointsFile(path).put(["http://here:1"])
    assert read(path) == ["http://far:1", "http://here:1"]


@pytest.mark.slow
def test_many_writers_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.txt"
    code = (
        "import sys, time; from pathlib import Path; from distill.endpoints.address_file import EndpointsFile\n"
        "file = EndpointsFile(Path(sys.argv[1]))\n"
        "for n in range(15): file.put([f'http://{sys.argv[2]}:{n + 1}'])\n"
        "time.sleep(60)"  # a dead writer's section would be dropped by the others
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), name]) for name in "abc"]
    try:
        wanted = ["http://a:15", "http://b:15", "http://c:15"]
        for _ in range(600):
            if sorted(read(path)) == wanted:
                break
            os.sched_yield()
            subprocess.run(["sleep", "0.05"], check=True)
        assert sorted(read(path)) == wanted
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    assert not list(tmp_path.glob("*.partial"))


def test_a_writer_waits_for_another_that_holds_the_file_and_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.txt"
    held = WriterLock(path)
    writer = threading.Thread(target=EndpointsFile(path).put, args=(["http://here:1"],))
    writer.start()
    writer.join(0.3)
    assert writer.is_alive()
    assert not path.exists()
    held.release()
    writer.join(10)
    assert read(path) == ["http://here:1"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["endpoints.txt"]
