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

from distill.reporting.charts.numbers import short

WIDTH = 400
LEFT = 48
"""Left margin of the plot within the chart."""
RIGHT = 10
"""Right margin of the plot within the chart."""
LETTER_WIDTH = 7.2
"""Mean width of a letter, an upper estimate: what is cut by it never overlaps."""
DASHES = ("", "7 4", "2 3", "9 3 2 3", "14 4", "1 5")
MAX_SERIES = len(DASHES)
"""Series that a chart tells apart; the page's style sheet has as many colours."""


def empty_chart(title: str, note: str, height: float) -> ET.Element:
    """An empty chart whose name and description a screen reader tells."""
    box = f"0 0 {WIDTH} {height:g}"
    root = ET.Element("svg", {"viewBox": box, "role": "img", "class": "chart", "font-size": "14"})
    ET.SubElement(root, "title").text = title
    ET.SubElement(root, "desc").text = note
    return root


def add_element(parent: ET.Element, tag: str, **attributes: float | str) -> ET.Element:
    """Add a child; `cls` stands for `class`, `_` for `-`, and lengths are rounded to a hundredth."""
    attribute_texts = {}
    for name, value in attributes.items():
        svg_name = "class" if name == "cls" else name.replace("_", "-")
        attribute_texts[svg_name] = value if isinstance(value, str) else f"{round(value, 2):g}"
    return ET.SubElement(parent, tag, attribute_texts)


def add_text(parent: ET.Element, text: str, x: float, y: float, anchor: str = "start", cls: str = "") -> None:
    """Add a line of text."""
    element = add_element(parent, "text", x=x, y=y, text_anchor=anchor)
    if cls:
        element.set("class", cls)
    element.text = text


def shortened_label(text: str, width: float) -> str:
    """As much of a label as fits."""
    max_letters = max(2, int(width / LETTER_WIDTH))
    if len(text) <= max_letters:
        return text
    return text[: max_letters - 1] + "…"


def markup(root: ET.Element) -> Markup:
    """The chart as markup, in which every text is escaped."""
    return Markup(ET.tostring(root, encoding="unicode"))  # noqa: S704


@dataclass(frozen=True)
class Scale:
    """Maps values onto a line from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        if self.log:
            share = (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int = 4) -> list[float]:
        return _powers(self.low, self.high, count) if self.log else _steps(self.low, self.high, count)


def scale_for(values: Sequence[float], start: float, end: float, *, zero: bool = False, log: bool = False) -> Scale:
    """A scale that holds all values, whatever they are: none, one, all equal, or far apart.

    Args:
        zero: it begins (or ends) at 0.
        log: all values are above 0.
    """
    held_values = list(values)
    if zero and not log:
        held_values.append(0.0)
    if not held_values:
        held_values = [0.0, 1.0]
    low = min(held_values)
    high = max(held_values)
    if log:
        if low == high:  # half or twice as much may be 0 or infinite
            low = low / 2 or low
            high = min(high * 2, sys.float_info.max)
        return Scale(low, high, start, end, True)
    if high - low <= max(1e-9 * max(abs(low), abs(high)), 1e-200):  # all equal: what is left would be rounding
        margin = abs(high) / 2 or 1.0
        low = min(low, 0.0) if zero and high >= 0 else low - margin
        high += margin
    return Scale(low, high, start, end)


def _steps(low: float, high: float, count: int) -> list[float]:
    """Round numbers within, some `count` of them."""
    exact_step = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(exact_step))
    step = next(magnitude * factor for factor in (1, 2, 2.5, 5, 10) if magnitude * factor >= exact_step * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _powers(low: float, high: float, count: int) -> list[float]:
    """Powers of two within, thinned out; the ends where there are fewer than two."""
    first = math.ceil(math.log2(low) - 1e-9)
    last = math.floor(math.log2(high) + 1e-9)
    stride = max(1, math.ceil((last - first + 1) / (count + 1)))
    powers = [2.0**power for power in range(last, first - 1, -stride)][::-1]
    return powers if len(powers) > 1 else [low, high]


def draw_x_axis(
    root: ET.Element, x_scale: Scale, y: float, name: str, top: float, show: Callable[[float], str] = short
) -> None:
    """Draw the horizontal axis: ticks at `y`, its name below, thin lines up to `top`."""
    for tick in x_scale.ticks():
        x = x_scale(tick)
        add_element(root, "line", cls="grid", x1=x, y1=top, x2=x, y2=y)
        label = show(tick)
        half_width = len(label) * LETTER_WIDTH / 2
        add_text(root, label, min(max(x, half_width), WIDTH - half_width), y + 16, "middle", "tick")
    add_text(root, name, WIDTH - RIGHT, y + 34, "end", "axis")


def draw_y_axis(root: ET.Element, y_scale: Scale, name: str, show: Callable[[float], str] = short) -> None:
    """Draw the vertical axis: ticks on the left with thin lines across, its name above."""
    for tick in y_scale.ticks():
        add_element(root, "line", cls="grid", x1=LEFT, y1=y_scale(tick), x2=WIDTH - RIGHT, y2=y_scale(tick))
        add_text(root, show(tick), LEFT - 5, y_scale(tick) + 5, "end", "tick")
    add_text(root, name, 0, y_scale.end - 12, cls="axis")


def draw_legend(
    root: ET.Element, names: Sequence[str], sample: Callable[[ET.Element, int, float, float], None]
) -> float:
    """Draw names with a sample of each series, in as many lines as they take from y = 0 on; returns their height.

    Args:
        sample: draws the sample of a series, 26 wide, at the middle of its left edge.
    """
    if not names:
        return 0.0
    x = 0.0
    y = 12.0
    for number, name in enumerate(names):
        text = shortened_label(name, WIDTH - 40)
        width = 34 + len(text) * LETTER_WIDTH + 14
        if x and x + width > WIDTH:
            x = 0.0
            y += 20
        sample(root, number, x, y - 5)
        add_text(root, text, x + 34, y)
        x += width
    return y + 14
