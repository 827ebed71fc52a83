"""`distill plan`: what a training job takes on given hardware, before anything is started."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from rich.console import Console
from rich.table import Table

from distill import recipe as recipes
from distill.errors import InputError, suggest
from distill.machine import hardware
from distill.models import presets
from distill.models.presets import Student
from distill.models.shapes import Shape
from distill.planning import choose, files, launch
from distill.planning.choose import METHODS, Job, Option
from distill.planning.duration import MFU, Duration, duration
from distill.planning.memory import GIB, memory
from distill.planning.setup import Hardware
from distill.run import Run
from distill.stages.sft import WORKER
from distill.stages.sft import Config as SftConfig
from distill.training import config as settings

from .stages import resolve


class Wish(NamedTuple):
    """The options of the command."""

    hardware: Hardware
    tokens: float | None = None
    folder: Path | None = None
    """Of the run."""
    data: Path | None = None
    method: str | None = None
    price: float | None = None
    mfu: float | None = None
    out: Path | None = None


def execute(wish: Wish, changes: list[str], named: dict[str, Any]) -> None:
    """Print the plan; with `out` write its files there, else print them too.

    Raises:
        InputError: nothing fits.
    """
    # without --run nothing that lies in a default run folder counts: a plan is made before there is one
    fresh = presets.student(named["student"]).recipe if "student" in named else recipes.DEFAULT
    recipe, run = resolve(None if wish.folder else fresh, wish.folder, changes, named)
    student, config = presets.student(recipe.student), recipe.sft
    if wish.method not in (None, *METHODS):
        raise InputError(f"no such method: {wish.method!r}", where="--method", fix=suggest(str(wish.method), METHODS))
    if wish.method not in (None, "auto"):
        config = config.model_copy(update={"method": wish.method})
    shape, there = presets.shape(student), settings.taken(config, wish.hardware)
    # where this machine has no GPU, nothing says what is installed on the one that is planned for
    guessed = there.gpus > 0 and config.attention == "auto" and not hardware.gpus()
    looking = settings.attention_on(
        config, settings.length(config, student), there.gpus, flash=guessed or hardware.installed("flash_attn")
    )
    job = settings.asked(config, student, looking, settings.batching(config.batching, looking))
    out = Console()
    _head(out, student, shape, there, job, f"{looking}, taken to be installed there" if guessed else looking)
    if there.gpus and config.strategy == "auto":
        job = job.model_copy(update={"method": wish.method or config.method})
        weighed = choose.options(shape, there, job)
        _options(out, weighed, choose.pick(weighed, job.batch))
        best = choose.choose(shape, there, **dict(job))  # raises with what would help where nothing fits
    else:  # sft does as it is told, whether it fits or not
        setup = settings.setup(config, there, shape, job)
        best = choose.weigh(shape, there, setup, rank=job.rank, flash=job.flash, packed=job.packed)
        _options(out, [best], best)
    _memory(out, shape, best, job)
    _time(out, shape, best, job, wish, config, student, run)
    _files(out, best, wish, run, looking)


def _head(out: Console, student: Student, shape: Shape, there: Hardware, job: Job, attention: str) -> None:
    revision = f" at {student.revision}" if student.revision else ""
    size = f"{shape.parameters / 1e9:,.2f}B" if shape.parameters >= 1e8 else f"{shape.parameters / 1e6:,.2f}M"
    _say(out, f"student {student.name}: {student.model}{revision}, {size} parameters")
    if there.gpus:
        what = f"{there.nodes} × " * (there.nodes > 1) + f"{there.gpus} × {there.gpu or 'GPU'}"
        _say(out, f"on {what} of {there.gpu_memory:g} GiB, of which a plan leaves {choose.MARGIN:.0%} free")
    else:
        _say(out, "on a CPU")
    rows = "packed with documents that do not see one another" if job.packed else "one document each"
    _say(out, f"rows of up to {job.max_length:,} tokens, {rows}; {attention}")


def _options(out: Console, weighed: list[Option], best: Option | None) -> None:
    """All that was weighed up to the chosen one and the adapters, with what they lack."""
    table = Table("GiB", "on a GPU", "room", "on a host", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for option in weighed:
        chosen = "→ " if option == best else "  "
        room = f"{option.room / GIB:,.1f}" if option.room >= 0 else f"lacks {-option.room / GIB:,.1f}"
        room = "" if option.setup.cpu and not option.room else room  # a CPU whose memory is not known
        host = f"{option.memory.host / GIB:,.0f}" if option.memory.host else ""
        if option.host_room is not None and option.host_room < 0:
            host += f", lacks {-option.host_room / GIB:,.0f}"
        style = "bold" if option == best else "" if option.fits else "dim"
        table.add_row(chosen + choose.words(option.setup), f"{option.memory.peak / GIB:,.1f}", room, host, style=style)
        if best is not None and option == best:
            break
    out.print("weighed, fastest first:" if len(weighed) > 1 else "taken:", highlight=False)
    out.print(table)
    first = next((option for option in weighed if option.fits), None)
    if best is not None and first is not None and first != best:
        _say(out, f"{choose.words(first.setup)} would make {first.setup.batch} rows per step, this one keeps the batch")


def _memory(out: Console, shape: Shape, best: Option, job: Job) -> None:
    held, setup = best.memory, best.setup
    naive = memory(shape, setup, rank=job.rank, flash=job.flash, packed=job.packed, fused=False)
    saves = naive.logits > held.logits
    kept = "one hidden state per layer" if setup.checkpointing else "everything the backward pass needs"
    rows = (
        ("weights", held.weights, ""),
        ("gradients", held.gradients, "fp32 sums" if setup.accumulation > 1 else ""),
        ("optimizer", held.optimizer, "moments and fp32 weights" if setup.zero else "moments"),
        ("activations", held.kept, kept),
        ("  the layer at work", held.layer, ""),
        ("  or the logits", held.logits, f"{naive.logits / GIB:,.1f} without TRL's fused head" if saves else ""),
        *([("  or bf16 casts", held.casts, "of the weights, until the forward pass ends")] if held.casts else []),
        ("  or the update", held.update, "with no activations then"),
        ("buffers", held.buffers, "gathered weights, communication, CUDA"),
        ("at the fullest", held.peak, f"{best.room / GIB:,.1f} left" if best.room else ""),
    )
    table = Table("GiB on each GPU" if not setup.cpu else "GiB", "", "", box=None, pad_edge=False, show_edge=False)
    table.columns[1].justify = "right"
    for name, size, note in rows:
        table.add_row(name, f"{size / GIB:,.2f}", note)
    out.print()
    out.print(table)


def _time(
    out: Console,
    shape: Shape,
    best: Option,
    job: Job,
    wish: Wish,
    config: SftConfig,
    student: Student,
    run: Run,
) -> None:
    setup = best.setup
    replicas = setup.processes // setup.sequence_parallel
    _say(out, "")
    changed = f" instead of the {job.batch} asked for" if setup.batch != job.batch else ""
    parts = f"{setup.micro_batch} × {setup.accumulation} passes × {replicas} replicas"
    _say(out, f"rows per step: {setup.batch}{changed} = {parts}")
    tokens, rows = _amount(wish, run)
    if tokens is None:
        _say(out, "steps and hours: give --tokens, or --run or --data with a folder that holds an sft set")
        return
    epochs = config.epochs or student.epochs or 1.0
    found = duration(
        shape,
        setup,
        tokens=tokens,
        epochs=epochs,
        rows=None if job.packed else rows,
        gpu=wish.hardware.gpu,
        mfu=wish.mfu or MFU,
        price=wish.price,
    )
    _say(out, f"{tokens:,.0f} tokens × {epochs:g} epochs: {found.steps:,} steps")
    _say(out, _hours(found, wish))


def _hours(found: Duration, wish: Wish) -> str:
    if found.hours is None:
        return "hours: not estimated for a CPU" if not wish.hardware.gpus else "hours: name the GPU with --gpu"
    spent = f"; costs {found.cost:,.2f} at {wish.price:g} per GPU and hour" if found.cost is not None else ""
    return (
        f"about {found.hours:,.1f} hours, if {wish.mfu or MFU:.0%} of the GPUs' peak goes into the model (--mfu){spent}"
    )


def _amount(wish: Wish, run: Run) -> tuple[float | None, int | None]:
    """Tokens and rows of the set at hand; the set counts the assistant's turns, so prompts are not in them."""
    if wish.tokens is not None:
        return wish.tokens, None
    folder = Run(wish.data) if wish.data else run
    path = folder.sft / "train.parquet"
    if not path.is_file():
        if wish.data:
            raise InputError("holds no sft set", where=str(wish.data), fix="name a run folder that was filtered")
        return None, None
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    tokens = pq.read_table(path, columns=["tokens"])["tokens"]
    return float(pc.sum(tokens).as_py() or 0), len(tokens)


