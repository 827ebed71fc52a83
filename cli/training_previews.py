"""What `distill sft --dry-run` and `distill grpo --dry-run` show, down to the exact launch command."""

from __future__ import annotations

import shlex

from rich.console import Console
from rich.table import Table

from distill.stages.grpo import GrpoPreview
from distill.stages.sft import SftPreview
from distill.training.sft import lengths

from . import audit


def preview(console: Console, prepared: SftPreview) -> None:
    audit.show(prepared.audit, console)
    dataset = prepared.built
    job = prepared.job
    setup = job.setup
    schedule = job.schedule
    console.print(lengths.table(dataset, setup.max_length), highlight=False, markup=False)
    table = Table(title=f"training {job.model}", title_justify="left", show_header=False)
    epochs = f"{schedule.epochs:g}"
    if job.batching == "grouped" and dataset.rows:
        epochs += f", {-(-dataset.rows // setup.batch):,} steps each"
    rows = {
        "rows": f"{dataset.rows:,} ({dataset.tokens:,} tokens, {dataset.loss_tokens:,} of them learnt)",
        "epochs": epochs,
        "learning rate": f"{schedule.learning_rate:g}, {schedule.kind}, warm-up {schedule.warmup:.0%}",
        "method": setup.method,
        "strategy": f"{setup.strategy}, {setup.processes} processes on {setup.nodes} nodes",
        "rows per step": f"{setup.batch} = {setup.micro_batch} × {setup.accumulation} accumulated"
        f" × {setup.processes // setup.sequence_parallel} replicas",
        "one row": f"up to {setup.max_length:,} tokens over {setup.sequence_parallel} processes; {job.batching}",
        "files": job.folder,
    }
    for name, value in rows.items():
        table.add_row(name, str(value))
    console.print(table)
    console.print("would start:", highlight=False)
    console.print(shlex.join(prepared.command), highlight=False, markup=False, soft_wrap=True)


def preview_grpo(console: Console, prepared: GrpoPreview) -> None:
    prompts = prepared.prompts
    job = prepared.job
    setup = job.setup
    arguments = job.arguments
    table = Table(title=f"GRPO of {job.model}", title_justify="left", show_header=False)
    group_size = int(arguments["num_generations"])
    rows: dict[str, object] = {
        "prompts": f"{prompts.rows:,} of up to {prompts.longest:,} tokens; left out: {prompts.outside:,} by pass rate,"
        f" {prompts.too_long:,} as too long",
        "steps": f"{job.steps:,} of {setup.batch // group_size} prompts × {group_size} completions "
        f"of up to {arguments['max_completion_length']:,} tokens",
        "learning rate": f"{job.schedule.learning_rate:g}, {job.schedule.kind}",
        "loss": f"{arguments['loss_type']}, beta {arguments['beta']:g}",
        "rollouts": arguments.get("vllm_mode", "generate"),
        "strategy": f"{setup.method}, {setup.strategy}, {setup.processes} processes",
        "files": job.folder,
    }
    for name, values in prepared.rewards.items():
        rows[f"reward {name}"] = "gave " + ", ".join(f"{value:.3g}" for value in values) + " to synthetic completions"
    for name, value in rows.items():
        table.add_row(name, str(value))
    console.print(table)
    console.print("would start:", highlight=False)
    console.print(shlex.join(prepared.command), highlight=False, markup=False, soft_wrap=True)
