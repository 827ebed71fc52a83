"""What a section of the page is made of, and the parts of a table that several sections share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from distill.reporting.charts.plots import Chart


@dataclass(frozen=True)
class Link:
    text: str
    href: str

    def __str__(self) -> str:
        return self.text


Cell = str | Link


@dataclass(frozen=True)
class TableBlock:
    """The first column names its row; the others are numbers, unless `words` says how many are not."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    words: int = 1
    """Leading columns that hold words."""

    @property
    def width(self) -> str:
        """How much of the page it takes: `wide` for all, `half` for two thirds, or empty."""
        letters = sum(max(len(str(row[column])) for row in (self.head, *self.rows)) for column in range(len(self.head)))
        if letters > 110:
            return "wide"
        return "half" if letters > 48 else ""


@dataclass
class Section:
    id: str
    title: str
    intro: str = ""
    blocks: list[Chart | TableBlock] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """What is missing in this section, and why."""

    def kind(self, block: Chart | TableBlock) -> str:
        return "chart" if isinstance(block, Chart) else "table"


def run_title(title: str, label: str, several: bool) -> str:
    """A title that says which run it is of, where there are several."""
    return f"{title}: {label}" if several else title


def labelled_texts(texts: Sequence[tuple[str, str]], several: bool) -> list[str]:
    """`label: text` where there are several runs, else the text; empty texts are left out."""
    return [f"{label}: {text}" if several else text for label, text in texts if text]
