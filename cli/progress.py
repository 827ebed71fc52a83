"""The terminal's progress bar: rate, ETA and what the stage says beside it."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.table import Table
from rich.text import Text

from distill.progress import LogLines, Progress


def on_stderr() -> Progress:
    """A bar on a terminal, log lines elsewhere."""
    console = Console(stderr=True)
    return Bar(console) if console.is_terminal else LogLines()


class Bar:
    """Implements distill.progress.Progress."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: RichProgress | None = None
        self._live: Live | None = None
        self._task = TaskID(0)

    def start(self, label: str, total: int, done: int = 0, unit: str = "") -> None:
        self.stop()
        self._bar = RichProgress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
        )
        self._task = self._bar.add_task(label, total=total, completed=done, note="")
        self._live = Live(self._bar, console=self._console, refresh_per_second=4)
        self._live.start()

    def advance(self, count: int = 1, note: str = "") -> None:
        if self._bar and note:
            self._bar.update(self._task, note=note)
        if self._bar:
            self._bar.advance(self._task, count)

    def show_facts(self, facts: Mapping[str, str]) -> None:
        if not self._bar or not self._live:
            return
        table = Table.grid(padding=(0, 2))
        for heading, text in facts.items():
            table.add_row(Text(heading, style="dim"), Text(text))
        self._live.update(Group(self._bar, table))

    def stop(self) -> None:
        if self._live:
            self._live.stop()
        self._bar = None
        self._live = None
