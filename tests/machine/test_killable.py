"""The killable worker: limits that kill, a lost call that costs only itself, and life inside all kinds of processes."""

from __future__ import annotations

import asyncio
import json
import math
import multiprocessing
import operator
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from distill.errors import RunError
from distill.machine import killable
from distill.verifiers import math as maths

pytestmark = pytest.mark.slow  # it waits for processes, servers and disks

VERIFIER = maths.build(maths.Config())
EXPANDED = ("(x+2)^2", "\\boxed{x^2+4x+4}")  # takes algebra


@pytest.fixture(scope="module")
def worker():
    made = killable.Worker(seconds=0.3, memory=256)
    yield made
    made.close()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(pid: int, seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not alive(pid)


def test_calls_give_results_and_share_one_worker(worker):
    assert worker.call(operator.add, 2, 3) == 5
    first = worker.pid
    assert worker.call(math.comb, 5, 2) == 10
    assert worker.pid == first != os.getpid()
    with pytest.raises(killable.Failed, match="ZeroDivisionError"):
        worker.call(operator.truediv, 1, 0)
    assert worker.pid == first


def test_a_call_that_holds_the_interpreter_is_killed_and_costs_only_itself(worker):
    with pytest.raises(killable.Timeout):
        worker.call(pow, 9, 10**8)
    assert worker.call(operator.add, 1, 1) == 2


def test_a_worker_that_is_killed_while_idle_costs_nothing(worker):
    assert worker.call(operator.add, 1, 1) == 2
    os.kill(worker.pid, signal.SIGKILL)
    assert wait_until_gone(worker.pid)
    assert worker.call(operator.add, 1, 2) == 3


def test_memory_is_limited(worker):
    with pytest.raises(killable.Died):
        worker.call(operator.mul, [0], 10**9)
    assert worker.call(operator.add, 1, 1) == 2


@pytest.mark.parametrize("end", [os.abort, os._exit])
def test_a_crash_costs_one_call(worker, end):
    with pytest.raises(killable.Died):
        worker.call(end, *([3] if end is os._exit else []))
    assert worker.call(operator.add, 1, 1) == 2


def test_a_worker_that_cannot_start_is_said_so():
    with pytest.raises(RunError, match="no_such_module"):
        killable.Worker(warm=("no_such_module",)).call(operator.add, 1, 1)


def test_a_call_that_sleeps_is_ended_by_the_clock(monkeypatch):
    monkeypatch.setattr(killable, "_CLOCK_PER_CPU_SECOND", 2.0)
    worker = killable.Worker(seconds=0.2)
    with pytest.raises(killable.Timeout):
        worker.call(time.sleep, 30)
    worker.close()


def test_a_worker_is_replaced_after_many_calls(monkeypatch):
    monkeypatch.setattr(killable, "_CALLS_PER_WORKER", 2)
    worker = killable.Worker()
    pids = []
    for _ in range(3):
        assert worker.call(operator.add, 1, 1) == 2
        pids.append(worker.pid)
    worker.close()
    assert (len(set(pids)), pids[0]) == (2, pids[1])


def verdict(_: object = None) -> bool | None:
    return VERIFIER.verify(*EXPANDED).passed


def test_it_works_in_daemons_and_after_a_fork():
    assert verdict()
    with multiprocessing.get_context("fork").Pool(1) as daemons:
        assert daemons.map(verdict, [None] * 3) == [True] * 3


def test_it_works_in_spawned_executors():
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        assert executor.submit(verdict).result(timeout=60)


def test_it_works_in_threads_and_under_an_event_loop():
    golds = [(f"(x+{n})^2", f"\\boxed{{x^2+{2 * n}x+{n * n}}}") for n in range(3, 9)]
    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(lambda pair: VERIFIER.verify(*pair).passed, golds))

    async def within() -> bool | None:
        return VERIFIER.verify("(x+9)^2", "\\boxed{x^2+18x+81}").passed

    assert asyncio.run(within())


OWNER = """
import json, os, operator, sys, time
from distill.machine import killable
print(killable.shared().call(operator.add, 1, 1), killable.shared().pid, flush=True)
if sys.argv[1] == "fork" and os.fork() == 0:  # a child that outlives its parent must not keep the worker alive
    print(os.getpid(), flush=True)
    time.sleep(60)
if sys.argv[1] != "end":
    time.sleep(60)
"""


@pytest.mark.parametrize("how", ["kill", "fork", "end"])
def test_the_worker_ends_with_its_owner(how):
    owner = subprocess.Popen([sys.executable, "-c", OWNER, how], stdout=subprocess.PIPE, text=True)
    pid = int(owner.stdout.readline().split()[1])
    child = int(owner.stdout.readline()) if how == "fork" else 0
    if how != "end":
        owner.send_signal(signal.SIGKILL)
    owner.wait(timeout=30)
    assert wait_until_gone(pid)
    if child:
        os.kill(child, signal.SIGKILL)
    owner.stdout.close()


BOMBS = [
    "9^{9^{9^9}}",
    "(9^{99999})^{99999}",
    "100000!",
    "9999!!",
    "\\binom{10^{9}}{5\\cdot 10^{8}}",
    "{" * 10000 + "1" + "}" * 10000,
    "\\frac{1}{1+" * 60 + "x" + "}" * 60,
    "\\sum_{n=1}^{10^{12}} \\frac{1}{n^2}",
    "(x+1)^{100000}",
    "\\begin{pmatrix}" + "\\\\".join("&".join(["x^{y}"] * 12) for _ in range(12)) + "\\end{pmatrix}",
    "\\sqrt{" * 100 + "x" + "}" * 100,
    "1/(10^{9})!",
]


@pytest.mark.slow
def test_bombs_neither_hang_nor_grow_nor_spoil_their_neighbours():
    began, reasons = time.monotonic(), set()
    for number, bomb in enumerate(BOMBS):
        for gold, wrap in (("x", "\\boxed{%s}"), ("12", "The answer is $%s$")):
            outcome = VERIFIER.verify(gold, wrap % bomb)
            reasons.add(outcome.reason)
            assert outcome.passed is not True
            right, wrong = f"\\boxed{{x^2+{2 * number}x+{number**2}}}", f"\\boxed{{x^2+{2 * number}x+7.5}}"
            assert VERIFIER.verify(f"(x+{number})^2", right).passed is True
            assert VERIFIER.verify(f"(x+{number})^2", wrong).passed is False
    assert {"too_costly", "timeout"} <= reasons
    assert time.monotonic() - began < len(BOMBS) * 2 * 30
    killable.shared().close()
    ended = json.loads(subprocess.check_output([sys.executable, "-c", PEAK]))
    assert ended < 700 * 1024


PEAK = """
import json, resource
from distill.machine import killable
from distill.verifiers import math
verifier = math.build(math.Config())
for bomb in ("\\\\binom{10^{9}}{5\\\\cdot 10^{8}}", "(x+y+z)^{5000}", "9" * 900 + "^{99999}"):
    verifier.verify("12", "\\\\boxed{%s}" % bomb)
killable.shared().close()
print(json.dumps(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
"""
