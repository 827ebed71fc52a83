"""The fastest way to spread a training job that fits its hardware, and what else was weighed.

From fast to slow: a whole copy in each process (DDP), ZeRO-2, ZeRO-3, sequences split over GPUs, states in the host's
memory, 8-bit moments. Each step down sends more bytes over the wires or changes the arithmetic, and holds less.
Adapters train another model than was asked for, so they are weighed only where the user allows it.
"""

from __future__ import annotations

import itertools
import typing
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from pydantic import Field

from distill.errors import InputError
from distill.models.shapes import Shape
from distill.planning.memory import GIB, Memory, memory
from distill.planning.setup import Hardware, Method, Optimizer, Setup, Strategy
from distill.types import Record

MethodChoice = Literal["auto", "full", "lora", "qlora"]
METHODS: tuple[MethodChoice, ...] = typing.get_args(MethodChoice)
MARGIN = 0.08
"""Share of a GPU's memory that a plan leaves free: the allocator's fragments, and what the formulas leave out."""
_ENOUGH_TOKENS = 65_536
"""Tokens per GPU and pass beyond which a larger micro batch gains no speed: the matrix products are long enough."""


class Workload(Record):
    """What is to be trained, apart from how it is spread."""

    batch: int = Field(ge=1)
    """Rows per optimizer step, over all GPUs."""
    max_length: int = Field(ge=16)
    method: MethodChoice = "full"
    """Which weights are trained; `auto` lets adapters be chosen where full fine-tuning does not fit."""
    optimizer: Optimizer = "adamw"
    """The optimizer; 8-bit moments are weighed last even where they are not asked for."""
    checkpointing: bool = True
    micro_batch: int | None = None
    """Rows per process and pass; None: as many as fit and gain speed."""
    sequence_parallel: int | None = None
    """GPUs that share one row; None: as few as fit."""
    rank: int = 64
    """Rank of LoRA adapters."""
    flash: bool = True
    """Whether attention is flash-attention, which takes document bounds; sdpa takes a mask of length × length."""
    packed: bool = True
    """Whether rows hold several documents."""


class Option(Record):
    """A setup and how it lies in memory."""

    setup: Setup
    memory: Memory
    spare_bytes: float
    """Bytes of a GPU left below the margin; what is missing when negative."""
    spare_host_bytes: float | None = None
    """Bytes of a node's memory left below the margin, missing when negative; None where that memory is not known."""

    @property
    def fits(self) -> bool:
        return self.spare_bytes >= 0 and (self.spare_host_bytes is None or self.spare_host_bytes >= 0)


class _Rung(NamedTuple):
    """One step of the ladder from fast to small."""

    strategy: Strategy
    parallel: int = 1
    optimizer: Optimizer = "adamw"
    method: Method = "full"


def choose(shape: Shape, hardware: Hardware, **job_fields: object) -> Option:
    """The first of `options` that fits; its `setup` says how to train.

    One whose rows per step equal the batch is preferred; where the number of GPUs allows none, `setup.batch` says
    what it becomes.

    Args:
        job_fields: the fields of `Workload`; `batch` and `max_length` at least.

    Raises:
        InputError: nothing fits; says what is missing and what would help.
    """
    job = Workload(**job_fields)
    weighed = options(shape, hardware, job)
    best = pick(weighed, job.batch)
    if best is None:
        raise _nothing_fits(shape, hardware, job, weighed)
    return best


def pick(weighed: Sequence[Option], batch: int) -> Option | None:
    """The first that fits, or one like it that keeps the batch where that one cannot; None where none fits."""
    fitting = [option for option in weighed if option.fits]
    if not fitting:
        return None

    def kind(option: Option) -> tuple[Method, Optimizer, bool]:
        return option.setup.method, option.setup.optimizer, option.setup.offload

    similar = (option for option in fitting if kind(option) == kind(fitting[0]))
    return next((option for option in similar if option.setup.batch == batch), fitting[0])


