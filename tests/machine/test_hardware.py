"""What this machine has."""

import os
import subprocess
import sys

import pytest


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux can leave a process fewer processors")
def test_processors_are_those_that_this_process_may_use() -> None:
    """As Slurm's --cpus-per-task does it, and `docker run --cpuset-cpus`."""
    some = max(os.sched_getaffinity(0))
    show = "from distill.machine import hardware; print(hardware.processors())"
    code = f"import os; os.sched_setaffinity(0, [{some}]); {show}"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == f"[{some}]\n"
