"""`distill doctor`: one table of what is here, what is missing and what is broken, with a remedy each."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from distill import doctor

STYLES = {"ok": "green", "missing": "yellow", "broken": "red"}


def execute(folder: Path | None) -> bool:
    """Look, print, and say whether `distill run tiny` should work."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal without UTF-8 is one of the findings
    out, screen = Console(), Console(stderr=True)
    if screen.is_terminal:
        with screen.status("looking; importing torch and vLLM takes some seconds"):
            found = doctor.examine(folder or Path("runs"))
    else:
        found = doctor.examine(folder or Path("runs"))
    table = Table("", "", "found", box=None, pad_edge=False)
    for one in found:
        what = Text(one.what, overflow="fold")
        if one.status != "ok" and one.fix:
            what.append(f"\n→ {one.fix}", style="bold")
        table.add_row(Text(one.name, style="bold"), Text(one.status, style=STYLES[one.status]), what)
    out.print(table)
    stopping = [one.name for one in found if one.needed and one.status != "ok"]
    if stopping:
        out.print(f"\nmend first: {', '.join(stopping)}; `distill run tiny` needs them", highlight=False, markup=False)
    else:
        rest = "; what is missing matters only to who uses it" if any(one.status != "ok" for one in found) else ""
        out.print(f"\n`distill run tiny` should work here{rest}", highlight=False, markup=False)
    return doctor.works(found)
