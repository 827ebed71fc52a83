"""`distill`: the commands, their options and how errors end."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import complete
from .lessons import LESSONS

if TYPE_CHECKING:
    from distill.recipe import StageName

app = typer.Typer(
    name="distill",
    help="Turn a large reasoning model into small ones that reason.\n\n"
    "Begin with `distill run tiny`: teacher, traces, filter, fine-tuning and scores on this machine, in minutes; "
    "`distill doctor` says whether it will work. Stage by stage: generate (or import), filter, sft, eval, publish. "
    "`distill COMMAND --help` shows what each reads and writes, with examples.",
    epilog="TAB completes presets, recipes and runs after `distill --install-completion`. "
    "Guides: README.md, recipes/README.md, data/README.md.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

RecipeArg = Annotated[
    str | None,
    typer.Argument(
        metavar="[RECIPE]",
        help="A shipped recipe (`distill ls recipes`) or a .yaml.  [default: the run folder's own, else r1-distill]",
        autocompletion=complete.recipes,
    ),
]
RunOption = Annotated[
    Path | None,
    typer.Option("--run", metavar="DIR", help="Run folder.  [default: runs/RECIPE]", autocompletion=complete.runs),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Change any recipe value, such as sft.epochs=2; repeat for more."),
]
LimitOption = Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="Only the first N.")]
DryOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done and stop.")]
TeacherOption = Annotated[
    str | None,
    typer.Option(help="A preset (`distill ls teachers`), a Hub id or a path.", autocompletion=complete.teachers),
]
StudentOption = Annotated[
    str | None,
    typer.Option(help="A preset (`distill ls students`), a Hub id or a path.", autocompletion=complete.students),
]
ProblemsOption = Annotated[
    str | None,
    typer.Option(
        metavar="SET",
        help="A set (`distill ls problems`), `set:split`, or a .yaml or .jsonl.",
        autocompletion=complete.problems,
    ),
]
EndpointOption = Annotated[
    list[str] | None, typer.Option("--endpoint", metavar="URL", help="A running vLLM server to join; repeat for more.")
]
OnOption = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="PLACE",
        help="`here`, or `slurm`: write a batch script for the cluster.",
        autocompletion=complete.one_of("here", "slurm"),
    ),
]
SubmitOption = Annotated[bool, typer.Option("--submit", help="With --on slurm: also submit.")]
LOOK = "Look and check"
"""The help's panel of the commands that change no run."""
HereOption = Annotated[bool, typer.Option("--here", hidden=True)]


@app.callback()
def _global(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    if debug:
        os.environ["DISTILL_DEBUG"] = "1"


@app.command("run", epilog=LESSONS["run"])
def run_command(
    recipe: Annotated[
        str,
        typer.Argument(help="A shipped recipe (`distill ls recipes`) or a .yaml.", autocompletion=complete.recipes),
    ],
    run: RunOption = None,
    set_: SetOption = None,
    limit: LimitOption = None,
    teacher: TeacherOption = None,
    student: StudentOption = None,
    on: OnOption = None,
    submit: SubmitOption = False,
    dry_run: DryOption = False,
) -> None:
    """All stages of a recipe, one after the other; what is unchanged is skipped, what was cut off goes on."""
    named = {"generate.limit": limit, "eval.limit": limit, "teacher": teacher, "student": student}
    _stages(None, recipe, run, set_, named, dry_run, on=on, submit=submit)


@app.command("generate", epilog=LESSONS["generate"])
def generate(
    recipe: RecipeArg = None,
    teacher: TeacherOption = None,
    problems: ProblemsOption = None,
    endpoint: EndpointOption = None,
    run: RunOption = None,
    set_: SetOption = None,
    limit: LimitOption = None,
    forecast: Annotated[
        int | None,
        typer.Option(metavar="N", min=2, help="Sample only N of the problems, and say what all of them will take."),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask again what the engine refused before.")
    ] = False,
    on: OnOption = None,
    submit: SubmitOption = False,
    dry_run: DryOption = False,
    here: HereOption = False,
) -> None:
    """Sample the teacher; every trace is on disk as soon as it is finished, and the same command resumes."""
    named = {
        "teacher": teacher,
        "generate.problems": problems,
        "generate.limit": limit,
        "generate.retry_failed": retry_failed or None,
        **_joined("generate", endpoint),
    }
    _stages("generate", recipe, run, set_, named, dry_run, here, forecast, on, submit)


@app.command("filter", epilog=LESSONS["filter"])
def filter_command(
    recipe: RecipeArg = None,
    traces: Annotated[
        list[str] | None,
        typer.Option(
            "--traces",
            metavar="DIR",
            help="Read another run's traces; repeat for more.",
            autocompletion=complete.runs,
        ),
    ] = None,
    student: StudentOption = None,
    run: RunOption = None,
    set_: SetOption = None,
    limit: LimitOption = None,
    on: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE",
            help="`here`; `ray`: a Ray cluster judges; `slurm`: a batch script.",
            autocompletion=complete.one_of("here", "ray", "slurm"),
        ),
    ] = None,
    submit: SubmitOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the funnel and change nothing.")] = False,
    here: HereOption = False,
) -> None:
    """Every check on every trace: verdicts with reasons, a funnel, and the set to train on."""
    named = {"filter.traces": traces or None, "student": student, "filter.limit": limit}
    if on != "slurm":
        named["filter.on"] = on
    _stages("filter", recipe, run, set_, named, dry_run, here, on=on, submit=submit)


