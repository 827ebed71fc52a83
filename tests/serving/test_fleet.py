"""The watch over replicas, with real processes that answer /health in place of vLLM."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from distill.serving import fleet as watch
from distill.serving.fleet import Fleet, healthy
from distill.serving.local import LocalReplica, ReplicaCommand
from distill.serving.server_process import claim_port

pytestmark = pytest.mark.slow  # it waits for processes, servers and disks

SERVER = """
import http.server, os, sys, time
from pathlib import Path
folder, port = Path(sys.argv[1]), int(sys.argv[2])
starts = len(list(folder.glob(f"start-{port}-*")))
(folder / f"new-{port}").write_text(str(os.getpid()))
(folder / f"new-{port}").rename(folder / f"start-{port}-{starts}")  # never seen without its pid
if (folder / "broken").exists():
    print("ValueError: nothing works here"); sys.exit(1)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if (folder / "ill").exists() else 200); self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_TICK", 0.02)


def replica(folder: Path, name: str = "one") -> LocalReplica:
    port = claim_port(None)
    command = (sys.executable, "-c", SERVER, str(folder), str(port))
    launch = ReplicaCommand(name=name, command=command, env={}, url=f"http://127.0.0.1:{port}")
    return LocalReplica(launch, folder / f"{name}.log")


def until(true: Callable[[], bool], seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "too slow"
        time.sleep(0.01)


def starts(folder: Path) -> list[int]:
    """Pids of the servers, in the order of their starts."""
    return [int(p.read_text()) for p in sorted(folder.glob("start-*"), key=lambda p: p.stat().st_mtime_ns)]


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_killed_replica_is_withdrawn_and_started_again(tmp_path: Path) -> None:
    seen: list[tuple[str, ...]] = []
    first, second = replica(tmp_path, "one"), replica(tmp_path, "two")
    made = Fleet([first, second], 2, 60, seen.append)
    made.start()
    both, one = (first.url, second.url), (second.url,)
    try:
        until(lambda: seen[-1:] == [both])
        assert made.urls() == both
        pid = int((tmp_path / f"start-{first.url.rsplit(':', 1)[1]}-0").read_text())
        told = len(seen)
        os.kill(pid, signal.SIGKILL)
        until(lambda: one in seen[told:])
        assert "killed by SIGKILL" in made.last_words()
        until(lambda: seen[-1] == both)
        assert made.urls() == both
        assert healthy(first.url), "at the same address"
        assert made.alive
    finally:
        made.stop()
    assert seen[-3:] == [both, one, both]
    assert made.urls() == ()
    assert all(gone(pid) for pid in starts(tmp_path))
    made.stop()  # twice does no harm


def test_a_replica_that_keeps_dying_is_given_up(tmp_path: Path) -> None:
    made = Fleet([replica(tmp_path)], 2, 60)
    made.start()
    try:
        until(lambda: len(made.urls()) == 1)
        (tmp_path / "broken").touch()
        os.kill(starts(tmp_path)[0], signal.SIGKILL)
        until(lambda: not made.alive)
        assert len(starts(tmp_path)) == 3, "the first and two more"
        assert made.last_words().startswith("ValueError: nothing works here (log: ")
    finally:
        made.stop()


def test_what_never_served_is_not_started_again_unless_another_does(tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    made = Fleet([replica(tmp_path, "one"), replica(tmp_path, "two")], 3, 60)
    made.start()
    until(lambda: not made.alive)
    made.stop()
    assert len(starts(tmp_path)) == 2
    assert "nothing works here" in made.last_words()


def test_a_slow_start_and_a_hang_count_as_deaths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_HUNG", 0.3)
    made = Fleet([replica(tmp_path)], 1, 20)
    made.start()
    try:
        until(lambda: len(made.urls()) == 1)
        (tmp_path / "ill").touch()
        until(lambda: len(starts(tmp_path)) == 2)
        assert "no healthy answer for 0.3 s" in made.last_words()
        (tmp_path / "ill").unlink()
        until(lambda: len(made.urls()) == 1)
    finally:
        made.stop()
    (tmp_path / "ill").touch()
    late = Fleet([replica(tmp_path)], 1, 0.3)
    late.start()
    until(lambda: not late.alive)
    late.stop()
    assert "not ready after 0.3 s" in late.last_words()


@pytest.mark.slow
def test_failures_are_forgiven_after_a_steady_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_STEADY", 0.2)
    made = Fleet([replica(tmp_path)], 1, 60)
    made.start()
    try:
        for round_ in range(2):
            until(lambda: len(made.urls()) == 1)
            time.sleep(1)
            os.kill(starts(tmp_path)[-1], signal.SIGKILL)
            until(lambda n=round_: len(starts(tmp_path)) == n + 2)  # type: ignore[misc]
    finally:
        made.stop()


def test_health_of_nothing() -> None:
    assert not healthy(f"http://127.0.0.1:{claim_port(None)}")
    assert not healthy("no address")
