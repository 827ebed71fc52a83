"""The commands around the stages: traces in, servers, plans, looks at what there is, and publishing."""

# ruff: noqa: PLR0913, PLR0917 - a command takes as many arguments as it has options

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import complete
from .boundary import guarded
from .options import TEACHER, LimitOption, RecipeArg, RunOption, SetOption, StudentOption


def import_command(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A Hub dataset, a .jsonl, .jsonl.zst or .parquet, or a folder.")
    ],
    map_: Annotated[
        str | None,
        typer.Option(
            "--map",
            metavar="NAME",
            help="A field map in recipes/imports or a .yaml; known for some datasets.",
            autocompletion=complete.maps,
        ),
    ] = None,
    run: Annotated[Path | None, typer.Option("--run", metavar="DIR", help="Run folder.  [default: runs/MAP]")] = None,
    limit: LimitOption = None,
) -> None:
    """Take other people's traces into a run folder; the same source adds nothing twice."""

    def act() -> None:
        from .commands.import_ import execute

        execute(source, map_, run, limit)

    guarded(act)


def verify(
    pairs: Annotated[Path, typer.Argument(metavar="PAIRS", help="JSONL with `gold`, `pred`, optional `kind`, `id`.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where the verdicts go.  [default: stdout]")
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            help="Verifier of rows that name none (`distill ls verifiers`).", autocompletion=complete.verifiers
        ),
    ] = "math",
) -> None:
    """Judge predicted answers against gold ones: one verdict with its reason a row, in their order."""

    def act() -> None:
        from .commands.verify import execute

        execute(pairs, out, kind)

    guarded(act)


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
    options = {"replicas": replicas, "port": port or None, "host": host}

    def act() -> None:
        from .commands.serve import execute

        execute(teacher, on, run, endpoints_file, options, set_ or [], dry_run, submit)

    guarded(act)


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

    def act() -> None:
        from distill.planning.setup import Hardware

        from .plan_tables import PlanRequest, execute

        hardware = Hardware(nodes=nodes, gpus=gpus, gpu_memory=gpu_memory, host_memory=host_memory, gpu=gpu)
        wish = PlanRequest(hardware, tokens, run, data, method, price, mfu, out)
        execute(wish, set_ or [], {"student": student} if student else {})

    guarded(act)


def publish(
    to: Annotated[str, typer.Option("--to", metavar="NAME", help="`org/name` on the Hub, or a folder: `./…`, `/…`.")],
    run: RunOption = None,
    dataset: Annotated[bool, typer.Option("--dataset", help="The filtered traces instead of the student.")] = False,
    public: Annotated[bool, typer.Option("--public", help="Let all see it, once it is verified.")] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="A=B", help="publish.accept=[LICENCE], publish.replace=true, …; repeat for more."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write the exact folder to DIR/publish and stop.")] = False,
) -> None:
    """The student or its traces, with a card: staged, read back, compared, loaded, only then merged and tagged."""
    options = {"to": to, "dataset": dataset or None, "public": public or None}

    def act() -> None:
        from .commands.publish import execute

        execute(run, options, set_ or [], dry_run)

    guarded(act)


def report(
    recipe: RecipeArg = None,
    run: Annotated[
        list[Path] | None,
        typer.Option(
            "--run",
            metavar="DIR",
            help="Run folder; repeat for several side by side.  [default: runs/RECIPE]",
            autocompletion=complete.runs,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="The page.  [default: DIR/report.html; of several runs ./report.html]"
        ),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="A=B", help="report.traces=N: how many to take in; 0: none.")
    ] = None,
) -> None:
    """One page that needs no network: funnel, lengths, pass rates, tokens, curves, scores, and the traces to search."""

    def act() -> None:
        from .commands.report import execute

        execute(recipe, run or [], out, set_ or [])

    guarded(act)


def show(
    id: Annotated[
        str,
        typer.Argument(metavar="ID", help="The first letters of a trace's or problem's id, or a reason of the funnel."),
    ],
    run: Annotated[Path, typer.Option("--run", metavar="DIR", help="Run folder.", autocompletion=complete.runs)] = Path(
        "runs/tiny"
    ),
) -> None:
    """Print one trace with its verdicts, one problem with its traces, or the examples of a reject reason."""
    from .traces import show as print_it

    guarded(lambda: print_it(run, id))


def ls(
    what: Annotated[
        str,
        typer.Argument(
            help="teachers, students, problems, verifiers, filters, rewards, backends, recipes or runs.",
            autocompletion=complete.one_of(*complete.LISTS),
        ),
    ] = "recipes",
) -> None:
    """List what can be named on the command line and in recipes."""
    from .listing import ls as print_it

    guarded(lambda: print_it(what))


def doctor(
    run: Annotated[
        Path | None,
        typer.Option(
            "--run", metavar="DIR", help="Look at its disk and locks.  [default: runs]", autocompletion=complete.runs
        ),
    ] = None,
) -> None:
    """What is installed, what works and what to do about the rest; status 1 if `distill run tiny` would fail."""
    healthy = False

    def act() -> None:
        from .commands.doctor import execute

        nonlocal healthy
        healthy = execute(run)

    guarded(act)
    if not healthy:
        raise typer.Exit(1)


def is_done(
    stage: Annotated[str, typer.Argument(metavar="STAGE")],
    run: Annotated[Path, typer.Option("--run", metavar="DIR", help="Run folder.")],
) -> None:
    """Status 0 if nothing is left to do in this stage of the run, else 3: what a batch job asks when it ends."""
    done = False

    def act() -> None:
        from .batch import is_done as check_stage

        nonlocal done
        done = check_stage(stage, run)

    guarded(act)
    if not done:
        raise typer.Exit(3)
