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
from distill.planning.choose import METHODS, Option, Workload
from distill.planning.duration import MFU, Duration, duration
from distill.planning.memory import GIB, memory
from distill.planning.setup import Hardware
from distill.run import Run
from distill.stages.sft import WORKER
from distill.stages.sft import Config as SftConfig
from distill.training import config as settings

from .stages import resolve


class PlanRequest(NamedTuple):
    """The options of the command."""

    hardware: Hardware
    tokens: float | None = None
    """Tokens of the set; None takes those of a run folder's set."""
    folder: Path | None = None
    """The run folder."""
    data: Path | None = None
    """Another run folder, whose set is trained on."""
    method: str | None = None
    price: float | None = None
    """Of one GPU for an hour."""
    mfu: float | None = None
    """Share of the GPUs' peak that goes into the model."""
    out_folder: Path | None = None


def execute(request: PlanRequest, changes: list[str], option_changes: dict[str, Any]) -> None:
    """Print the plan; with `request.out_folder` write its files there, else print them too.

    Raises:
        InputError: nothing fits.
    """
    # without --run nothing that lies in a default run folder counts: a plan is made before there is one
    recipe_ref = (
        presets.student(option_changes["student"]).recipe if "student" in option_changes else recipes.DEFAULT_RECIPE
    )
    recipe, run = resolve(None if request.folder else recipe_ref, request.folder, changes, option_changes)
    student = presets.student(recipe.student)
    config = recipe.sft
    if request.method not in (None, *METHODS):
        raise InputError(
            f"no such method: {request.method!r}", where="--method", fix=suggest(str(request.method), METHODS)
        )
    if request.method not in (None, "auto"):
        config = config.model_copy(update={"method": request.method})
    shape = presets.shape(student)
    machine = settings.hardware_taken(config, request.hardware)
    # where this machine has no GPU, nothing says what is installed on the one that is planned for
    flash_guessed = machine.gpus > 0 and config.attention == "auto" and not hardware.gpus()
    attention = settings.attention_for(
        config,
        settings.max_row_length(config, student),
        machine.gpus,
        flash=flash_guessed or hardware.installed("flash_attn"),
    )
    job = settings.workload_of(config, student, attention, settings.batching(config.batching, attention))
    console = Console()
    attention_note = f"{attention}, taken to be installed there" if flash_guessed else attention
    _print_head(console, student, shape, machine, job, attention_note)
    if machine.gpus and config.strategy == "auto":
        job = job.model_copy(update={"method": request.method or config.method})
        weighed = choose.options(shape, machine, job)
        _print_options(console, weighed, choose.pick(weighed, job.batch))
        chosen = choose.choose(shape, machine, **dict(job))  # raises with what would help where nothing fits
    else:  # sft does as it is told, whether it fits or not
        setup = settings.setup(config, machine, shape, job)
        chosen = choose.weigh(shape, machine, setup, rank=job.rank, flash=job.flash, packed=job.packed)
        _print_options(console, [chosen], chosen)
    _print_memory(console, shape, chosen, job)
    _print_time(console, shape, chosen, job, request, config, student, run)
    _print_files(console, chosen, request, run, attention)


def _print_head(
    console: Console, student: Student, shape: Shape, machine: Hardware, job: Workload, attention: str
) -> None:
    revision = f" at {student.revision}" if student.revision else ""
    if shape.parameters >= 1e8:
        size = f"{shape.parameters / 1e9:,.2f}B"
    else:
        size = f"{shape.parameters / 1e6:,.2f}M"
    _print(console, f"student {student.name}: {student.model}{revision}, {size} parameters")
    if machine.gpus:
        gpus = f"{machine.nodes} × " * (machine.nodes > 1) + f"{machine.gpus} × {machine.gpu or 'GPU'}"
        _print(console, f"on {gpus} of {machine.gpu_memory:g} GiB, of which a plan leaves {choose.MARGIN:.0%} free")
    else:
        _print(console, "on a CPU")
    rows = "one document each"
    if job.packed:
        rows = "packed with documents that do not see one another"
    _print(console, f"rows of up to {job.max_length:,} tokens, {rows}; {attention}")


