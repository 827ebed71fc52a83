"""Workers do not outlive the process they work for, and may die without harm to it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from distill.errors import RunError
from distill.machine.workers import Workers, single_items

SCRIPT = """
import os, time
from distill.machine.workers import Workers
def pid(item):
    return os.getpid()
if __name__ == "__main__":
    for found in Workers(pid, 1, split=iter, on_death=pid).each([1]):
        print(found, flush=True)
        time.sleep(60)
"""


def halves(numbers: list[int]) -> list[float]:
    if 13 in numbers:
        os._exit(9)
    if 99 in numbers:
        raise RuntimeError("no halves of 99")
    return [number / 2 for number in numbers]


def nothing(numbers: list[int]) -> list[float]:
    return [-1.0 for _ in numbers]


def workers(initializer: Callable[[], None] | None = None) -> Workers[list[int], list[float]]:
    return Workers(halves, 2, split=single_items, on_death=nothing, initializer=initializer)


@pytest.mark.slow
def test_what_kills_a_worker_goes_without_and_the_rest_does_not() -> None:
    items = [[n, n + 1, n + 2] for n in range(0, 60, 3)]
    with workers() as made:
        found = [half for halves in made.each(items) for half in halves]
        assert found == [-1.0 if n == 13 else n / 2 for n in range(60)]
        assert list(made.each([[2], [13], [4]])) == [[1.0], [-1.0], [2.0]]
        with pytest.raises(RuntimeError, match="no halves of 99"):
            list(made.each([[99]]))


@pytest.mark.slow
def test_workers_that_die_before_they_begin() -> None:
    with (
        workers(initializer=partial(os._exit, 3)) as made,
        pytest.raises(RunError, match="die before they have anything"),
    ):
        list(made.each([[2], [4]]))


def test_nothing_to_do_starts_nothing() -> None:
    before = multiprocessing.active_children()
    with workers() as made:
        assert list(made.each([])) == []
        assert multiprocessing.active_children() == before


def test_a_worker_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "pool.py"
    script.write_text(SCRIPT)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        worker = int(parent.stdout.readline())
        os.kill(worker, 0)  # it is there
        parent.send_signal(signal.SIGKILL)
    until = time.monotonic() + 10
    while runs(worker):
        assert time.monotonic() < until, "the worker outlives its parent"
        time.sleep(0.02)


def runs(pid: int) -> bool:
    """A zombie, which waits for whoever adopted it, has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