@app.command("sft", epilog=LESSONS["sft"])
def sft(
    recipe: RecipeArg = None,
    student: StudentOption = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Train on another run's kept traces.", autocompletion=complete.runs),
    ] = None,
    run: RunOption = None,
    set_: SetOption = None,
    limit: LimitOption = None,
    on: OnOption = None,
    submit: SubmitOption = False,
    dry_run: DryOption = False,
    here: HereOption = False,
) -> None:
    """Fine-tune the student on the kept traces."""
    named = {"student": student, "sft.data": data, "sft.limit": limit}
    _stages("sft", recipe, run, set_, named, dry_run, here, on=on, submit=submit)


@app.command("grpo", epilog=LESSONS["grpo"])
def grpo(
    recipe: RecipeArg = None,
    problems: ProblemsOption = None,
    student: StudentOption = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Another run's problems and pass rates.", autocompletion=complete.runs),
    ] = None,
    run: RunOption = None,
    set_: SetOption = None,
    limit: LimitOption = None,
    on: OnOption = None,
    submit: SubmitOption = False,
    dry_run: DryOption = False,
    here: HereOption = False,
) -> None:
    """Let the fine-tuned student learn from rewards on its own completions."""
    named = {"grpo.problems": problems, "student": student, "grpo.data": data, "grpo.limit": limit}
    _stages("grpo", recipe, run, set_, named, dry_run, here, on=on, submit=submit)


@app.command("eval", epilog=LESSONS["eval"])
def eval_command(
    recipe: RecipeArg = None,
    problems: ProblemsOption = None,
    student: StudentOption = None,
    endpoint: EndpointOption = None,
    run: RunOption = None,
    set_: SetOption = None,
    limit: LimitOption = None,
    rescore: Annotated[
        bool, typer.Option("--rescore", help="Sample nothing: judge again what is there, without model or engine.")
    ] = False,
    on: OnOption = None,
    submit: SubmitOption = False,
    dry_run: DryOption = False,
    here: HereOption = False,
) -> None:
    """Score teacher, base and student on unseen problems, with intervals."""
    named = {
        "eval.problems": problems,
        "student": student,
        "eval.limit": limit,
        "eval.rescore": None if here else rescore,  # a launched command does as it was told, and no later one does
        **_joined("eval", endpoint),
    }
    _stages("eval", recipe, run, set_, named, dry_run, here, on=on, submit=submit)


@app.command("import", epilog=LESSONS["import"])
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
        from .imports import execute

        execute(source, map_, run, limit)

    _guarded(act)


@app.command("verify", epilog=LESSONS["verify"], rich_help_panel=LOOK)
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
        from .verify import execute

        execute(pairs, out, kind)

    _guarded(act)