def _print_options(console: Console, weighed: list[Option], chosen: Option | None) -> None:
    """All that was weighed up to the chosen one and the adapters, with what they lack."""
    table = Table("GiB", "on a GPU", "room", "on a host", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for option in weighed:
        mark = "→ " if option == chosen else "  "
        peak = f"{option.memory.peak / GIB:,.1f}"
        style = "" if option.fits else "dim"
        if option == chosen:
            style = "bold"
        table.add_row(mark + choose.describe(option.setup), peak, _room(option), _host_memory(option), style=style)
        if chosen is not None and option == chosen:
            break
    console.print("weighed, fastest first:" if len(weighed) > 1 else "taken:", highlight=False)
    console.print(table)
    fastest = next((option for option in weighed if option.fits), None)
    if chosen is not None and fastest is not None and fastest != chosen:
        layout = choose.describe(fastest.setup)
        _print(console, f"{layout} would make {fastest.setup.batch} rows per step, this one keeps the batch")


def _room(option: Option) -> str:
    if option.setup.cpu and not option.spare_bytes:  # a CPU whose memory is not known
        return ""
    if option.spare_bytes < 0:
        return f"lacks {-option.spare_bytes / GIB:,.1f}"
    return f"{option.spare_bytes / GIB:,.1f}"


def _host_memory(option: Option) -> str:
    text = f"{option.memory.host / GIB:,.0f}" if option.memory.host else ""
    if option.spare_host_bytes is not None and option.spare_host_bytes < 0:
        text += f", lacks {-option.spare_host_bytes / GIB:,.0f}"
    return text


def _print_memory(console: Console, shape: Shape, chosen: Option, job: Workload) -> None:
    sizes = chosen.memory
    setup = chosen.setup
    unfused = memory(shape, setup, rank=job.rank, flash=job.flash, packed=job.packed, fused=False)
    gradients_note = "fp32 sums" if setup.accumulation > 1 else ""
    optimizer_note = "moments and fp32 weights" if setup.zero else "moments"
    kept_note = "one hidden state per layer" if setup.checkpointing else "everything the backward pass needs"
    logits_note = ""
    if unfused.logits > sizes.logits:
        logits_note = f"{unfused.logits / GIB:,.1f} without TRL's fused head"
    rows = [
        ("weights", sizes.weights, ""),
        ("gradients", sizes.gradients, gradients_note),
        ("optimizer", sizes.optimizer, optimizer_note),
        ("activations", sizes.saved_activations, kept_note),
        ("  the layer at work", sizes.layer_activations, ""),
        ("  or the logits", sizes.logits, logits_note),
    ]
    if sizes.casts:
        rows.append(("  or bf16 casts", sizes.casts, "of the weights, until the forward pass ends"))
    rows += [
        ("  or the update", sizes.update, "with no activations then"),
        ("buffers", sizes.buffers, "gathered weights, communication, CUDA"),
        ("at the fullest", sizes.peak, f"{chosen.spare_bytes / GIB:,.1f} left" if chosen.spare_bytes else ""),
    ]
    heading = "GiB" if setup.cpu else "GiB on each GPU"
    table = Table(heading, "", "", box=None, pad_edge=False, show_edge=False)
    table.columns[1].justify = "right"
    for name, size, note in rows:
        table.add_row(name, f"{size / GIB:,.2f}", note)
    console.print()
    console.print(table)


def _print_time(
    console: Console,
    shape: Shape,
    chosen: Option,
    job: Workload,
    request: PlanRequest,
    config: SftConfig,
    student: Student,
    run: Run,
) -> None:
    setup = chosen.setup
    replicas = setup.processes // setup.sequence_parallel
    _print(console, "")
    changed = f" instead of the {job.batch} asked for" if setup.batch != job.batch else ""
    product = f"{setup.micro_batch} × {setup.accumulation} passes × {replicas} replicas"
    _print(console, f"rows per step: {setup.batch}{changed} = {product}")
    tokens, rows = _tokens_and_rows(request, run)
    if tokens is None:
        _print(console, "steps and hours: give --tokens, or --run or --data with a folder that holds an sft set")
        return
    epochs = config.epochs or student.epochs or 1.0
    estimate = duration(
        shape,
        setup,
        tokens=tokens,
        epochs=epochs,
        rows=None if job.packed else rows,
        gpu=request.hardware.gpu,
        mfu=request.mfu or MFU,
        price=request.price,
    )
    _print(console, f"{tokens:,.0f} tokens × {epochs:g} epochs: {estimate.steps:,} steps")
    _print(console, _hours_line(estimate, request))


def _hours_line(estimate: Duration, request: PlanRequest) -> str:
    if estimate.hours is None:
        if not request.hardware.gpus:
            return "hours: not estimated for a CPU"
        return "hours: name the GPU with --gpu"
    mfu = request.mfu or MFU
    line = f"about {estimate.hours:,.1f} hours, if {mfu:.0%} of the GPUs' peak goes into the model (--mfu)"
    if estimate.cost is not None:
        line += f"; costs {estimate.cost:,.2f} at {request.price:g} per GPU and hour"
    return line


def _tokens_and_rows(request: PlanRequest, run: Run) -> tuple[float | None, int | None]:
    """Tokens and rows of the set at hand; the set counts the assistant's turns, so prompts are not in them."""
    if request.tokens is not None:
        return request.tokens, None
    folder = Run(request.data) if request.data else run
    path = folder.sft / "train.parquet"
    if not path.is_file():
        if request.data:
            raise InputError("holds no sft set", where=str(request.data), fix="name a run folder that was filtered")
        return None, None
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    tokens = pq.read_table(path, columns=["tokens"])["tokens"]
    return float(pc.sum(tokens).as_py() or 0), len(tokens)


def _print_files(console: Console, chosen: Option, request: PlanRequest, run: Run, attention: str) -> None:
    setup = chosen.setup
    job = str(run.folder / "training" / "job.json")
    _print(console, "")
    if setup.strategy == "single":
        _print(console, "one process needs no launcher: `distill sft` runs it")
        _print(console, shlex.join([sys.executable, "-m", WORKER, job]))
        return
    folder = request.out_folder or run.folder / "training"
    if request.out_folder:
        path = files.write(request.out_folder, setup, attention=attention)
        deepspeed_note = f", {request.out_folder / files.DEEPSPEED}" if setup.zero else ""
        _print(console, f"written: {path}{deepspeed_note}")
    else:
        path = folder / files.ACCELERATE
        deepspeed = folder.absolute() / files.DEEPSPEED if setup.zero else None
        _print(console, f"# {path}")
        _print(console, files.as_yaml(files.accelerate_config(setup, deepspeed, attention=attention)).rstrip())
        if setup.zero:
            _print(console, f"\n# {deepspeed}")
            _print(console, orjson.dumps(files.deepspeed_config(setup), option=orjson.OPT_INDENT_2).decode())
    master = None
    rank = None
    suffix = ""
    if setup.nodes > 1:
        master = "HOST"
        rank = "RANK"
        suffix = " on every node, HOST being the first one and RANK 0, 1, …"
    line = launch.command(setup, path, ["-m", WORKER, job], master=master, rank=rank)
    _print(console, f"\n`distill sft` writes these files and job.json, and starts{suffix}:")
    _print(console, shlex.join(line))


def _print(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
