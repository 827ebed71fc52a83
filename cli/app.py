"""`distill`: its commands, in the order of the help."""

from __future__ import annotations

import os
import signal
from typing import Annotated

import typer

from .boundary import at_boundary
from .commands import (
    doctor,
    eval,
    filter,
    generate,
    grpo,
    import_,
    is_done,
    ls,
    plan,
    publish,
    report,
    run,
    serve,
    settings,
    sft,
    show,
    verify,
)
from .help_texts import HELP_TEXTS

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

LOOK = "Look and check"
"""The help's panel of the commands that change no run."""


@app.callback()
def _global(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    if debug:
        os.environ["DISTILL_DEBUG"] = "1"


COMMANDS = (
    (run.run_command, "run", None),
    (generate.generate, "generate", None),
    (filter.filter_command, "filter", None),
    (sft.sft, "sft", None),
    (grpo.grpo, "grpo", None),
    (eval.eval_command, "eval", None),
    (import_.import_command, "import", None),
    (verify.verify, "verify", LOOK),
    (serve.serve, "serve", None),
    (plan.plan, "plan", LOOK),
    (publish.publish, "publish", None),
    (report.report, "report", LOOK),
    (show.show, "show", LOOK),
    (ls.ls, "ls", LOOK),
    (settings.settings, "settings", LOOK),
    (doctor.doctor, "doctor", LOOK),
)
"""The commands in the order of the help, each with its name and panel; HELP_TEXTS says what its own help ends with."""

for _command, _name, _panel in COMMANDS:
    app.command(_name, epilog=HELP_TEXTS[_name], rich_help_panel=_panel)(at_boundary(_command))
app.command("is-done", hidden=True)(at_boundary(is_done.is_done))


def main() -> None:
    """Entry point of the `distill` command."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's TERM ends work as cleanly as Ctrl-C
    app()
