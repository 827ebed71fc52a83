"""`distill`: its commands, in the order of the help."""

from __future__ import annotations

import os
import signal
from typing import Annotated

import typer

from . import other_commands, stage_commands
from .commands.settings import settings
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


for _command, _name, _panel in (
    (stage_commands.run_command, "run", None),
    (stage_commands.generate, "generate", None),
    (stage_commands.filter_command, "filter", None),
    (stage_commands.sft, "sft", None),
    (stage_commands.grpo, "grpo", None),
    (stage_commands.eval_command, "eval", None),
    (other_commands.import_command, "import", None),
    (other_commands.verify, "verify", LOOK),
    (other_commands.serve, "serve", None),
    (other_commands.plan, "plan", LOOK),
    (other_commands.publish, "publish", None),
    (other_commands.report, "report", LOOK),
    (other_commands.show, "show", LOOK),
    (other_commands.ls, "ls", LOOK),
    (settings, "settings", LOOK),
    (other_commands.doctor, "doctor", LOOK),
):
    app.command(_name, epilog=HELP_TEXTS[_name], rich_help_panel=_panel)(_command)
app.command("is-done", hidden=True)(other_commands.is_done)


def main() -> None:
    """Entry point of the `distill` command."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's TERM ends work as cleanly as Ctrl-C
    app()
