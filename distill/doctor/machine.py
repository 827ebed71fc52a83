"""The machine itself: compilers, slurm, cores, memory, disk, locks, the terminal."""

from __future__ import annotations

import contextlib
import locale
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from distill.doctor import limits
from distill.doctor.finding import Finding
from distill.errors import InputError, RunError
from distill.machine import hardware

GB = 1e9
_TINY_DISK = 1 * GB
"""Free bytes that are asked for before `distill run tiny` is called possible: some twenty times what it writes."""
_TINY_MEMORY = 2 << 30
"""Bytes of memory that are asked for before `distill run tiny` is called possible: torch, transformers and TRL alone
take most of one GiB."""


def compilers(_: Path) -> Iterator[Finding]:
    """What DeepSpeed calls when one of its own operations is first used."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    apt_packages = {"g++": "g++", "ninja": "ninja-build"}
    if hardware.gpus():
        apt_packages["nvcc"] = "nvidia-cuda-toolkit"
        path += os.pathsep + str(Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "bin")
    absent = [name for name in apt_packages if not shutil.which(name, path=path)]
    purpose = "DeepSpeed builds its own operations with them (offload; any ZeRO on a CPU)"
    if not absent:
        yield Finding(name="compilers", status="ok", message=f"{', '.join(apt_packages)}: {purpose}")
        return
    fix = f"apt-get install {' '.join(apt_packages[name] for name in absent)}"
    if "nvcc" in absent:
        fix += ", or CUDA_HOME=…, of the version that torch was built for"
    yield Finding(name="compilers", status="missing", message=f"no {', '.join(absent)}: {purpose}", fix=fix)


def slurm(_: Path) -> Iterator[Finding]:
    if not shutil.which("sbatch"):
        message = "no sbatch: `--on slurm` writes scripts here, but cannot submit them"
        yield Finding(name="slurm", status="missing", message=message, fix="give --submit on the cluster's login node")
        return
    process = subprocess.run(["sbatch", "--version"], capture_output=True, text=True, check=False, timeout=10)
    message = ((process.stdout or process.stderr).strip().splitlines() or ["sbatch says nothing"])[0][:160]
    if process.returncode:
        yield Finding(name="slurm", status="broken", message=message, fix="is slurm configured here (SLURM_CONF)?")
    else:
        yield Finding(name="slurm", status="ok", message=message)


def disk(folder: Path) -> Iterator[Finding]:
    """Room for runs and for the Hub's cache, beside what r1-distill would take.

    Training with all weights keeps two checkpoints of 14 bytes a parameter (bf16 weights, fp32 weights and both
    moments, as planning/memory.py counts them) and writes a bf16 student; the cache holds the bf16 base.
    """
    from huggingface_hub import constants

    from distill import recipe
    from distill.models import presets
    from distill.serving.layout import BYTES_PER_PARAMETER

    default = recipe.load(recipe.DEFAULT_RECIPE)
    student = presets.student(default.student)
    teacher = presets.teacher(default.teacher)
    parameters = presets.shape(student).parameters
    run_size = (2 * 14 + 2) * parameters / GB
    base_size = 2 * parameters / GB
    teacher_size = (teacher.parameters or 0) * BYTES_PER_PARAMETER[teacher.precision or "bf16"] / GB
    training = f"training {student.name} by {default.name} takes some {run_size:,.0f} GB"
    bases = f"{student.name} takes {base_size:,.0f} GB, and {teacher.name}, where it is served, {teacher_size:,.0f} GB"
    free = {path: shutil.disk_usage(_existing(path)).free for path in (folder, Path(constants.HF_HUB_CACHE))}
    room = {path: f"{free_bytes / GB:,.0f} GB free in {_existing(path)}" for path, free_bytes in free.items()}
    too_small = free[folder] < _TINY_DISK
    yield Finding(
        name="disk",
        status="broken" if too_small else "ok",
        message=f"{room[folder]}; {training} and the traces (generate --forecast)",
        fix="free some, or give another folder with --run" if too_small else "",
        needed=True,
    )
    yield Finding(name="Hub cache", status="ok", message=f"{room[Path(constants.HF_HUB_CACHE)]}; {bases}")


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    path = path.expanduser().absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def cores(_: Path) -> Iterator[Finding]:
    count = len(hardware.processors())
    message = f"{count} of {os.cpu_count()} logical ones"
    granted = limits.cores()
    if granted is not None and granted < count:
        message += f", of which the cgroup grants the time of {granted:g}"
    yield Finding(name="cores", status="ok", message=message)


def memory(_: Path) -> Iterator[Finding]:
    limit = limits.memory()
    total = _meminfo("MemTotal")
    free = _meminfo("MemAvailable")
    message = f"{(free or 0) / 2**30:,.1f} of {(total or 0) / 2**30:,.1f} GiB free"
    if limit and (not total or limit < total):
        message += f"; the cgroup allows {limit / 2**30:,.1f} GiB"
    if min(size for size in (limit, free, sys.maxsize) if size) < _TINY_MEMORY:
        fix = "end other programs, or raise the limit of the container or job"
        yield Finding(name="memory", status="broken", message=message, fix=fix, needed=True)
    else:
        yield Finding(name="memory", status="ok", message=message, needed=True)


def _meminfo(field: str) -> int | None:
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1]) << 10
    return None


def locks(folder: Path) -> Iterator[Finding]:
    """Whether a second writer is kept out of the run folder, by the lock that the logs use."""
    from distill.store.lock import WriterLock

    parent = _existing(folder)
    log = parent / f".doctor-{os.getpid()}"
    fix = "keep runs on another disk: --run DIR"
    try:
        lock = WriterLock(log)
    except (InputError, RunError) as error:
        yield Finding(name="file locks", status="broken", message=f"{parent}: {error.message}", fix=fix, needed=True)
        return
    try:
        WriterLock(log).release()
        yield Finding(
            name="file locks", status="broken", message=f"{parent}: two writers at once", fix=fix, needed=True
        )
    except RunError:
        yield Finding(name="file locks", status="ok", message=f"a second writer in {parent} is kept out", needed=True)
    finally:
        lock.release()


def terminal(_: Path) -> Iterator[Finding]:
    encoding = getattr(sys.stdout, "encoding", None) or "unknown"
    message = f"{encoding} (locale {locale.setlocale(locale.LC_CTYPE)})"
    if encoding.lower().replace("-", "") == "utf8":
        yield Finding(name="terminal", status="ok", message=message, needed=True)
    else:
        fix = "export LANG=C.UTF-8 PYTHONUTF8=1"
        yield Finding(name="terminal", status="broken", message=message, fix=fix, needed=True)
