"""The parts of a chart: elements, scales, ticks, axes, legends. Sizes are in the chart's own units, 400 wide.

Nothing here has a colour: the page's style sheet gives `s0`, `s1`, … theirs, light and dark, and a series differs from
the next by dash, marker or hatching as well. The page shows a chart between 320 and 560 pixels wide, so that text
of 14 units stays readable on a phone.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from markupsafe import Markup

from distill.reporting.numbers import short

WIDTH = 400
LEFT, RIGHT = 48, 10
"""Of the plot within the chart."""
LETTER = 7.2
"""Mean width of a letter, an upper estimate: what is cut by it never overlaps."""
DASHES = ("", "7 4", "2 3", "9 3 2 3", "14 4", "1 5")
SERIES = len(DASHES)
"""How many a chart tells apart; the page's style sheet has as many colours."""


def chart(title: str, note: str, height: float) -> ET.Element:
    """An empty chart whose name and description a screen reader tells."""
    box = f"0 0 {WIDTH} {height:g}"
    root = ET.Element("svg", {"viewBox": box, "role": "img", "class": "chart", "font-size": "14"})
    ET.SubElement(root, "title").text = title
    ET.SubElement(root, "desc").text = note
    return root


def put(parent: ET.Element, tag: str, **attributes: float | str) -> ET.Element:
    """A child; `cls` stands for `class`, `_` for `-`, and lengths are rounded to a hundredth."""
    named = {"class" if name == "cls" else name.replace("_", "-"): value for name, value in attributes.items()}
    found = {name: value if isinstance(value, str) else f"{round(value, 2):g}" for name, value in named.items()}
    return ET.SubElement(parent, tag, found)


def write(parent: ET.Element, text: str, x: float, y: float, anchor: str = "start", cls: str = "") -> None:
    put(parent, "text", x=x, y=y, text_anchor=anchor, **({"cls": cls} if cls else {})).text = text


def cut(text: str, width: float) -> str:
    """As much of a label as fits."""
    most = max(2, int(width / LETTER))
    return text if len(text) <= most else text[: most - 1] + "…"


def markup(root: ET.Element) -> Markup:
    """Everything in it is escaped."""
    return Markup(ET.tostring(root, encoding="unicode"))  # noqa: S704


@dataclass(frozen=True)
class Scale:
    """Values onto a line from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self, count: int = 4) -> list[float]:
        return _powers(self.low, self.high, count) if self.log else _steps(self.low, self.high, count)


def scale(values: Sequence[float], start: float, end: float, *, zero: bool = False, log: bool = False) -> Scale:
    """One that holds all values, whatever they are: none, one, all equal, or far apart.

    Args:
        zero: it begins (or ends) at 0.
        log: all values are above 0.
    """
    found = [*values, *([0.0] if zero and not log else [])] or [0.0, 1.0]
    low, high = min(found), max(found)
    if log:
        if low == high:  # half or twice as much may be 0 or infinite
            low, high = low / 2 or low, min(high * 2, sys.float_info.max)
        return Scale(low, high, start, end, True)
    if high - low <= max(1e-9 * max(abs(low), abs(high)), 1e-200):  # all equal: what is left would be rounding
        margin = abs(high) / 2 or 1.0
        low, high = (min(low, 0.0), high + margin) if zero and high >= 0 else (low - margin, high + margin)
    return Scale(low, high, start, end)


def _steps(low: float, high: float, count: int) -> list[float]:
    """Round numbers within, some `count` of them."""
    rough = (high - low) / count
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _powers(low: float, high: float, count: int) -> list[float]:
    """Powers of two within, thinned out; the ends where there are fewer than two."""
    first, last = math.ceil(math.log2(low) - 1e-9), math.floor(math.log2(high) + 1e-9)
    every = max(1, math.ceil((last - first + 1) / (count + 1)))
    found = [2.0**power for power in range(last, first - 1, -every)][::-1]
    return found if len(found) > 1 else [low, high]


def across(root: ET.Element, at: Scale, y: float, name: str, top: float, show: Callable[[float], str] = short) -> None:
    """The horizontal axis: ticks at `y`, its name below, thin lines up to `top`."""
    for tick in at.ticks():
        x = at(tick)
        put(root, "line", cls="grid", x1=x, y1=top, x2=x, y2=y)
        label = show(tick)
        half = len(label) * LETTER / 2
        write(root, label, min(max(x, half), WIDTH - half), y + 16, "middle", "tick")
    write(root, name, WIDTH - RIGHT, y + 34, "end", "axis")


def up(root: ET.Element, at: Scale, name: str, show: Callable[[float], str] = short) -> None:
    """The vertical axis: ticks on the left with thin lines across, its name above."""
    for tick in at.ticks():
        put(root, "line", cls="grid", x1=LEFT, y1=at(tick), x2=WIDTH - RIGHT, y2=at(tick))
        write(root, show(tick), LEFT - 5, at(tick) + 5, "end", "tick")
    write(root, name, 0, at.end - 12, cls="axis")


def legend(root: ET.Element, names: Sequence[str], sample: Callable[[ET.Element, int, float, float], None]) -> float:
    """Names with a sample of each series, in as many lines as they take from y = 0 on; returns their height.

    Args:
        sample: draws the sample of a series, 26 wide, at the middle of its left edge.
    """
    x, y = 0.0, 12.0
    for number, name in enumerate(names):
        text = cut(name, WIDTH - 40)
        width = 34 + len(text) * LETTER + 14
        if x and x + width > WIDTH:
            x, y = 0.0, y + 20
        sample(root, number, x, y - 5)
        write(root, text, x + 34, y)
        x += width
    return y + 14 if names else 0.0
