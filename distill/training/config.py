"""The settings that every training stage shares, and how they become what its processes are told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from distill.errors import InputError
from distill.machine import hardware
from distill.models import presets
from distill.models.chat import Tokenizer
from distill.models.presets import Student
from distill.models.shapes import Shape
from distill.planning import choose
from distill.planning.setup import Hardware, Method, Optimizer, Setup, Strategy
from distill.run import Run
from distill.training.job import Attention, Batching, Lora, Schedule, Tracker, TrainingJob
from distill.training.launch import MASTER, NODES, env_number
from distill.types import NO_RESULT, Record

_ADAPTER_RATE_FACTOR = 10.0


class Config(Record):
    epochs: float | None = Field(None, gt=0)
    """Passes over the set; None takes as many as the student's preset names."""
    learning_rate: float | None = Field(None, gt=0)
    """Peak learning rate; None takes the student preset's, with LoRA times ten (Schulman et al. 2025, "LoRA Without
    Regret")."""
    max_length: int | None = Field(None, ge=16)
    """Longest prompt + completion in student tokens; None takes the student preset's, else its context up to 32,768.
    Longer rows are left out and counted, never cut."""
    batch_size: int = Field(64, ge=1)
    """Rows (packed ones when packing) per optimizer step, over all devices."""
    method: Method = "full"
    """Weights that are trained: all of them (`full`), or low-rank adapters beside them, plain (`lora`) or over a model
    in 4 bits (`qlora`)."""
    lora: Lora = Lora()
    """Settings of the adapters, used by the methods lora and qlora."""
    optimizer: Optimizer = "adamw"
    """Optimizer that updates the weights; `paged_adamw_8bit` keeps its states in 8 bits and may move them to the
    CPU."""
    strategy: Annotated[Strategy | Literal["auto"], NO_RESULT] = "auto"
    """Way in which weights and optimizer states are spread over devices; `auto` takes the fastest that fits (`distill
    plan` shows it)."""
    nodes: Annotated[int | None, NO_RESULT] = Field(None, ge=1)
    """Nodes to train on; None takes as many as the batch job has (DISTILL_NODES, set by the script of `--on slurm`),
    else one."""
    processes: Annotated[int | None, NO_RESULT] = Field(None, ge=1)
    """Processes on one node; None takes one for each GPU, or one on a CPU."""
    gpu_memory: Annotated[float | None, NO_RESULT] = Field(None, gt=0)
    """Memory of one GPU in GiB; None asks the machine."""
    micro_batch: int | None = Field(None, ge=1)
    """Rows per process and forward pass; None takes what fits."""
    sequence_parallel: Annotated[int | None, NO_RESULT] = Field(None, ge=1)
    """GPUs that share one row (DeepSpeed Ulysses); None takes as many as the length needs."""
    attention: Attention | Literal["auto"] = "auto"
    """Code that computes attention. `auto` takes flash_attention_2 where it is installed and there is a GPU, else sdpa;
    on a CPU eager for rows of up to 1,024 tokens, which is faster there."""
    gradient_checkpointing: Annotated[bool, NO_RESULT] = True
    """Whether activations are computed again in the backward pass, which takes a third more time and far less
    memory."""
    schedule: Literal["cosine", "linear", "constant_with_warmup", "cosine_with_min_lr"] = "cosine"
    """Course of the learning rate after the warm-up."""
    min_learning_rate: float = Field(0.1, ge=0, lt=1)
    """Learning rate at which cosine_with_min_lr ends, as a share of the peak."""
    warmup: float = Field(0.1, ge=0, lt=1)
    """Share of the steps over which the learning rate rises to its peak."""
    weight_decay: float = Field(0.0, ge=0)
    """Share of a weight, times the learning rate, that each step takes away from it (AdamW)."""
    adam_beta2: float = Field(0.999, gt=0, lt=1)
    """Decay of AdamW's mean of squared gradients from one step to the next."""
    checkpoints: Annotated[int, NO_RESULT] = Field(10, ge=0)
    """Number of checkpoints saved over the whole training, evenly; the last two are kept until it is done."""
    log_to: Annotated[tuple[Tracker, ...], NO_RESULT] = ()
    """Trackers that are reported to besides the console and metrics.jsonl; each is a package of its own."""
    seed: int = 0
    """Seed of the training: the order of the rows, fresh adapters and dropout."""


