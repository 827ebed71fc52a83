"""`distill generate` killed again and again, at random moments, against an endpoint that fails in every known way.

Whatever happens, the log must end as that of a run that nothing disturbed: see faulty.py for why there is only one.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from distill.sampling.history import ProblemPassRate
from distill.store import jsonl
from distill.types import Trace
from tests.integration.faulty import FAULTS
from tests.integration.processes import living_in

pytestmark = pytest.mark.integration

KILLS = 25  # for each of two modes
RESTARTS = 3  # of the server, likewise
START = 1.5  # seconds that a command takes to its first request
MORE = 40  # problems that are added whenever a command ends before it is killed

FIXED = {"samples": 6}
ADAPTIVE = {"samples": 12, "stop_at": 3, "give_up": 6, "budgets": [24, 48, 400]}


class Endpoint:
    """The faulty server, on one port for good."""

    def __init__(self, faults: float) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._faults = faults
        self._process: subprocess.Popen[bytes] | None = None
        self.met: Counter[str] = Counter()

    def start(self) -> None:
        words = ["--port", str(self._port), "--faults", str(self._faults), "--pace", "0.002"]
        self._process = subprocess.Popen([sys.executable, "-m", "tests.integration.faulty", *words])

    def wait(self) -> None:
        until = time.monotonic() + 60
        while True:
            try:
                return urllib.request.urlopen(self.url + "/health", timeout=5).close()
            except OSError:
                assert time.monotonic() < until, "the faulty server does not start"
                time.sleep(0.05)

    def kill(self) -> None:
        with urllib.request.urlopen(self.url + "/met", timeout=30) as told:
            self.met += Counter(json.load(told))
        assert self._process
        self._process.kill()
        self._process.wait()


@contextmanager
def serving(faults: float) -> Iterator[Endpoint]:
    endpoint = Endpoint(faults)
    endpoint.start()
    try:
        endpoint.wait()
        yield endpoint
    finally:
        endpoint.kill()


def command(url: str, limit: int, settings: dict[str, Any]) -> list[str]:
    given = {
        **settings,
        "backend.concurrency": 32,
        "backend.timeout": 1.5,  # hanging requests are given up after it
        "preflight": False,  # which would object to that
        "limit": limit,
    }
    changes = [word for name, value in given.items() for word in ("--set", f"generate.{name}={json.dumps(value)}")]
    return [sys.executable, "-m", "distill.cli", "generate", "tiny", "--run", "r", "--endpoint", url, *changes]


def undisturbed(folder: Path, limit: int, settings: dict[str, Any]) -> None:
    with serving(0.0) as endpoint:
        done = subprocess.run(
            command(endpoint.url, limit, settings), cwd=folder, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr


def lines(folder: Path) -> int:
    log = folder / "r" / "traces.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def disturbed(folder: Path, endpoint: Endpoint, settings: dict[str, Any], dice: random.Random) -> tuple[int, Counter]:
    """Kill and resume; returns the number of problems it came to, and how many kills hit each phase."""
    limit, phases = MORE, Counter[str]()
    restarts = {round((n + 1) * KILLS / (RESTARTS + 1)) for n in range(RESTARTS)}
    out = folder / "said.txt"
    while phases.total() < KILLS:
        before = lines(folder)
        # some die before they have sampled anything, the others after a few traces
        rows, pause = (
            (None, dice.uniform(0, START)) if dice.random() < 0.3 else (dice.randint(1, 24), dice.uniform(0, 0.15))
        )
        with (
            out.open("ab") as said,
            subprocess.Popen(command(endpoint.url, limit, settings), cwd=folder, stdout=said, stderr=said) as child,
        ):
            while rows and child.poll() is None and lines(folder) < before + rows:
                time.sleep(0.01)
            if phases.total() in restarts:
                restarts.remove(phases.total())
                endpoint.kill()
                endpoint.start()
            time.sleep(pause)
            if child.poll() is None:
                os.kill(child.pid, signal.SIGKILL)
        if child.returncode == 0:
            limit += MORE
            continue
        assert child.returncode == -signal.SIGKILL, out.read_text()
        phases["sampling" if lines(folder) > before else "starting"] += 1
        endpoint.wait()
    done = subprocess.run(
        command(endpoint.url, limit, settings), cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return limit, phases


def last(folder: Path) -> dict[str, Trace]:
    """The row that counts of each trace."""
    return {trace.id: trace for trace in jsonl.read(folder / "r" / "traces.jsonl", Trace)}


def content(trace: Trace) -> dict[str, Any]:
    """A trace without where and how fast it was sampled."""
    dumped = trace.model_dump(exclude={"segments"})
    return dumped | {"segments": [s.model_dump(exclude={"endpoint", "seconds"}) for s in trace.segments]}


def rates(folder: Path) -> dict[str, ProblemPassRate]:
    return {rate.problem_id: rate for rate in jsonl.read(folder / "r" / "pass_rates.jsonl", ProblemPassRate)}


def selected(folder: Path, k: int) -> set[tuple[str, int]]:
    """(problem, sample) of the first k correct of each problem."""
    right: dict[str, set[int]] = {}
    for row in jsonl.rows(folder / "r" / "grades.jsonl"):
        if row[1]["passed"]:
            right.setdefault(row[1]["problem_id"], set()).add(row[1]["sample"])
    ends = {id: rate.samples for id, rate in rates(folder).items()}
    return {(id, n) for id, found in right.items() for n in sorted(n for n in found if n < ends[id])[:k]}


@pytest.mark.parametrize("mode", ["fixed", "adaptive"])
def test_kill_9_at_random_moments_changes_nothing(tmp_path: Path, mode: str) -> None:
    settings = FIXED if mode == "fixed" else ADAPTIVE
    calm, chaos = tmp_path / "calm", tmp_path / "chaos"
    calm.mkdir()
    chaos.mkdir()
    began = time.monotonic()
    with serving(0.3) as endpoint:
        limit, phases = disturbed(chaos, endpoint, settings, random.Random(mode))
        endpoint.wait()
    undisturbed(calm, limit, settings)
    print(f"{mode}: {limit} problems, kills {dict(phases)}, met {dict(endpoint.met)}, {time.monotonic() - began:.0f} s")

    assert phases["sampling"] >= KILLS // 3
    assert phases["starting"] >= 2
    assert set(endpoint.met) >= set(FAULTS), "every fault was met"
    there, expected = last(chaos), last(calm)
    pairs = [(trace.problem_id, trace.sample) for trace in there.values()]
    assert len(pairs) == len(set(pairs)), "no sample twice"
    ends = {id: rate.samples for id, rate in rates(calm).items()}
    counts = {id for id, trace in expected.items() if trace.sample < ends[trace.problem_id]}
    assert {id: content(there[id]) for id in counts} == {id: content(expected[id]) for id in counts}
    for id in there.keys() & expected.keys() - counts:  # surplus, which may have been left at any of its budgets
        texts = sorted((there[id].completion, expected[id].completion), key=len)
        assert texts[1].startswith(texts[0])
    assert rates(chaos) == rates(calm)
    assert len(rates(calm)) == limit
    if mode == "fixed":
        assert there.keys() == expected.keys()
        assert len(pairs) == limit * settings["samples"]
        assert len(list(jsonl.rows(chaos / "r" / "traces.jsonl"))) == len(pairs), "and none is written twice"
    else:
        assert selected(chaos, 3) == selected(calm, 3)
        assert {rate.ended for rate in rates(calm).values()} == {"enough", "given_up", "all"}
        assert any(len(trace.segments) == 3 for trace in there.values())
    for name in ("failures.jsonl", "replies.jsonl"):
        log = chaos / "r" / name
        assert not log.exists() or not log.read_bytes(), f"nothing is left in {name}"
    until = time.monotonic() + 10
    while left := living_in(chaos):
        assert time.monotonic() < until, f"left behind: {left}"
        time.sleep(0.1)