def options(shape: Shape, hardware: Hardware, job: Workload) -> list[Option]:
    """Every way worth weighing, fastest first, each with the largest micro batch that fits (or one row).

    Raises:
        InputError: rows cannot be split over as many GPUs as was asked for.
    """
    weighed = [_fullest_setup(shape, hardware, job, rung) for rung in _ladder(shape, hardware, job)]
    if not weighed:
        choices = ", ".join(map(str, [1, *_splits(shape, hardware.gpus, job)]))
        raise InputError(
            f"a row cannot be split over {job.sequence_parallel} GPUs",
            where="sequence_parallel",
            fix=f"choices here: {choices}; it must divide the GPUs of a node and the attention heads, and packed rows"
            " need flash-attention",
        )
    return weighed


def _ladder(shape: Shape, hardware: Hardware, job: Workload) -> Iterator[_Rung]:
    """The ways to spread a job that are worth weighing, from fast to small."""
    methods: tuple[Method, ...] = ("full", "lora", "qlora")
    if job.method != "auto":
        methods = (job.method,)
    single_process = hardware.nodes * max(1, hardware.gpus) == 1
    splits = _splits(shape, hardware.gpus, job)
    for method in methods:
        rungs = list(_rungs(method, single_process, splits))
        if job.optimizer != "adamw":  # asked for: no rung may change it, and it cannot run on the host
            rungs = [rung._replace(optimizer=job.optimizer) for rung in rungs if "offload" not in rung.strategy]
            rungs = list(dict.fromkeys(rungs))
        if not hardware.gpus:
            rungs = rungs[:1]
        yield from (rung for rung in rungs if job.sequence_parallel in (None, rung.parallel))


def _rungs(method: Method, single_process: bool, splits: list[int]) -> Iterator[_Rung]:
    if single_process:
        yield _Rung("single", method=method)
    else:
        yield _Rung("ddp", method=method)
        if method == "full":  # adapters have next to no states to divide
            yield _Rung("zero2")
        yield from (_Rung("zero3", split, method=method) for split in [1, *splits])
    if method == "full":
        yield _Rung("zero2-offload")
        yield from (_Rung("zero3-offload", split) for split in [1, *splits])
        strategy: Strategy = "single" if single_process else "zero3"
        yield from (_Rung(strategy, split, "paged_adamw_8bit") for split in [1, *splits])


def _splits(shape: Shape, gpus: int, job: Workload) -> list[int]:
    """How many processes may share a sequence: within a node, as attention heads and key-value heads divide.

    Without flash-attention none may where rows are packed: DeepSpeed drops sdpa's mask, and documents would see each
    other.
    """
    if job.packed and not job.flash:
        return []
    query_heads = shape.num_attention_heads
    key_heads = shape.num_key_value_heads
    sizes = (size for size in range(2, gpus + 1) if gpus % size == 0 and query_heads % size == 0)
    return [size for size in sizes if key_heads % size == 0 or size % key_heads == 0]


