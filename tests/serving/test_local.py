"""Plans for this machine: which GPUs and which cores each replica gets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from distill.errors import InputError
from distill.machine import hardware
from distill.models import presets
from distill.models.model import Model
from distill.serving import Serving, local


@pytest.fixture
def eight_h100(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An nvidia-smi that tells of eight GPUs, and a vLLM built for GPUs."""
    rows = "".join(f"{i}, GPU-{i}aa, 81559\n" for i in range(8))
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\ncat <<'E'\n{rows}E\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(local, "is_cpu_build", lambda: False)


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "is_cpu_build", lambda: True)
    monkeypatch.setattr(hardware, "cores", lambda: [0, 2, 4, 6, 8])
    monkeypatch.delenv("VLLM_CPU_OMP_THREADS_BIND", raising=False)


def teacher(name: str) -> Model:
    return presets.as_model(presets.teacher(name))


def option(command: tuple[str, ...], name: str) -> str | None:
    return command[command.index(f"--{name}") + 1] if f"--{name}" in command else None


@pytest.mark.usefixtures("eight_h100")
def test_gpus_are_shared_out_in_groups() -> None:
    layout, launches = local.plan(teacher("deepseek-r1-distill-llama-70b"), Serving())
    assert layout.tensor == 4
    assert [launch.env["CUDA_VISIBLE_DEVICES"] for launch in launches] == ["0,1,2,3", "4,5,6,7"]
    assert [option(launch.command, "tensor-parallel-size") for launch in launches] == ["4", "4"]
    assert len({launch.url for launch in launches}) == 2
    _, launches = local.plan(teacher("deepseek-r1-distill-qwen-7b"), Serving(replicas=3))
    assert [launch.env["CUDA_VISIBLE_DEVICES"] for launch in launches] == ["0", "1", "2"]
    assert option(launches[0].command, "tensor-parallel-size") is None


@pytest.mark.usefixtures("eight_h100")
def test_only_the_visible_gpus_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6,GPU-2aa,5")
    _, launches = local.plan(teacher("qwq-32b"), Serving())
    assert [launch.env["CUDA_VISIBLE_DEVICES"] for launch in launches] == ["6,GPU-2aa"]
    with pytest.raises(InputError, match=r"2 replicas of qwq-32b need 4 GPUs \(tensor 2 each\), this machine has 3"):
        local.plan(teacher("qwq-32b"), Serving(replicas=2))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(InputError, match="shows no GPU"):
        local.plan(teacher("qwq-32b"), Serving())


@pytest.mark.usefixtures("eight_h100")
def test_what_the_command_line_sets_wins_over_preset_and_layout() -> None:
    with pytest.raises(InputError, match=r"(?s)deepseek-r1 does not fit.*--on ray"):
        local.plan(teacher("deepseek-r1"), Serving())
    options = Serving(serve={"tensor-parallel-size": 8, "enable-expert-parallel": False, "max-model-len": 65536})
    layout, (launch,) = local.plan(teacher("deepseek-r1"), options)
    assert layout.gpus == 8
    line = " ".join(launch.command)
    assert "--no-enable-expert-parallel" in line
    assert line.count("--tensor-parallel-size") == 1


@pytest.mark.usefixtures("cpu")
def test_cores_are_shared_out_on_a_cpu() -> None:
    _, (alone,) = local.plan(teacher("tiny"), Serving(cpu_cache=2))
    assert alone.env == {"VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "2"}, "vLLM binds by itself"
    _, two = local.plan(teacher("tiny"), Serving(replicas=2))
    assert [launch.env["VLLM_CPU_OMP_THREADS_BIND"] for launch in two] == ["0,2", "4,6"]
    _, many = local.plan(teacher("tiny"), Serving(replicas=6))
    assert {launch.env["VLLM_CPU_OMP_THREADS_BIND"] for launch in many} == {"nobind"}
    assert {launch.env["OMP_NUM_THREADS"] for launch in many} == {"1"}


@pytest.mark.usefixtures("cpu")
def test_ports_follow_each_other_and_a_large_model_wants_gpus() -> None:
    first = 20000
    while True:
        try:
            _, launches = local.plan(teacher("tiny"), Serving(replicas=2, port=first, host="127.0.0.1"))
            break
        except InputError:  # taken by something else on this machine
            first += 2
    assert [launch.url for launch in launches] == [f"http://127.0.0.1:{first}", f"http://127.0.0.1:{first + 1}"]
    with pytest.raises(InputError, match="qwq-32b needs GPUs"):
        local.plan(teacher("qwq-32b"), Serving())


@pytest.mark.enable_socket
@pytest.mark.usefixtures("cpu")
def test_open_to_others_it_tells_an_address_that_they_can_use() -> None:
    _, (launch,) = local.plan(teacher("tiny"), Serving(host="0.0.0.0"))
    assert option(launch.command, "host") == "0.0.0.0"
    assert re.fullmatch(r"http://[\d.]+:\d+", launch.url)
    assert "0.0.0.0" not in launch.url


def test_cores_are_real_ones() -> None:
    found = hardware.cores()
    assert found
    assert len(set(found)) == len(found)