def context_length(student: Student) -> int:
    """Positions that the student will have, tokens."""
    return student.rope.context if student.rope else presets.shape(student).max_position_embeddings


def max_row_length(config: Config, student: Student, stage: str = "sft") -> int:
    """The most tokens a row may have: as set, or the preset's, and never beyond the student's positions.

    Raises:
        InputError: more than the student's context.
    """
    positions = context_length(student)
    longest = config.max_length or student.max_length or min(positions, 32768)
    if longest > positions:
        raise InputError(
            f"{longest:,} tokens are more than the {positions:,} positions of {student.name}",
            where=f"{stage}.max_length",
            fix="lower it, or give the student a preset with `rope: {theta: …, context: …}`",
        )
    return longest


def schedule(config: Config, student: Student, stage: str = "sft") -> Schedule:
    """Learning rate, epochs and decay of a training: the recipe's, else the student preset's.

    Raises:
        InputError: neither the recipe nor the preset gives the learning rate or the epochs.
    """
    rate = config.learning_rate
    if rate is None:
        rate = student.learning_rate
        if rate is not None and config.method != "full":
            rate *= _ADAPTER_RATE_FACTOR
    epochs = student.epochs if config.epochs is None else config.epochs
    return Schedule(
        learning_rate=_required(rate, "learning_rate", student, stage),
        kind=config.schedule,
        warmup=config.warmup,
        least=config.min_learning_rate,
        epochs=_required(epochs, "epochs", student, stage),
        weight_decay=config.weight_decay,
        adam_beta2=config.adam_beta2,
    )


def _required(value: float | None, name: str, student: Student, stage: str) -> float:
    if value is None:
        raise InputError(
            f"neither the recipe nor the student {student.name} gives it",
            where=f"{stage}.{name}",
            fix=f"--set {stage}.{name}=…",
        )
    return value


def attention(config: Config, longest: int, stage: str = "sft") -> Attention:
    """What computes attention on this machine for rows of up to `longest` tokens.

    Raises:
        InputError: flash-attention is asked for and not installed.
    """
    flash_installed = hardware.installed("flash_attn")
    if config.attention == "flash_attention_2" and not flash_installed:
        raise InputError(
            "flash-attention is not installed",
            where=f"{stage}.attention",
            fix="pip install 'distill[flash-attn]', or sdpa",
        )
    return attention_for(config, longest, hardware.gpus(), flash=flash_installed)


def attention_for(config: Config, longest: int, gpus: int, *, flash: bool) -> Attention:
    """What computes attention on a machine with or without GPUs and flash-attention."""
    if config.attention != "auto":
        return config.attention
    if gpus:
        return "flash_attention_2" if flash else "sdpa"
    return "eager" if longest <= 1024 else "sdpa"


def batching(setting: Batching | Literal["auto"], attention_kind: Attention) -> Batching:
    """How rows become batches: without flash-attention a packed row costs the square of its length."""
    if setting != "auto":
        return setting
    return "packed" if attention_kind == "flash_attention_2" else "grouped"


def usable_hardware(config: Config, stage: str = "sft") -> Hardware:
    """What this job may use here, and on the other nodes of its batch job.

    Raises:
        InputError: more processes were asked for than there are GPUs.
    """
    gpus = hardware.gpus()
    gpu_sizes = hardware.gpu_memory().values()
    if gpus and (config.processes or 0) > gpus:
        raise InputError(
            f"{config.processes} processes need a GPU each, and this machine has {gpus}",
            where=f"{stage}.processes",
            fix=f"--set {stage}.processes={gpus}",
        )
    memory = min(gpu_sizes) / (1 << 30) if gpu_sizes else 80.0
    nodes = env_number(NODES, 1)
    return hardware_taken(config, Hardware(nodes=nodes, gpus=gpus, gpu_memory=memory))


