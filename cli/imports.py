"""Imports other people's traces and says what came of each row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from distill.progress import Lines, Progress, duration
from distill.run import Run
from distill.sources import field_maps, imported

from .progress import Bar
from .stages import messages_to


def execute(source: str, ref: str | None, folder: Path | None, limit: int | None) -> None:
    """Import `source` by the map `ref` into a run folder, by default the map's own."""
    found = field_maps.find(ref, source)
    run = Run(folder or Path("runs") / found.name)
    out = Console()
    progress: Progress = Bar(Console(stderr=True)) if Console(stderr=True).is_terminal else Lines()
    messages_to(run)
    summary = imported.run(source, found, run, limit, progress)
    for line in _lines(summary, found.name, run):
        out.print(line, highlight=False, markup=False, soft_wrap=True)


def _lines(s: dict[str, Any], name: str, run: Run) -> list[str]:
    rate = s["rows"] / s["seconds"] if s["seconds"] else 0.0
    took = f"{duration(s['seconds'])}{f', {rate:,.0f} rows/s' if rate else ''}"
    lines = [
        f"import by map {name}: {s['rows']:,} rows read in {took}",
        f"  {s['traces']:,} new traces of {s['problems']:,} new problems ({s['without_gold']:,} without a gold answer)",
    ]
    notes = {
        "cut": "of them were cut before they ended",
        "opened": "of them continue a think block that their prompt opened",
        "found": "attempts were there from an earlier import",
        "repeats": "attempts repeat another of this source, word for word, and were left out",
        "left_out": "rows were not wanted by the map's `where`",
        "rejected": f"rows or attempts set aside in {run.folder / imported.REJECTED}",
    }
    lines += [f"  {s[key]:,} {note}" for key, note in notes.items() if s[key]]
    lines += [f"    {count:,} × {reason}" for reason, count in list(s["reasons"].items())[:5]]
    return [*lines, f"next: distill filter --run {run.folder}"]
