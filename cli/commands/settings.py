"""`distill settings`: every setting of a recipe, with its type, default and meaning."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import complete


def settings(
    place: Annotated[
        str,
        typer.Argument(
            metavar="PLACE",
            help="A dotted place: sft, filter.checks.length, generate.backend.vllm, …  [default: a recipe's own]",
            autocompletion=complete.settings,
            show_default=False,
        ),
    ] = "",
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema by which editors complete recipes.")
    ] = False,
) -> None:
    """Explain the settings of a recipe: name, type, default and meaning."""
    from ..explain import print_schema, print_settings

    if schema:
        print_schema()
    else:
        print_settings(place)
