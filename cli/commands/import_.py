"""`distill import`: other people's traces, and what came of each row."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import complete
from ..options import LimitOption
from ..printing import say

if TYPE_CHECKING:
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


def _lines(summary: dict[str, Any], name: str, run: Run) -> list[str]:
    from distill.progress import duration
    from distill.sources import imported

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