def _fullest_setup(shape: Shape, hardware: Hardware, job: Workload, rung: _Rung) -> Option:
    """The largest micro batch that fits on a rung, or one row where none does."""
    processes = hardware.nodes * max(1, hardware.gpus)
    copies = processes // rung.parallel
    rows = max(1, round(job.batch / copies))
    busy_rows = max(1, _ENOUGH_TOKENS * rung.parallel // job.max_length)
    sizes = [size for size in range(min(rows, busy_rows), 0, -1) if rows % size == 0]
    if job.micro_batch:
        rows = max(1, rows // job.micro_batch) * job.micro_batch
        sizes = [job.micro_batch]
    option = None
    for size in sizes:
        setup = Setup(
            method=rung.method,
            strategy=rung.strategy,
            nodes=hardware.nodes,
            processes=processes,
            cpu=not hardware.gpus,
            sequence_parallel=rung.parallel,
            micro_batch=size,
            accumulation=rows // size,
            max_length=job.max_length,
            checkpointing=job.checkpointing,
            optimizer=rung.optimizer,
        )
        option = weigh(shape, hardware, setup, rank=job.rank, flash=job.flash, packed=job.packed)
        if option.fits:
            break
    assert option is not None  # one row is always tried
    return option


def weigh(
    shape: Shape, hardware: Hardware, setup: Setup, *, rank: int = 64, flash: bool = True, packed: bool = True
) -> Option:
    """How a setup lies in the memory of the hardware. On a CPU its memory is the node's, where that is known."""
    memory_use = memory(shape, setup, rank=rank, flash=flash, packed=packed)
    host_bytes = None
    if hardware.host_memory is not None:
        host_bytes = hardware.host_memory * GIB * (1 - MARGIN)
    if setup.cpu:
        room = 0.0
        if host_bytes is not None:
            room = host_bytes / (setup.processes // setup.nodes) - memory_use.peak
        return Option(setup=setup, memory=memory_use, spare_bytes=room)
    host_room = None
    if host_bytes is not None and memory_use.host:
        host_room = host_bytes - memory_use.host
    room = hardware.gpu_memory * GIB * (1 - MARGIN) - memory_use.peak
    return Option(setup=setup, memory=memory_use, spare_bytes=room, spare_host_bytes=host_room)


def _nothing_fits(shape: Shape, hardware: Hardware, job: Workload, weighed: Sequence[Option]) -> InputError:
    closest = max(weighed, key=lambda option: min(option.spare_bytes, option.spare_host_bytes or 0.0))
    lacking = f"{-closest.spare_bytes / GIB:,.1f} GiB on each GPU"
    if closest.spare_bytes >= 0:
        lacking = f"{-(closest.spare_host_bytes or 0) / GIB:,.0f} GiB of host memory on each node"
    available = "this CPU"
    if hardware.gpus:
        available = f"{hardware.nodes} × {hardware.gpus} × {hardware.gpu_memory:g} GiB"
    return InputError(
        f"{shape.parameters / 1e9:,.1f}B parameters at {job.max_length:,} tokens do not fit on {available}: even "
        f"{describe(closest.setup)} lacks {lacking}",
        where="plan",
        fix="; ".join(remedies(shape, hardware, job)) or "use more or larger GPUs",
    )


def remedies(shape: Shape, hardware: Hardware, job: Workload) -> list[str]:
    """Changes that would make the job fit, each tried by the same formulas."""
    fixes = []

    def fits(candidate_hardware: Hardware, candidate_job: Workload) -> bool:
        return pick(options(shape, candidate_hardware, candidate_job), candidate_job.batch) is not None

    wider = (hardware.model_copy(update={"nodes": hardware.nodes * times}) for times in (2, 4, 8, 16, 32))
    larger = next((candidate for candidate in wider if hardware.gpus and fits(candidate, job)), None)
    if larger:
        fixes.append(f"{larger.nodes} nodes (--nodes {larger.nodes})")
    lengths = itertools.takewhile(lambda n: n >= 1024, (job.max_length * share // 8 for share in range(7, 0, -1)))
    shorter = next((n for n in lengths if fits(hardware, job.model_copy(update={"max_length": n}))), None)
    if shorter:
        fixes.append(f"rows of {shorter:,} tokens (--set sft.max_length={shorter})")
    if job.method == "full":
        for method in ("lora", "qlora"):
            if fits(hardware, job.model_copy(update={"method": method})):
                fixes.append(f"adapters (--set sft.method={method})")
                break
    if not job.flash:
        fixes.append("flash-attention (the flash-attn extra), which needs no mask")
    return fixes


_STRATEGIES: dict[Strategy, str] = {
    "single": "one process",
    "ddp": "a whole copy on each GPU (DDP)",
    "zero2": "ZeRO-2",
    "zero3": "ZeRO-3",
    "zero2-offload": "ZeRO-2, states on the host",
    "zero3-offload": "ZeRO-3, weights and states on the host",
}


def describe(setup: Setup) -> str:
    """A setup in a few words."""
    parts = [_STRATEGIES[setup.strategy]]
    if setup.method != "full":
        parts.insert(0, {"lora": "LoRA", "qlora": "QLoRA"}[setup.method])
    if setup.sequence_parallel > 1:
        parts.append(f"sequences over {setup.sequence_parallel} GPUs")
    if setup.optimizer != "adamw":
        parts.append("8-bit AdamW")
    return ", ".join(parts)
