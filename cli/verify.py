"""`distill verify`: verdicts on gold and predicted answers, and what they come to."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO

from rich.console import Console

from distill.errors import InputError, RunError, writing
from distill.evaluation import answer_pairs
from distill.progress import LOG, Lines, Progress

from .progress import Bar


def execute(source: Path, out: Path | None, kind: str) -> None:
    """Write verdicts to `out`, or to stdout; the summary goes to the other of stdout and stderr."""
    if not source.is_file():
        raise InputError("no such file", where=str(source), fix="give a JSONL file of gold and predicted answers")
    if out and out.exists() and out.samefile(source):
        raise InputError("would replace the pairs themselves", where=str(out), fix="give --out another name")
    screen = Console(stderr=True)
    LOG.setLevel(logging.INFO)
    LOG.handlers = [logging.StreamHandler()]
    progress: Progress = Bar(screen) if screen.is_terminal else Lines()
    summary = answer_pairs.Summary()
    progress.start("verify", _rows(source), unit="pairs")
    try:
        with _replacing(out) if out else _stdout() as file:
            for judged in answer_pairs.verify(source, kind):
                with writing(out) if out else nullcontext():  # a closed stdout is no error
                    file.write(judged.json)
                summary.add(judged)
                progress.advance()
    except KeyboardInterrupt as stop:
        left = f"{out} is as it was" if out else "the rows so far are whole"
        raise RunError(f"stopped; {left}", fix="the same command begins anew") from stop
    finally:
        progress.stop()
    for line in _told(summary):
        (Console() if out else screen).print(line, highlight=False, markup=False, soft_wrap=True)


def _rows(source: Path) -> int:
    with source.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of `path` once it is whole; until then, and after a failure, the old one stays."""
    partial = path.with_name(path.name + ".partial")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = partial.open("wb")
    try:
        with file:
            yield file
            with writing(path):
                file.flush()
                os.fsync(file.fileno())
        with writing(path):
            os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def _stdout() -> Iterator[IO[bytes]]:
    yield sys.stdout.buffer
    sys.stdout.buffer.flush()


def _told(summary: answer_pairs.Summary) -> list[str]:
    bad = summary.reasons[None]["bad_row"]
    lines = [
        f"{summary.total:,} pairs: {summary.count(True):,} right, {summary.count(False):,} wrong, "
        f"{summary.count(None) - bad:,} undecidable" + (f", {bad:,} bad rows (named in their `detail`)" if bad else "")
    ]
    for word, passed in (("wrong", False), ("undecidable", None)):
        reasons = [f"{reason} {n:,}" for reason, n in summary.reasons[passed].most_common() if reason != "bad_row"]
        lines += [f"  {word}: {', '.join(reasons)}"] if reasons else []
    if summary.labelled:
        share = summary.agreed / summary.labelled
        lines.append(f"  as `expected`: {summary.agreed:,} of {summary.labelled:,} ({share:.1%})")
    if summary.disagreed:
        more = summary.labelled - summary.agreed - len(summary.disagreed)
        listed = ", ".join(map(str, summary.disagreed)) + (f" and {more:,} more" if more else "")
        lines.append(f"  not as `expected`: line {listed}")
    return lines
