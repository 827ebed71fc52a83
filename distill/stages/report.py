"""report: one self-contained page on a run, or on several side by side, with charts and the traces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from distill.errors import InputError
from distill.progress import Progress
from distill.reporting import page
from distill.reporting.browser.trace_browser import pack_browser, run_labels
from distill.reporting.reading.gather import gather
from distill.run import Run
from distill.stages import StageSummary
from distill.types import Record


class Config(Record):
    out: Path | None = None
    """File that the page goes to; None takes `report.html` in the run folder, or in the working directory for several
    runs."""
    traces: int = Field(10_000, ge=0)
    """Most traces that go into the page, 0 for none; of more, a stratified sample is taken and the page says so."""


class ReportSummary(StageSummary):
    """The page that was written."""

    file: Path
    bytes: int
    left_out: tuple[str, ...]
    """Why something that was asked for is not in it."""
    next: str
    """The command that adds most to the page, or what follows it."""

    def line(self) -> str:
        size = f"{self.bytes / 1e6:,.1f} MB" if self.bytes >= 1e6 else f"{self.bytes / 1e3:,.0f} kB"
        return f"{self.file}: {size}; open it in any browser"


def run(runs: Sequence[Run], config: Config, progress: Progress) -> ReportSummary:
    """Read the runs, each log once for the numbers and once for the traces, and write the page.

    Raises:
        InputError: a folder holds no run, is given twice, or a file in it cannot be understood.
        RunError: the page cannot be written.
    """
    _check(runs)
    page_path = config.out or (runs[0].report if len(runs) == 1 else Path("report.html"))
    if page_path.is_dir():
        raise InputError("is a folder", where=str(page_path), fix="name a file with --out, as report.html")
    names = run_labels(runs)
    gathered = [gather(run_folder, name, progress) for run_folder, name in zip(runs, names, strict=True)]
    traces = pack_browser(runs, config.traces, progress) if config.traces else None
    sections = page.sections(gathered, linked=traces is not None)
    size = page.write(page_path, gathered, sections, traces)
    left_out = tuple(reason for section in sections for reason in section.left_out)
    return ReportSummary(file=page_path, bytes=size, left_out=left_out, next=_next(runs[0]))


def _check(runs: Sequence[Run]) -> None:
    folders: set[Path] = set()
    for run in runs:
        if not run.folder.is_dir():
            raise InputError("there is no run", where=str(run.folder), fix="give --run DIR (`distill ls runs`)")
        if run.folder.resolve() in folders:
            raise InputError("is given twice", where=str(run.folder), fix="give each --run once")
        folders.add(run.folder.resolve())


def _next(run: Run) -> str:
    """The command that adds most to the page, or what follows it."""
    where = f"--run {run.folder}"
    for path, command in ((run.funnel, "filter"), (run.student, "sft"), (run.scores_file, "eval")):
        if not path.exists():
            return f"distill {command} {where}"
    return f"distill publish {where} --to ./published --dry-run"
