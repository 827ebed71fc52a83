"""What this machine has, found without importing torch."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import subprocess
from pathlib import Path


def gpus() -> int:
    """NVIDIA or AMD accelerators that the kernel shows."""
    nvidia = len(list(Path("/dev").glob("nvidia[0-9]*")))
    return nvidia or len(list(Path("/sys/class/kfd/kfd/topology/nodes").glob("[1-9]*")))


def gpu_memory() -> dict[str, int]:
    """Bytes of each accelerator that this process may use, by the name that CUDA_VISIBLE_DEVICES takes.

    Asks nvidia-smi, else the amdgpu driver. Empty where there is none, or where neither tells.
    """
    sizes = _nvidia() or _amd()
    for variable in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        chosen = os.environ.get(variable)
        if chosen is not None:
            return {name: sizes[name] for name in chosen.split(",") if name in sizes}
    return {index: size for index, size in sizes.items() if index.isdecimal()}


def _nvidia() -> dict[str, int]:
    """Bytes of each GPU by its index and by its UUID, as CUDA_VISIBLE_DEVICES may hold either."""
    command = ["nvidia-smi", "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        rows = [[field.strip() for field in line.split(",")] for line in output.splitlines() if line.strip()]
        return {name: int(size) << 20 for index, uuid, size in rows for name in (index, uuid)}
    except (OSError, subprocess.SubprocessError, ValueError):  # no driver, or a device that does not say (`[N/A]`)
        return {}


def _amd() -> dict[str, int]:
    paths = sorted(Path("/sys/class/drm").glob("card[0-9]*/device/mem_info_vram_total"))
    return {str(index): int(path.read_text()) for index, path in enumerate(paths)}


def multiplies_bf16() -> bool:
    """Whether this CPU's bf16 products are worth having.

    Without AVX-512 torch multiplies bf16 matrices number by number on x86, some twenty times slower than fp32 ones.
    Where the system does not list what its CPU can do, the answer is yes.
    """
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return True
    return "avx2" not in flags or "avx512bw" in flags


def processors() -> list[int]:
    """The logical CPUs that this process may use: under Slurm or in a container often fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))  # macOS and Windows


def cores() -> list[int]:
    """One logical CPU of each physical core that this process may use: a sibling thread adds nothing to matrix work."""
    core_cpus: dict[str, int] = {}
    for cpu in processors():
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        try:
            siblings = topology.read_text()
        except OSError:
            siblings = str(cpu)
        core_cpus.setdefault(siblings, cpu)
    return list(core_cpus.values())


def keep_freed_memory() -> None:
    """On a CPU, tell glibc to keep what torch frees.

    By default large blocks go back to the kernel at once and come back zeroed: training a tiny model then spends two
    thirds of its time in page faults. Does nothing with other C libraries.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return
    for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 1 << 29)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
        libc.mallopt(option, value)


def installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
