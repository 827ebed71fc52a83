"""`distill import`: other people's traces, and what came of each row."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import complete
from ..options import LimitOption
from ..printing import say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from distill.run import Run


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
    from distill.run import Run
    from distill.sources import field_maps, imported

    from .. import progress
    from ..stages import log_messages_to

    field_map = field_maps.find(map_, source)
    run_folder = Run(run or Path("runs") / field_map.name)
    log_messages_to(run_folder)
    summary = imported.run(source, field_map, run_folder, limit, progress.on_stderr())
    say(*_lines(summary, field_map.name, run_folder))


def _lines(summary: Mapping[str, object], name: str, run: Run) -> list[str]:
    from distill.progress import duration
    from distill.sources import imported

    figures = {key: value for key, value in summary.items() if isinstance(value, int | float)}
    reasons = summary["reasons"]
    took = duration(figures["seconds"])
    if figures["rows"] and figures["seconds"]:
        took += f", {figures['rows'] / figures['seconds']:,.0f} rows/s"
    lines = [
        f"import by map {name}: {figures['rows']:,} rows read in {took}",
        f"  {figures['traces']:,} new traces of {figures['problems']:,} new problems "
        f"({figures['without_gold']:,} without a gold answer)",
    ]
    notes = {
        "cut": "of them were cut before they ended",
        "opened": "of them continue a think block that their prompt opened",
        "found": "attempts were there from an earlier import",
        "repeats": "attempts repeat another of this source, word for word, and were left out",
        "left_out": "rows were not wanted by the map's `where`",
        "rejected": f"rows or attempts set aside in {run.folder / imported.REJECTED}",
    }
    lines += [f"  {figures[key]:,} {note}" for key, note in notes.items() if figures[key]]
    if isinstance(reasons, dict):
        lines += [f"    {count:,} × {reason}" for reason, count in list(reasons.items())[:5]]
    return [*lines, f"next: distill filter --run {run.folder}"]
