"""`distill plan`: what fine-tuning takes on given hardware, before anything is started."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import complete
from ..options import RunOption, SetOption, StudentOption
from ..printing import say

if TYPE_CHECKING:
    from distill.run import Run
    from distill.training.sft.plan import SetSize


def plan(
    student: StudentOption = None,
    gpus: Annotated[int, typer.Option(metavar="N", min=0, help="On each node; 0: a CPU.")] = 8,
    nodes: Annotated[int, typer.Option(metavar="N", min=1, help="With so many GPUs each.")] = 1,
    gpu_memory: Annotated[float, typer.Option(metavar="GIB", min=1, help="Of one GPU.")] = 80,
    host_memory: Annotated[
        float | None, typer.Option(metavar="GIB", min=1, help="Of one node; checked where states are offloaded.")
    ] = None,
    gpu: Annotated[str | None, typer.Option(metavar="NAME", help="Such as H100; says how fast it is.")] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="full, lora, qlora, or auto: adapters where full does not fit.",
            autocompletion=complete.one_of(*complete.METHODS),
        ),
    ] = None,
    tokens: Annotated[float | None, typer.Option(metavar="N", min=1, help="Size of the set.")] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The set of another run.", autocompletion=complete.runs)
    ] = None,
    run: RunOption = None,
    price: Annotated[
        float | None, typer.Option("--price-per-gpu-hour", metavar="X", min=0, help="In your currency.")
    ] = None,
    mfu: Annotated[
        float | None, typer.Option(metavar="SHARE", min=0.01, max=1, help="Of the GPUs' peak that training reaches.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Write the launch files there.")] = None,
    set_: SetOption = None,
) -> None:
    """What fine-tuning takes: memory per GPU, the strategy that fits, steps, hours, cost, and the launch files."""
    from distill import recipe as recipes
    from distill.models import presets
    from distill.planning.setup import Hardware
    from distill.training.sft import plan as planner

    from .. import plan_tables as tables

    # without --run nothing that lies in a default run folder counts: a plan is made before there is one
    recipe_ref = None
    if run is None:
        recipe_ref = presets.student(student).recipe if student else recipes.DEFAULT_RECIPE
    option_changes = {"student": student} if student else {}
    recipe, run_folder = recipes.resolve(recipe_ref, run, set_ or (), option_changes)
    hardware = Hardware(nodes=nodes, gpus=gpus, gpu_memory=gpu_memory, host_memory=host_memory, gpu=gpu)
    sft_plan = planner.plan(recipe.sft, recipes.student(recipe), hardware, method)
    tables.print_job(sft_plan)
    tables.print_options(sft_plan)
    chosen = planner.chosen(sft_plan)
    tables.print_memory(sft_plan, chosen)
    tables.print_batch(sft_plan, chosen)
    size = _size(tokens, data, run_folder)
    if size is None:
        say("steps and hours: give --tokens, or --run or --data with a folder that holds an sft set")
    else:
        estimate = planner.time(sft_plan, size, gpu=gpu, mfu=mfu, price=price)
        tables.print_time(sft_plan, size, estimate, mfu, price)
    tables.print_files(sft_plan, chosen, run_folder, out)


def _size(tokens: float | None, data: Path | None, run: Run) -> SetSize | None:
    from distill.errors import InputError
    from distill.training.sft.plan import SetSize, set_size

    if tokens is not None:
        return SetSize(tokens, None)
    size = set_size(data or run.folder)
    if data and size is None:
        raise InputError("holds no sft set", where=str(data), fix="name a run folder that was filtered")
    return size
