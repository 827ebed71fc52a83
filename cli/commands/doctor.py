"""`distill doctor`: what is here, missing or broken, told as it is found, each with a remedy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import complete

if TYPE_CHECKING:
    from rich.table import Table

    from distill.doctor.finding import Finding

STYLES = {"ok": "green", "missing": "yellow", "broken": "red"}


def doctor(
    run: Annotated[
        Path | None,
        typer.Option(
            "--run", metavar="DIR", help="Look at its disk and locks.  [default: runs]", autocompletion=complete.runs
        ),
    ] = None,
) -> None:
    """What is installed, what works and what to do about the rest; status 1 if `distill run tiny` would fail."""
    if not _examine(run):
        raise typer.Exit(1)


def _examine(folder: Path | None) -> bool:
    """Look, print each finding as it comes, and say whether `distill run tiny` should work."""
    from rich.console import Console

    from distill import doctor as checks

    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal without UTF-8 is one of the findings
    console = Console()
    findings = []
    with Console(stderr=True).status("looking; importing torch and vLLM takes some seconds"):
        for finding in checks.examine(folder or Path("runs")):
            findings.append(finding)
            console.print(_row(finding))
    blocking = [finding.name for finding in findings if finding.needed and finding.status != "ok"]
    if blocking:
        console.print(
            f"\nmend first: {', '.join(blocking)}; `distill run tiny` needs them", highlight=False, markup=False
        )
    else:
        note = ""
        if any(finding.status != "ok" for finding in findings):
            note = "; what is missing matters only to who uses it"
        console.print(f"\n`distill run tiny` should work here{note}", highlight=False, markup=False)
    return checks.tiny_should_work(findings)


def _row(finding: Finding) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(width=13)
    table.add_column(width=7)
    table.add_column(overflow="fold")
    description = Text(finding.message)
    if finding.status != "ok" and finding.fix:
        description.append(f"\n→ {finding.fix}", style="bold")
    table.add_row(Text(finding.name, style="bold"), Text(finding.status, style=STYLES[finding.status]), description)
    return table
