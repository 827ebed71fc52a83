"""Workers do not outlive the process they work for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

EXECUTOR = """
import multiprocessing, os, sys, time
from concurrent.futures import ProcessPoolExecutor
from distill.parent import end_with_parent
if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(1, mp_context=context, initializer=end_with_parent)
    print(pool.submit(os.getpid).result(), flush=True)
    time.sleep(60)
"""
EACH = """
import os, time
from distill.parent import each
def pid(item):
    return os.getpid()
if __name__ == "__main__":
    for found in each(pid, [1], 1, parts=iter, dead=pid):
        print(found, flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize("code", [EXECUTOR, EACH], ids=["executor", "each"])
def test_a_pools_worker_ends_when_its_parent_is_killed(tmp_path: Path, code: str) -> None:
    script = tmp_path / "pool.py"
    script.write_text(code)
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
