"""`distill verify`: verdicts on gold and predicted answers, and what they come to."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import complete

if TYPE_CHECKING:
    from distill.evaluation.answer_pairs import Summary


def verify(
    pairs: Annotated[Path, typer.Argument(metavar="PAIRS", help="JSONL with `gold`, `pred`, optional `kind`, `id`.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where the verdicts go.  [default: stdout]")
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            help="Verifier of rows that name none (`distill ls verifiers`).", autocompletion=complete.verifiers
        ),
    ] = "math",
) -> None:
    """Judge predicted answers against gold ones: one verdict with its reason a row, in their order."""
    import logging

    from rich.console import Console

    from distill.evaluation import answer_pairs
    from distill.progress import LOG

    from .. import progress

    LOG.setLevel(logging.INFO)
    LOG.handlers = [logging.StreamHandler()]
    summary = answer_pairs.write_verdicts(pairs, out or sys.stdout.buffer, kind, progress.on_stderr())
    console = Console(stderr=out is None)  # the verdicts are on stdout then
    for line in _summary_lines(summary):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _summary_lines(summary: Summary) -> list[str]:
    bad_rows = summary.reasons[None]["bad_row"]
    lines = [
        f"{summary.total:,} pairs: {summary.count(True):,} right, {summary.count(False):,} wrong, "
        f"{summary.count(None) - bad_rows:,} undecidable"
    ]
    if bad_rows:
        lines[0] += f", {bad_rows:,} bad rows (named in their `detail`)"
    for label, passed in (("wrong", False), ("undecidable", None)):
        reasons = [
            f"{reason} {count:,}" for reason, count in summary.reasons[passed].most_common() if reason != "bad_row"
        ]
        if reasons:
            lines.append(f"  {label}: {', '.join(reasons)}")
    if summary.labelled:
        agreed_share = summary.agreed / summary.labelled
        lines.append(f"  as `expected`: {summary.agreed:,} of {summary.labelled:,} ({agreed_share:.1%})")
    if summary.disagreed:
        unlisted = summary.labelled - summary.agreed - len(summary.disagreed)
        listed = ", ".join(map(str, summary.disagreed))
        if unlisted:
            listed += f" and {unlisted:,} more"
        lines.append(f"  not as `expected`: line {listed}")
    return lines
