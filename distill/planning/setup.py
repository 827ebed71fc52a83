"""How a training job is spread over devices: by the planner or by hand; the launcher and the trainer read it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from distill.types import Record

Method = Literal["full", "lora", "qlora"]
Strategy = Literal["single", "ddp", "zero2", "zero3", "zero2-offload", "zero3-offload"]
"""`single`: one process without DeepSpeed; `ddp`: a whole copy in each process; ZeRO-2 splits gradients and optimizer
states over the processes, ZeRO-3 the weights too; `-offload` keeps optimizer states in the host's memory, with ZeRO-3
the weights too."""
Optimizer = Literal["adamw", "paged_adamw_8bit"]


class Hardware(Record):
    """What a job runs on; without GPUs it runs on the CPU."""

    nodes: int = Field(1, ge=1)
    gpus: int = Field(0, ge=0)
    """GPUs of one node."""
    gpu_memory: float = Field(80.0, gt=0)
    """GiB of one GPU."""
    host_memory: float | None = Field(None, gt=0)
    """GiB of one node; None: not known, and then not checked."""
    gpu: str | None = None
    """Name of the GPU, such as `H100`; says how fast it is."""


class Setup(Record):
    """One way to spread a training job over devices."""

    method: Method = "full"
    strategy: Strategy = "single"
    nodes: int = Field(1, ge=1)
    processes: int = Field(1, ge=1)
    """Processes over all nodes, one a GPU."""
    cpu: bool = False
    sequence_parallel: int = Field(1, ge=1)
    """Processes that share one sequence (Ulysses); divides `processes`."""
    micro_batch: int = Field(1, ge=1)
    """Rows per process and forward pass."""
    accumulation: int = Field(1, ge=1)
    """Forward passes per optimizer step."""
    max_length: int = Field(32768, ge=16)
    checkpointing: bool = True
    """Whether activations are recomputed in the backward pass."""
    optimizer: Optimizer = "adamw"

    @property
    def batch(self) -> int:
        """Rows per optimizer step over all processes."""
        return self.micro_batch * self.accumulation * self.processes // self.sequence_parallel

    @property
    def zero(self) -> int:
        """DeepSpeed's stage; 0 without DeepSpeed."""
        if self.strategy.startswith("zero3"):
            return 3
        return 2 if self.strategy.startswith("zero2") else 0

    @property
    def offload(self) -> bool:
        """Whether states are kept in the host's memory."""
        return self.strategy.endswith("offload")
