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
"""Bytes of memory likewise: torch, transformers and TRL alone take most of one GiB."""


def compilers(_: Path) -> Iterator[Finding]:
    """What DeepSpeed calls when one of its own operations is first used."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    wanted = {"g++": "g++", "ninja": "ninja-build"}
    if hardware.gpus():
        wanted["nvcc"] = "nvidia-cuda-toolkit"
        path += os.pathsep + str(Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "bin")
    absent = [name for name in wanted if not shutil.which(name, path=path)]
    what = ", ".join(wanted) if not absent else f"no {', '.join(absent)}"
    what += ": DeepSpeed builds its own operations with them (offload; any ZeRO on a CPU)"
    fix = f"apt-get install {' '.join(wanted[name] for name in absent)}" if absent else ""
    fix += ", or CUDA_HOME=…, of the version that torch was built for" if "nvcc" in absent else ""
    yield Finding(name="compilers", status="missing" if absent else "ok", what=what, fix=fix)


def slurm(_: Path) -> Iterator[Finding]:
    if not shutil.which("sbatch"):
        what = "no sbatch: `--on slurm` writes scripts here, but cannot submit them"
        yield Finding(name="slurm", status="missing", what=what, fix="give --submit on the cluster's login node")
        return
    asked = subprocess.run(["sbatch", "--version"], capture_output=True, text=True, check=False, timeout=10)
    what = ((asked.stdout or asked.stderr).strip().splitlines() or ["sbatch says nothing"])[0][:160]
    fix = "" if not asked.returncode else "is slurm configured here (SLURM_CONF)?"
    yield Finding(name="slurm", status="broken" if fix else "ok", what=what, fix=fix)


def disk(folder: Path) -> Iterator[Finding]:
    """Room for runs and for the Hub's cache, beside what r1-distill would take.

    Training with all weights keeps two checkpoints of 14 bytes a parameter (bf16 weights, fp32 weights and both
    moments, as planning/memory.py counts them) and writes a bf16 student; the cache holds the bf16 base.
    """
    from huggingface_hub import constants

    from distill import recipe
    from distill.models import presets
    from distill.serving.layout import BYTES

    full = recipe.load(recipe.DEFAULT)
    student, teacher = presets.student(full.student), presets.teacher(full.teacher)
    size = presets.shape(student).parameters
    runs, cache = (2 * 14 + 2) * size / GB, 2 * size / GB
    taught = (teacher.parameters or 0) * BYTES[teacher.precision or "bf16"] / GB
    whole = f"training {student.name} by {full.name} takes some {runs:,.0f} GB and the traces (generate --forecast)"
    base = f"{student.name} takes {cache:,.0f} GB, and {teacher.name}, where it is served, {taught:,.0f} GB"
    free = {path: shutil.disk_usage(_existing(path)).free for path in (folder, Path(constants.HF_HUB_CACHE))}
    room = {path: f"{size / GB:,.0f} GB free in {_existing(path)}" for path, size in free.items()}
    small = free[folder] < _TINY_DISK
    yield Finding(
        name="disk",
        status="broken" if small else "ok",
        what=f"{room[folder]}; {whole}",
        fix="free some, or give another folder with --run" if small else "",
        needed=True,
    )
    yield Finding(name="Hub cache", status="ok", what=f"{room[Path(constants.HF_HUB_CACHE)]}; {base}")


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    path = path.expanduser().absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def cores(_: Path) -> Iterator[Finding]:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    what = f"{count} of {os.cpu_count()} logical ones"
    if (share := limits.cores()) is not None and share < count:
        what += f", of which the cgroup grants the time of {share:g}"
    yield Finding(name="cores", status="ok", what=what)


def memory(_: Path) -> Iterator[Finding]:
    limit, total, free = limits.memory(), _meminfo("MemTotal"), _meminfo("MemAvailable")
    what = f"{(free or 0) / 2**30:,.1f} of {(total or 0) / 2**30:,.1f} GiB free"
    what += f"; the cgroup allows {limit / 2**30:,.1f} GiB" if limit and (not total or limit < total) else ""
    small = min(size for size in (limit, free, sys.maxsize) if size) < _TINY_MEMORY
    fix = "end other programs, or raise the limit of the container or job" if small else ""
    yield Finding(name="memory", status="broken" if small else "ok", what=what, fix=fix, needed=True)


def _meminfo(field: str) -> int | None:
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1]) << 10
    return None


def locks(folder: Path) -> Iterator[Finding]:
    """Whether a second writer is kept out of the run folder, by the lock that the logs use."""
    from distill.store.lock import WriterLock

    place = _existing(folder)
    log = place / f".doctor-{os.getpid()}"
    fix = "keep runs on another disk: --run DIR"
    try:
        first = WriterLock(log)
    except (InputError, RunError) as error:
        yield Finding(name="file locks", status="broken", what=f"{place}: {error.what}", fix=fix, needed=True)
        return
    try:
        WriterLock(log).release()
        yield Finding(name="file locks", status="broken", what=f"{place}: two writers at once", fix=fix, needed=True)
    except RunError:
        yield Finding(name="file locks", status="ok", what=f"a second writer in {place} is kept out", needed=True)
    finally:
        first.release()


def terminal(_: Path) -> Iterator[Finding]:
    encoding = getattr(sys.stdout, "encoding", None) or "unknown"
    fine = encoding.lower().replace("-", "") == "utf8"
    what = f"{encoding} (locale {locale.setlocale(locale.LC_CTYPE)})"
    fix = "" if fine else "export LANG=C.UTF-8 PYTHONUTF8=1"
    yield Finding(name="terminal", status="ok" if fine else "broken", what=what, fix=fix, needed=True)