def hardware_taken(config: Config, available: Hardware) -> Hardware:
    """What a job takes of a machine: as many nodes and GPUs as asked for, else all."""
    overrides = {"nodes": config.nodes, "gpu_memory": config.gpu_memory}
    if available.gpus:
        overrides["gpus"] = config.processes
    return available.model_copy(update={name: value for name, value in overrides.items() if value is not None})


def workload_of(
    config: Config, student: Student, attention_kind: Attention, batches: Batching, stage: str = "sft"
) -> choose.Workload:
    """The job that the planner is to spread; `distill plan` asks for the same."""
    return choose.Workload(
        batch=config.batch_size,
        max_length=max_row_length(config, student, stage),
        method=config.method,
        optimizer=config.optimizer,
        checkpointing=config.gradient_checkpointing,
        micro_batch=config.micro_batch,
        sequence_parallel=config.sequence_parallel,
        rank=config.lora.rank,
        flash=attention_kind == "flash_attention_2",
        packed=batches == "packed",
    )


def setup(config: Config, available: Hardware, shape: Shape, job: choose.Workload, stage: str = "sft") -> Setup:
    """How a job is spread: as the planner says, or by hand where a strategy is set and on a CPU.

    Raises:
        InputError: nothing that was allowed fits; says what would.
    """
    if available.gpus and config.strategy == "auto":
        return choose.choose(shape, available, **dict(job)).setup
    processes = (config.processes or available.gpus or 1) * available.nodes
    strategy = config.strategy
    if strategy == "auto":
        strategy = "single" if processes == 1 else "ddp"
    processes_per_row = job.sequence_parallel or 1
    micro_batch = job.micro_batch or 1
    rows = micro_batch * processes // processes_per_row
    if processes % processes_per_row or job.batch % rows:
        raise InputError(
            f"{job.batch} rows do not part evenly into {processes} processes × {micro_batch} rows",
            where=f"{stage}.batch_size",
            fix=f"make it a multiple of {rows}",
        )
    return Setup(
        method=config.method,
        strategy=strategy,
        nodes=available.nodes,
        processes=processes,
        cpu=not available.gpus,
        sequence_parallel=processes_per_row,
        micro_batch=micro_batch,
        accumulation=job.batch // rows,
        max_length=job.max_length,
        checkpointing=job.checkpointing,
        optimizer=job.optimizer,
    )


def training_job(
    run: Run,
    student: Student,
    config: Config,
    tokenizer: Tokenizer,
    *,
    rows: Path,
    batches: Batching | Literal["auto"],
    stage: str = "sft",
) -> TrainingJob:
    """The part of a job that all training stages share; decides how the work is spread.

    Args:
        rows: the file of rows or prompts; it need not be there yet.

    Raises:
        InputError: nothing fits, or a hyperparameter is missing.
    """
    attention_kind = attention(config, max_row_length(config, student, stage), stage)
    batching_kind = batching(batches, attention_kind)
    workload = workload_of(config, student, attention_kind, batching_kind, stage)
    return TrainingJob(
        model=student.model,
        revision=student.revision,
        rows=str(rows),
        folder=str(training_folder(run, stage)),
        metrics=str(run.metrics),
        template=tokenizer.template,
        eos=student.eos or tokenizer.special("eos_token"),
        pad=student.pad,
        rope=student.rope,
        setup=setup(config, usable_hardware(config, stage), presets.shape(student), workload, stage),
        schedule=schedule(config, student, stage),
        batching=batching_kind,
        attention=attention_kind,
        lora=config.lora,
        lora_targets=student.lora_targets,
        checkpoints=config.checkpoints,
        trackers=config.log_to,
        name=run.folder.name if stage == "sft" else f"{run.folder.name}-{stage}",
        seed=config.seed,
        meeting=os.environ.get(MASTER),
    )


def training_folder(run: Run, stage: str = "sft") -> Path:
    """Where a stage's processes find their files and leave their checkpoints."""
    return run.folder / "training" if stage == "sft" else run.folder / "training" / stage
