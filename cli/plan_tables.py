"""What `distill plan` prints: the job, what was weighed, memory, time, and the launch files."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

from distill.planning import choose, files, launch
from distill.planning.choose import Option
from distill.planning.duration import MFU, Duration
from distill.planning.memory import GIB, memory
from distill.run import Run
from distill.stages.sft import WORKER
from distill.training.sft.plan import SetSize, SftPlan

from .printing import say


def print_job(plan: SftPlan) -> None:
    """Print what is to be trained, and on what."""
    student = plan.student
    machine = plan.machine
    revision = f" at {student.revision}" if student.revision else ""
    if plan.shape.parameters >= 1e8:
        size = f"{plan.shape.parameters / 1e9:,.2f}B"
    else:
        size = f"{plan.shape.parameters / 1e6:,.2f}M"
    say(f"student {student.name}: {student.model}{revision}, {size} parameters")
    if machine.gpus:
        gpus = f"{machine.nodes} × " * (machine.nodes > 1) + f"{machine.gpus} × {machine.gpu or 'GPU'}"
        say(f"on {gpus} of {machine.gpu_memory:g} GiB, of which a plan leaves {choose.MARGIN:.0%} free")
    else:
        say("on a CPU")
    rows = "one document each"
    if plan.job.packed:
        rows = "packed with documents that do not see one another"
    attention_note = f"{plan.attention}, taken to be installed there" if plan.flash_assumed else plan.attention
    say(f"rows of up to {plan.job.max_length:,} tokens, {rows}; {attention_note}")


def print_options(plan: SftPlan) -> None:
    """Print all that was weighed up to the chosen one and the adapters, with what they lack."""
    console = Console()
    weighed = plan.weighed
    chosen = plan.best
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
        say(f"{layout} would make {fastest.setup.batch} rows per step, this one keeps the batch")


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


def print_memory(plan: SftPlan, chosen: Option) -> None:
    """Print what each process holds at its fullest."""
    job = plan.job
    sizes = chosen.memory
    setup = chosen.setup
    unfused = memory(plan.shape, setup, rank=job.rank, flash=job.flash, packed=job.packed, fused=False)
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
    console = Console()
    console.print()
    console.print(table)


def print_batch(plan: SftPlan, chosen: Option) -> None:
    """Print how the rows of a step are spread."""
    setup = chosen.setup
    replicas = setup.processes // setup.sequence_parallel
    changed = f" instead of the {plan.job.batch} asked for" if setup.batch != plan.job.batch else ""
    product = f"{setup.micro_batch} × {setup.accumulation} passes × {replicas} replicas"
    say("", f"rows per step: {setup.batch}{changed} = {product}")


def print_time(plan: SftPlan, size: SetSize, estimate: Duration, mfu: float | None, price: float | None) -> None:
    """Print steps, hours and cost."""
    say(f"{size.tokens:,.0f} tokens × {plan.epochs:g} epochs: {estimate.steps:,} steps")
    say(_hours_line(plan, estimate, mfu or MFU, price))


def _hours_line(plan: SftPlan, estimate: Duration, mfu: float, price: float | None) -> str:
    if estimate.hours is None:
        return "hours: name the GPU with --gpu" if plan.machine.gpus else "hours: not estimated for a CPU"
    line = f"about {estimate.hours:,.1f} hours, if {mfu:.0%} of the GPUs' peak goes into the model (--mfu)"
    if estimate.cost is not None:
        line += f"; costs {estimate.cost:,.2f} at {price:g} per GPU and hour"
    return line


def print_files(plan: SftPlan, chosen: Option, run: Run, out_folder: Path | None) -> None:
    """Print how training starts; with `out_folder` the launch files are written there, else printed."""
    setup = chosen.setup
    job = str(run.folder / "training" / "job.json")
    say("")
    if setup.strategy == "single":
        say("one process needs no launcher: `distill sft` runs it")
        say(shlex.join([sys.executable, "-m", WORKER, job]))
        return
    folder = run.folder / "training"
    if out_folder:
        path = files.write(out_folder, setup, attention=plan.attention)
        deepspeed_note = f", {out_folder / files.DEEPSPEED}" if setup.zero else ""
        say(f"written: {path}{deepspeed_note}")
    else:
        path = folder / files.ACCELERATE
        deepspeed = folder.absolute() / files.DEEPSPEED if setup.zero else None
        say(f"# {path}")
        say(files.as_yaml(files.accelerate_config(setup, deepspeed, attention=plan.attention)).rstrip())
        if setup.zero:
            say(f"\n# {deepspeed}")
            say(orjson.dumps(files.deepspeed_config(setup), option=orjson.OPT_INDENT_2).decode())
    master = None
    rank = None
    suffix = ""
    if setup.nodes > 1:
        master = "HOST"
        rank = "RANK"
        suffix = " on every node, HOST being the first one and RANK 0, 1, …"
    line = launch.command(setup, path, ["-m", WORKER, job], master=master, rank=rank)
    say(f"\n`distill sft` writes these files and job.json, and starts{suffix}:")
    say(shlex.join(line))
