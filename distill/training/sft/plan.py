"""What fine-tuning would take on hardware that need not be here: how it is spread, what it holds, how long it runs."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from distill.errors import InputError, suggest
from distill.machine import hardware
from distill.models import presets
from distill.models.presets import Student
from distill.models.shapes import Shape
from distill.planning import choose, duration
from distill.planning.choose import METHODS, Option, Workload
from distill.planning.duration import MFU, Duration
from distill.planning.setup import Hardware
from distill.run import Run
from distill.training import config as settings
from distill.training.job import Attention
from distill.training.sft.config import Config


class SftPlan(NamedTuple):
    """A job, and every way to spread it that was weighed."""

    student: Student
    shape: Shape
    machine: Hardware
    """The part of the hardware that the job takes."""
    job: Workload
    epochs: float
    attention: Attention
    flash_assumed: bool
    """Whether flash-attention is only taken to be installed there."""
    weighed: list[Option]
    """The ways that were weighed, fastest first; a single one where the settings leave no choice."""
    best: Option | None
    """The way that is taken; None where none fits."""


class SetSize(NamedTuple):
    """How much there is to train on."""

    tokens: float
    """Tokens of the assistant's turns; prompts are not in them."""
    rows: int | None
    """Documents; None where only the tokens are known."""


def plan(config: Config, student: Student, available: Hardware, method: str | None = None) -> SftPlan:
    """How a student would be fine-tuned on the hardware, by the formulas that the stage itself goes by.

    Args:
        method: takes the place of the config's; `auto`: adapters where full fine-tuning does not fit.

    Raises:
        InputError: there is no such method, or the settings exclude each other.
    """
    if method not in (None, *METHODS):
        raise InputError(f"no such method: {method!r}", where="--method", fix=suggest(str(method), METHODS))
    if method not in (None, "auto"):
        config = config.model_copy(update={"method": method})
    shape = presets.shape(student)
    machine = settings.hardware_taken(config, available)
    # where this machine has no GPU, nothing says what is installed on the one that is planned for
    flash_assumed = machine.gpus > 0 and config.attention == "auto" and not hardware.gpus()
    attention = settings.attention_for(
        config,
        settings.max_row_length(config, student),
        machine.gpus,
        flash=flash_assumed or hardware.installed("flash_attn"),
    )
    job = settings.workload_of(config, student, attention, settings.batching(config.batching, attention))
    if machine.gpus and config.strategy == "auto":
        job = job.model_copy(update={"method": method or config.method})
        weighed = choose.options(shape, machine, job)
        best = choose.pick(weighed, job.batch)
    else:  # sft does as it is told, whether it fits or not
        setup = settings.setup(config, machine, shape, job)
        best = choose.weigh(shape, machine, setup, rank=job.rank, flash=job.flash, packed=job.packed)
        weighed = [best]
    epochs = config.epochs or student.epochs or 1.0
    return SftPlan(student, shape, machine, job, epochs, attention, flash_assumed, weighed, best)


def chosen(sft_plan: SftPlan) -> Option:
    """The way that is taken.

    Raises:
        InputError: nothing fits; says what is missing and what would help.
    """
    return sft_plan.best or choose.choose(sft_plan.shape, sft_plan.machine, **dict(sft_plan.job))


def time(
    sft_plan: SftPlan, size: SetSize, *, gpu: str | None = None, mfu: float | None = None, price: float | None = None
) -> Duration:
    """How long the training takes.

    Args:
        gpu: the GPU's name; without it hours are not known.
        mfu: share of the GPUs' peak that goes into the model; None: `MFU`.
        price: of one GPU and hour.

    Raises:
        InputError: the GPU is not known, or nothing fits.
    """
    return duration.duration(
        sft_plan.shape,
        chosen(sft_plan).setup,
        tokens=size.tokens,
        epochs=sft_plan.epochs,
        rows=None if sft_plan.job.packed else size.rows,
        gpu=gpu,
        mfu=mfu or MFU,
        price=price,
    )


def set_size(folder: Path) -> SetSize | None:
    """The size of a run folder's sft set; None without one."""
    path = Run(folder).sft / "train.parquet"
    if not path.is_file():
        return None
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    tokens = pq.read_table(path, columns=["tokens"])["tokens"]
    return SetSize(float(pc.sum(tokens).as_py() or 0), len(tokens))