def _files(out: Console, best: Option, wish: Wish, run: Run, attention: str) -> None:
    setup = best.setup
    job = str(run.folder / "training" / "job.json")
    _say(out, "")
    if setup.strategy == "single":
        _say(out, "one process needs no launcher: `distill sft` runs it")
        _say(out, shlex.join([sys.executable, "-m", WORKER, job]))
        return
    folder = wish.out or run.folder / "training"
    if wish.out:
        path = files.write(wish.out, setup, attention=attention)
        _say(out, f"written: {path}" + (f", {wish.out / files.DEEPSPEED}" if setup.zero else ""))
    else:
        path = folder / files.ACCELERATE
        deepspeed = folder.absolute() / files.DEEPSPEED if setup.zero else None
        _say(out, f"# {path}")
        _say(out, files.as_yaml(files.accelerate_config(setup, deepspeed, attention=attention)).rstrip())
        if setup.zero:
            _say(out, f"\n# {deepspeed}")
            _say(out, orjson.dumps(files.deepspeed_config(setup), option=orjson.OPT_INDENT_2).decode())
    many = setup.nodes > 1
    line = launch.command(
        setup, path, ["-m", WORKER, job], master="HOST" if many else None, rank="RANK" if many else None
    )
    where = " on every node, HOST being the first one and RANK 0, 1, …" if many else ""
    _say(out, f"\n`distill sft` writes these files and job.json, and starts{where}:")
    _say(out, shlex.join(line))


def _say(out: Console, text: str) -> None:
    out.print(text, highlight=False, markup=False, soft_wrap=True)
