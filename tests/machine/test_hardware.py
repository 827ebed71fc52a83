"""What this machine has."""

import os
import platform
import subprocess
import sys

import pytest

from distill.machine import hardware


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux can leave a process fewer processors")
def test_processors_are_those_that_this_process_may_use() -> None:
    """As Slurm's --cpus-per-task does it, and `docker run --cpuset-cpus`."""
    some = max(os.sched_getaffinity(0))
    show = "from distill.machine import hardware; print(hardware.processors())"
    code = f"import os; os.sched_setaffinity(0, [{some}]); {show}"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == f"[{some}]\n"


@pytest.mark.skipif(platform.machine() != "x86_64" or sys.platform != "linux", reason="reads Linux's list of x86 flags")
def test_bf16_is_worth_having_where_torch_has_a_kernel_for_it() -> None:
    import torch

    assert hardware.multiplies_bf16() == torch.ops.mkldnn._is_mkldnn_bf16_supported()
