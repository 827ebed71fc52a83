"""Imports other people's traces and says what came of each row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console

from distill.progress import LogLines, Progress, duration
from distill.run import Run
from distill.sources import field_maps, imported

from ..progress import Bar
from ..stages import log_messages_to


def execute(source: str, ref: str | None, folder: Path | None, limit: int | None) -> None:
    """Import `source` by the map `ref` into a run folder, by default the map's own."""
    field_map = field_maps.find(ref, source)
    run = Run(folder or Path("runs") / field_map.name)
    console = Console()
    error_console = Console(stderr=True)
    progress: Progress = Bar(error_console) if error_console.is_terminal else LogLines()
    log_messages_to(run)
    summary = imported.run(source, field_map, run, limit, progress)
    for line in _lines(summary, field_map.name, run):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _lines(summary: dict[str, Any], name: str, run: Run) -> list[str]:
    took = duration(summary["seconds"])
    if summary["rows"] and summary["seconds"]:
        took += f", {summary['rows'] / summary['seconds']:,.0f} rows/s"
    lines = [
        f"import by map {name}: {summary['rows']:,} rows read in {took}",
        f"  {summary['traces']:,} new traces of {summary['problems']:,} new problems "
        f"({summary['without_gold']:,} without a gold answer)",
    ]
    notes = {
        "cut": "of them were cut before they ended",
        "opened": "of them continue a think block that their prompt opened",
        "found": "attempts were there from an earlier import",
        "repeats": "attempts repeat another of this source, word for word, and were left out",
        "left_out": "rows were not wanted by the map's `where`",
        "rejected": f"rows or attempts set aside in {run.folder / imported.REJECTED}",
    }
    lines += [f"  {summary[key]:,} {note}" for key, note in notes.items() if summary[key]]
    lines += [f"    {count:,} × {reason}" for reason, count in list(summary["reasons"].items())[:5]]
    return [*lines, f"next: distill filter --run {run.folder}"]
