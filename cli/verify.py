"""`distill verify`: verdicts on gold and predicted answers, and what they come to."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from rich.console import Console

from distill.errors import InputError, RunError
from distill.evaluation import answer_pairs
from distill.progress import LOG, LogLines, Progress
from distill.store.replacing import replacing

from .progress import Bar


def execute(source: Path, out_path: Path | None, kind: str) -> None:
    """Write verdicts to `out`, or to stdout; the summary goes to the other of stdout and stderr."""
    if not source.is_file():
        raise InputError("no such file", where=str(source), fix="give a JSONL file of gold and predicted answers")
    if out_path and out_path.exists() and out_path.samefile(source):
        raise InputError("would replace the pairs themselves", where=str(out_path), fix="give --out another name")
    stderr_console = Console(stderr=True)
    LOG.setLevel(logging.INFO)
    LOG.handlers = [logging.StreamHandler()]
    progress: Progress = Bar(stderr_console) if stderr_console.is_terminal else LogLines()
    summary = answer_pairs.Summary()
    progress.start("verify", _rows(source), unit="pairs")
    try:
        with replacing(out_path) if out_path else _stdout() as file:
            for judged in answer_pairs.verify(source, kind):
                file.write(judged.verdict_line)
                summary.add(judged)
                progress.advance()
    except KeyboardInterrupt as interrupt:
        state = f"{out_path} is as it was" if out_path else "the rows so far are whole"
        raise RunError(f"stopped; {state}", fix="the same command begins anew") from interrupt
    finally:
        progress.stop()
    summary_console = Console() if out_path else stderr_console
    for line in _summary_lines(summary):
        summary_console.print(line, highlight=False, markup=False, soft_wrap=True)


def _rows(source: Path) -> int:
    with source.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


@contextmanager
def _stdout() -> Iterator[IO[bytes]]:
    yield sys.stdout.buffer
    sys.stdout.buffer.flush()


def _summary_lines(summary: answer_pairs.Summary) -> list[str]:
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
