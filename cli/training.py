"""What `distill sft --dry-run` and `distill grpo --dry-run` show, down to the exact launch command."""

from __future__ import annotations

import shlex
from typing import Any

from rich.console import Console
from rich.table import Table

from distill.training.sft import lengths

from . import audit


def preview(out: Console, found: dict[str, Any]) -> None:
    audit.show(found["audit"], out)
    built, job = found["built"], found["job"]
    setup, schedule = job.setup, job.schedule
    out.print(lengths.table(built, setup.max_length), highlight=False, markup=False)
    table = Table(title=f"training {job.model}", title_justify="left", show_header=False)
    steps = -(-built.rows // setup.batch) if job.batching == "grouped" else None
    rows = {
        "rows": f"{built.rows:,} ({built.tokens:,} tokens, {built.loss_tokens:,} of them learnt)",
        "epochs": f"{schedule.epochs:g}" + (f", {steps:,} steps each" if steps else ""),
        "learning rate": f"{schedule.learning_rate:g}, {schedule.kind}, warm-up {schedule.warmup:.0%}",
        "method": setup.method,
        "strategy": f"{setup.strategy}, {setup.processes} processes on {setup.nodes} nodes",
        "rows per step": f"{setup.batch} = {setup.micro_batch} × {setup.accumulation} accumulated"
        f" × {setup.processes // setup.sequence_parallel} replicas",
        "one row": f"up to {setup.max_length:,} tokens over {setup.sequence_parallel} processes; {job.batching}",
        "files": job.folder,
    }
    for name, value in rows.items():
        table.add_row(name, value)
    out.print(table)
    out.print("would start:", highlight=False)
    out.print(shlex.join(found["command"]), highlight=False, markup=False, soft_wrap=True)


def preview_grpo(out: Console, found: dict[str, Any]) -> None:
    chosen, job = found["prompts"], found["job"]
    setup, told = job.setup, job.arguments
    table = Table(title=f"GRPO of {job.model}", title_justify="left", show_header=False)
    group = told["num_generations"]
    rows = {
        "prompts": f"{chosen.rows:,} of up to {chosen.longest:,} tokens; left out: {chosen.outside:,} by pass rate,"
        f" {chosen.too_long:,} as too long",
        "steps": f"{job.steps:,} of {setup.batch // group} prompts × {group} completions "
        f"of up to {told['max_completion_length']:,} tokens",
        "learning rate": f"{job.schedule.learning_rate:g}, {job.schedule.kind}",
        "loss": f"{told['loss_type']}, beta {told['beta']:g}",
        "rollouts": told.get("vllm_mode", "generate"),
        "strategy": f"{setup.method}, {setup.strategy}, {setup.processes} processes",
        "files": job.folder,
    }
    for name, values in found["rewards"].items():
        rows[f"reward {name}"] = "gave " + ", ".join(f"{value:.3g}" for value in values) + " to synthetic completions"
    for name, value in rows.items():
        table.add_row(name, value)
    out.print(table)
    out.print("would start:", highlight=False)
    out.print(shlex.join(found["command"]), highlight=False, markup=False, soft_wrap=True)
