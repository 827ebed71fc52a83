"""`distill serve`: starts a teacher, says where it answers, and keeps it up until it is told to stop."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import complete
from ..options import TEACHER
from ..printing import say

if TYPE_CHECKING:
    from distill.models.model import Model
    from distill.serving.layout import Layout
    from distill.serving.request import ServeRequest


def serve(
    teacher: Annotated[str, TEACHER],
    replicas: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Servers.  [default: as many as the GPUs hold]")
    ] = None,
    on: Annotated[
        str,
        typer.Option(
            metavar="PLACE",
            help="`here`, `ray` (RAY_ADDRESS) or `slurm`.",
            autocompletion=complete.one_of("here", "ray", "slurm"),
        ),
    ] = "here",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The first server's; 0: any free ones.")] = 8000,
    host: Annotated[str, typer.Option(help="`0.0.0.0` lets other machines in.")] = "127.0.0.1",
    run: Annotated[
        Path | None, typer.Option("--run", metavar="DIR", help="Run folder.  [default: that of the teacher's recipe]")
    ] = None,
    endpoints_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the addresses go.  [default: DIR/endpoints.txt]")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="A=B", help="serve.ARGUMENT of vLLM, slurm.OPTION, restarts, …; repeat for more."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the exact commands and stop.")] = False,
    submit: Annotated[bool, typer.Option("--submit", help="With --on slurm: also submit the script.")] = False,
) -> None:
    """Start the teacher's vLLM servers, print their endpoints, keep them up until Ctrl-C."""
    from distill.serving import keeping
    from distill.serving import request as requests

    option_changes = {"replicas": replicas, "port": port or None, "host": host}
    wanted = requests.request(teacher, on, run, endpoints_file, option_changes, set_ or ())
    _log_to_screen()
    if on == "slurm":
        _write_script(wanted, dry_run, submit)
    elif dry_run:
        _show_plan(wanted)
    else:
        keeping.serve(wanted, partial(_announce, wanted))


def _show_plan(request: ServeRequest) -> None:
    from distill.serving import keeping

    plan = keeping.plan(request)
    _headline(request.model, plan.layout, plan.replicas, request.launcher)
    for env, command in plan.commands:
        if request.launcher == "ray":
            say(f"  {plan.replicas} × {shlex.join(command)}")
            say("  on each node its own address; port 0 stands for a free one")
        else:
            settings = " ".join(f"{name}={shlex.quote(value)}" for name, value in env.items())
            say(f"  {settings} {shlex.join(command)}")
    say(f"  endpoints into {request.endpoints}")


def _headline(model: Model, layout: Layout, replicas: int, launcher: str) -> None:
    from distill.serving.layout import advice

    headline = f"{model.name}: {replicas} replica{'s' * (replicas > 1)}, {layout.description} each, on {launcher}"
    if layout.gpus == 1:
        headline = headline.replace("one GPU each, ", "")
    say(headline)
    if hint := advice(model, layout):
        say(f"  {hint}")


def _announce(request: ServeRequest, urls: tuple[str, ...], size: int) -> None:
    say(f"{len(urls)} of {size} serving:")
    for url in urls:
        say(f"  {url}")
    generate = ["distill", "generate", "--teacher", request.teacher]
    endpoint_options = [part for url in urls for part in ("--endpoint", url)]
    say(f"sample it: {shlex.join([*generate, *endpoint_options])}")
    file_options = (
        f"--set generate.backend.kind=vllm --set generate.backend.endpoints_file={shlex.quote(str(request.endpoints))}"
    )
    say(f"or, as servers come and go: {shlex.join(generate)} {file_options}")


def _write_script(request: ServeRequest, dry_run: bool, submit: bool) -> None:
    """DIR/serve.sbatch, and the line that submits it."""
    from distill.errors import writing
    from distill.machine.slurm import submit as submit_script
    from distill.serving import slurm

    job, text = slurm.request_script(request)
    _headline(request.model, job.layout, job.replicas * job.tasks, request.launcher)
    tasks = f"{job.tasks} job{'s' * (job.tasks > 1)} of {job.nodes} node{'s' * (job.nodes > 1)} × {job.gpus} GPUs"
    say(f"  {tasks}, {job.replicas} replica{'s' * (job.replicas > 1)} in each")
    if dry_run:
        say(text)
        return
    path = request.folder / "serve.sbatch"
    with writing(path):
        request.folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    line = shlex.join(["sbatch", str(path)])
    say(f"written: {path}\nsubmit it: {line}")
    say(f"endpoints will be in {request.endpoints}")
    if submit:
        say(f"submitted: job {submit_script(path)}")


def _log_to_screen() -> None:
    import logging

    from rich.console import Console
    from rich.logging import RichHandler

    from distill.progress import LOG

    LOG.setLevel(logging.INFO)
    LOG.handlers.clear()
    LOG.addHandler(RichHandler(console=Console(stderr=True), show_path=False, show_level=False, markup=False))
