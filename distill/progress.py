"""Progress of long work: what a stage reports, and the plain-lines form for logs. The terminal's form is in cli/.

All of distill logs to `LOG`, and its handlers are made here: a command or process chooses some at its start.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

LOG = logging.getLogger("distill")
EVERY_SECONDS = 10.0


def log_to(path: Path) -> logging.FileHandler:
    """Messages go to a file as well, with their times, from now until the handler is removed; makes the file's folder.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    LOG.addHandler(handler)
    return handler


def log_to_stderr(prefix: str = "") -> None:
    """Messages from INFO on go to stderr as well, each behind the prefix, from now until this process ends."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"{prefix}%(message)s"))
    handler.setLevel(logging.INFO)
    LOG.addHandler(handler)


@contextmanager
def shown_on_stderr(level: int) -> Iterator[None]:
    """Messages from a level on go to stderr while the block runs, unless the program has handlers of its own."""
    handler = logging.NullHandler() if LOG.hasHandlers() else logging.StreamHandler()
    handler.setLevel(level)
    earlier_level = LOG.level
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    try:
        yield
    finally:
        LOG.setLevel(earlier_level)
        LOG.removeHandler(handler)


class Progress(Protocol):
    def start(self, label: str, total: int, done: int = 0, unit: str = "") -> None:
        """Begin a piece of work of `total` units, `done` of them from before."""
        ...

    def advance(self, count: int = 1, note: str = "") -> None:
        """`count` more units are done; `note` replaces the text beside the bar."""
        ...

    def show_facts(self, facts: Mapping[str, str]) -> None:
        """Show further facts of the moment, heading to text; they replace the facts shown before."""
        ...

    def stop(self) -> None: ...


class Silent:
    """Implements Progress where nobody asked to see it."""

    def start(self, label: str, total: int, done: int = 0, unit: str = "") -> None:
        pass

    def advance(self, count: int = 1, note: str = "") -> None:
        pass

    def show_facts(self, facts: Mapping[str, str]) -> None:
        pass

    def stop(self) -> None:
        pass


class LogLines:
    """Writes a log line at the start, every ten seconds and at the end, with rate and ETA."""

    def __init__(self) -> None:
        self._label = ""
        self._unit = ""
        self._note = ""
        self._total = 0
        self._done = 0
        self._done_before = 0
        self._started_at = 0.0
        self._logged_at = 0.0

    def start(self, label: str, total: int, done: int = 0, unit: str = "") -> None:
        self._label = label
        self._unit = unit
        self._note = ""
        self._total = total
        self._done = done
        self._done_before = done
        self._started_at = time.monotonic()
        self._logged_at = self._started_at
        LOG.info("%s: %s of %s %s", label, f"{done:,}", f"{total:,}", unit)

    def advance(self, count: int = 1, note: str = "") -> None:
        self._done += count
        self._note = note or self._note
        if self._label and time.monotonic() - self._logged_at >= EVERY_SECONDS:
            self._log_line()

    def show_facts(self, facts: Mapping[str, str]) -> None:
        self._note = "; ".join(f"{heading}: {text}" for heading, text in facts.items())
        if self._label and time.monotonic() - self._logged_at >= EVERY_SECONDS:
            self._log_line()

    def stop(self) -> None:
        if self._label:
            self._log_line()
        self._label = ""

    def _log_line(self) -> None:
        self._logged_at = time.monotonic()
        rate = (self._done - self._done_before) / max(self._logged_at - self._started_at, 1e-9)
        eta = ""
        if rate and self._done < self._total:
            eta = duration((self._total - self._done) / rate)
        parts = [f"{self._done:,}/{self._total:,} {self._unit}", f"{rate:,.1f}/s", eta and f"ETA {eta}", self._note]
        LOG.info("%s: %s", self._label, ", ".join(part for part in parts if part))


def duration(seconds: float) -> str:
    """`42s`, `3m20s`, `5h07m`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