@app.command("serve", epilog=LESSONS["serve"])
def serve(
    teacher: Annotated[
        str,
        typer.Option(help="A preset (`distill ls teachers`), a Hub id or a path.", autocompletion=complete.teachers),
    ],
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
    named = {"replicas": replicas, "port": port or None, "host": host}

    def act() -> None:
        from .serve import execute

        execute(teacher, on, run, endpoints_file, named, set_ or [], dry_run, submit)

    _guarded(act)


@app.command("plan", epilog=LESSONS["plan"], rich_help_panel=LOOK)
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

        from .plan import Wish, execute

        on = Hardware(nodes=nodes, gpus=gpus, gpu_memory=gpu_memory, host_memory=host_memory, gpu=gpu)
        wish = Wish(on, tokens, run, data, method, price, mfu, out)
        execute(wish, set_ or [], {"student": student} if student else {})

    _guarded(act)


@app.command("publish", epilog=LESSONS["publish"])
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
    named = {"to": to, "dataset": dataset or None, "public": public or None}

    def act() -> None:
        from .publish import execute

        execute(run, named, set_ or [], dry_run)

    _guarded(act)


@app.command("report", epilog=LESSONS["report"], rich_help_panel=LOOK)
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
        from .report import execute

        execute(recipe, run or [], out, set_ or [])

    _guarded(act)


@app.command("show", epilog=LESSONS["show"], rich_help_panel=LOOK)
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
    from .show import show as print_it

    _guarded(lambda: print_it(run, id))


@app.command("ls", epilog=LESSONS["ls"], rich_help_panel=LOOK)
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
    from .ls import ls as print_it

    _guarded(lambda: print_it(what))


@app.command("doctor", epilog=LESSONS["doctor"], rich_help_panel=LOOK)
def doctor(
    run: Annotated[
        Path | None,
        typer.Option(
            "--run", metavar="DIR", help="Look at its disk and locks.  [default: runs]", autocompletion=complete.runs
        ),
    ] = None,
) -> None:
    """What is installed, what works and what to do about the rest; status 1 if `distill run tiny` would fail."""
    well = False

    def act() -> None:
        from .doctor import execute

        nonlocal well
        well = execute(run)

    _guarded(act)
    if not well:
        raise typer.Exit(1)


@app.command("is-done", hidden=True)
def is_done(
    stage: Annotated[str, typer.Argument(metavar="STAGE")],
    run: Annotated[Path, typer.Option("--run", metavar="DIR", help="Run folder.")],
) -> None:
    """Status 0 if nothing is left to do in this stage of the run, else 3: what a batch job asks when it ends."""
    found = False

    def act() -> None:
        from .batch import is_done as look

        nonlocal found
        found = look(stage, run)

    _guarded(act)
    if not found:
        raise typer.Exit(3)


def _joined(stage: str, endpoints: list[str] | None) -> dict[str, Any]:
    if not endpoints:
        return {}
    return {f"{stage}.backend.kind": "vllm", f"{stage}.backend.endpoints": endpoints}


def _stages(
    stage: StageName | None,
    recipe: str | None,
    run: Path | None,
    changes: list[str] | None,
    named: dict[str, Any],
    dry_run: bool,
    here: bool = False,
    pilot: int | None = None,
    on: str | None = None,
    submit: bool = False,
) -> None:
    given = {name: value for name, value in named.items() if value is not None}

    def act() -> None:
        if on or submit:
            from . import batch

            if batch.wanted(stage, on, submit, pilot):
                batch.execute(stage, recipe, run, changes or [], given, dry_run, submit)
                return
        from .stages import execute

        execute(stage, recipe, run, changes or [], given, dry_run, here, pilot)

    _guarded(act)


def _guarded(action: Callable[[], None]) -> None:
    """The boundary: an error of ours is one short message and its exit status; anything else is a bug and says so."""
    from distill.errors import DistillError, Stopped

    debug = bool(os.environ.get("DISTILL_DEBUG"))
    try:
        action()
    except Stopped as stopped:
        typer.echo(str(stopped), err=True)
    except DistillError as error:
        if debug:
            raise
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("stopped; everything finished so far is saved, and the same command goes on from there", 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except ImportError as error:
        if debug:
            raise
        _fail(f"a package is missing or does not fit: {error}\n  → `distill doctor` says which, and what to do", 1)
    except Exception as error:  # the last boundary: a bug must not look like a wrong input
        if debug:
            raise
        _fail(f"internal error: {type(error).__name__}: {error}\n  → run `distill --debug …` for the traceback", 1)


def _fail(message: str, status: int) -> None:
    logging.getLogger("distill").debug("failed: %s", message)
    typer.secho("error: ", fg=typer.colors.RED, bold=True, nl=False, err=True)
    typer.echo(message, err=True)
    raise typer.Exit(status)


def main() -> None:
    """Entry point of the `distill` command."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's TERM ends work as cleanly as Ctrl-C
    app()
