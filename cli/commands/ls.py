"""`distill ls`: what can be named."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import complete


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
    from ..listing import ls as print_it

    print_it(what)
