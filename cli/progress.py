"""The terminal's progress bar: rate, ETA and what the stage says beside it."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Bar:
    """Implements distill.progress.Progress."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def start(self, label: str, total: int, done: int = 0, unit: str = "") -> None:
        self.stop()
        self._bar = Progress(
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
        self._bar.start()
        self._task = self._bar.add_task(label, total=total, completed=done, note="")

    def advance(self, count: int = 1, note: str = "") -> None:
        if self._bar and note:
            self._bar.update(self._task, note=note)
        if self._bar:
            self._bar.advance(self._task, count)

    def stop(self) -> None:
        if self._bar:
            self._bar.stop()
        self._bar = None
