"""`distill doctor`: what is here, missing or broken, told as it is found, each with a remedy."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from distill import doctor
from distill.doctor.finding import Finding

STYLES = {"ok": "green", "missing": "yellow", "broken": "red"}


def execute(folder: Path | None) -> bool:
    """Look, print each finding as it comes, and say whether `distill run tiny` should work."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal without UTF-8 is one of the findings
    out = Console()
    found = []
    with Console(stderr=True).status("looking; importing torch and vLLM takes some seconds"):
        for one in doctor.examine(folder or Path("runs")):
            found.append(one)
            out.print(_row(one))
    stopping = [one.name for one in found if one.needed and one.status != "ok"]
    if stopping:
        out.print(f"\nmend first: {', '.join(stopping)}; `distill run tiny` needs them", highlight=False, markup=False)
    else:
        rest = "; what is missing matters only to who uses it" if any(one.status != "ok" for one in found) else ""
        out.print(f"\n`distill run tiny` should work here{rest}", highlight=False, markup=False)
    return doctor.works(found)


def _row(one: Finding) -> Table:
    row = Table.grid(padding=(0, 2))
    row.add_column(width=13)
    row.add_column(width=7)
    row.add_column(overflow="fold")
    what = Text(one.what)
    if one.status != "ok" and one.fix:
        what.append(f"\n→ {one.fix}", style="bold")
    row.add_row(Text(one.name, style="bold"), Text(one.status, style=STYLES[one.status]), what)
    return row
