"""`distill serve` with real vLLM: on this machine, and on a Ray cluster of two nodes where a replica is killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from distill.machine.hardware import installed

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(not installed("vllm"), reason="vLLM is not installed"),
]


def distill(*words: str) -> list[str]:
    return [sys.executable, "-m", "distill.cli", *words]


@contextmanager
def serving(folder: Path, *words: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    """`distill serve --teacher tiny` as a process; its output goes to `folder/said`."""
    with (folder / "said").open("w") as said:
        command = distill("serve", "--teacher", "tiny", "--run", "r", "--port", "0", *words)
        started = subprocess.Popen(command, cwd=folder, env={**os.environ, **env}, stdout=said, stderr=said, text=True)
        try:
            yield started
        finally:
            if started.poll() is None:
                started.send_signal(signal.SIGTERM)
                started.wait(60)
            print((folder / "said").read_text())


def urls(folder: Path) -> list[str]:
    file = folder / "r" / "endpoints.txt"
    return re.findall(r"^http\S+", file.read_text(), re.MULTILINE) if file.exists() else []


def wait(seconds: float, what: Callable[[], bool], process: subprocess.Popen[str]) -> float:
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < seconds, "too slow"
        assert process.poll() is None, "it ended"
        time.sleep(0.1)
    return time.monotonic() - began


def listening(url: str) -> list[int]:
    """Pids of the API server behind an address, its guard left out."""
    port = url.rsplit(":", 1)[1]
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        words = path.read_bytes().decode(errors="replace").split("\0")
        if port in words and "vllm.entrypoints.openai.api_server" in words and "distill.machine.guarded" not in words:
            found.append(int(path.parent.name))
    return found


def group(leader: int) -> list[int]:
    """Processes of a group; zombies, which wait for init to reap them, left out."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        if int(fields[2]) == leader and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def stop(process: subprocess.Popen[str], folder: Path) -> None:
    """TERM; ends well, in time, and leaves neither process nor address behind."""
    groups = [os.getpgid(pid) for url in urls(folder) for pid in listening(url)]
    assert all(len(group(leader)) >= 3 for leader in groups), "guard, server, engine"
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    took = time.monotonic() - began
    print(f"{len(groups)} server(s) stopped in {took:.1f} s")
    assert took < 10
    assert not [pid for leader in groups for pid in group(leader)]
    assert urls(folder) == []


def sample(folder: Path) -> subprocess.Popen[str]:
    """A `distill generate` that follows the endpoints file."""
    follow = f"generate.backend.endpoints_file={folder / 'r' / 'endpoints.txt'}"
    words = [
        "generate",
        "tiny",
        "--run",
        "g",
        "--limit",
        "700",
        "--set",
        "generate.backend.kind=vllm",
        "--set",
        follow,
    ]
    return subprocess.Popen(distill(*words), cwd=folder, stdout=subprocess.PIPE, text=True)


def test_sigterm_stops_the_server_within_ten_seconds_and_leaves_nothing(tmp_path: Path) -> None:
    with serving(tmp_path, "--replicas", "1") as process:
        wait(300, lambda: "distill generate --teacher tiny --endpoint" in (tmp_path / "said").read_text(), process)
        stop(process, tmp_path)


@pytest.mark.enable_socket
def test_a_replica_killed_on_ray_is_started_again_while_generate_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        with serving(tmp_path, "--on", "ray", "--replicas", "2", RAY_ADDRESS=cluster.address) as process:
            print(f"two replicas after {wait(400, lambda: len(urls(tmp_path)) == 2, process):.0f} s")
            before = urls(tmp_path)
            kill_one_and_finish(tmp_path, before, process)
            print(f"served again {wait(300, lambda: len(urls(tmp_path)) == 2, process):.0f} s later")
            assert "was killed by SIGKILL" in " ".join((tmp_path / "said").read_text().split())
            assert before[1] in urls(tmp_path), "the other one was kept"
            stop(process, tmp_path)
    finally:
        cluster.shutdown()


def kill_one_and_finish(folder: Path, before: list[str], process: subprocess.Popen[str]) -> None:
    """Kill a server in the middle of a run: it is withdrawn, the run completes on the other."""
    log = folder / "g" / "traces.jsonl"
    with sample(folder) as client:
        wait(120, lambda: log.exists() and log.read_bytes().count(b"\n") >= 100, client)
        (victim,) = listening(before[0])
        leader = os.getpgid(victim)
        os.kill(victim, signal.SIGKILL)
        print(f"withdrawn after {wait(30, lambda: before[0] not in urls(folder), process):.1f} s")
        assert before[1] in urls(folder)
        assert group(leader) == [], "nothing of the dead server is left"
        print(client.communicate(timeout=400)[0])
        assert client.returncode == 0
    traces = [json.loads(line) for line in log.read_text().splitlines()]
    assert len({trace["id"] for trace in traces}) == len(traces) == 700
    assert {part["endpoint"] for trace in traces for part in trace["segments"]} >= set(before), "both had sampled"
