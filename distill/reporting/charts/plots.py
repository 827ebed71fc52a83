"""Four charts as inline SVG, each with the table of its numbers: bars, histogram, lines with bands, dots with whiskers.

Why not a plotting library: none draws without either a script in the page, `style` attributes that the page's policy
forbids, or colours that are fixed and wrong in the dark (matplotlib, pygal, Vega's renderer); and four charts are
less code than the settings to tame one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from markupsafe import Markup

from distill.reporting.charts.svg import (
    DASHES,
    LEFT,
    LETTER,
    RIGHT,
    SERIES,
    WIDTH,
    Scale,
    across,
    chart,
    cut,
    legend,
    markup,
    put,
    scale,
    up,
    write,
)
from distill.reporting.numbers import exact, finite, percent, short

PLOT = 190
"""Height of the plot in charts with a vertical axis."""
MOST = 40
"""Rows that bars and whiskers draw; the table has them all."""
_ROW = 42  # height of a row of whiskers
_MARKED = 40  # points up to which each has its marker


@dataclass(frozen=True)
class Chart:
    title: str
    note: str
    """What it shows and how to read it, in a sentence or two."""
    svg: Markup
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """Its numbers."""


@dataclass(frozen=True)
class Line:
    name: str
    points: Sequence[tuple[float, float | None]]
    band: Sequence[tuple[float, float | None, float | None]] = ()
    """(x, low, high)."""


@dataclass(frozen=True)
class Dot:
    """A value with its interval, as far as there is one."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None


def bars(
    title: str, note: str, unit: str, rows: Sequence[tuple[str, float | None]], whole: float | None = None
) -> Chart:
    """One bar a row, from 0; its name and number stand above it.

    Args:
        whole: what a row's share is told of; no shares without it.
    """
    drawn = [(name, value) for name, value in rows if value is not None and finite(value) and value >= 0]
    drawn, note = drawn[:MOST], _first(note, len(drawn))
    root = chart(title, note, 36 * max(1, len(drawn)) + 4)
    at = scale([value for _, value in drawn], 0, WIDTH, zero=True)
    high = max([value for _, value in drawn] + ([whole] if whole else []), default=0)
    at = Scale(0, high, 0, WIDTH) if high > 0 else at  # the longest, or the whole, takes the whole width
    for row, (name, value) in enumerate(drawn):
        y = 36 * row
        number = f"{exact(value)} {unit}" + (f" · {percent(value, whole)}" if whole else "")
        write(root, cut(name, WIDTH - 20 - len(number) * LETTER), 0, y + 14)
        write(root, number, WIDTH, y + 14, "end", "tick")
        put(root, "rect", cls="track", x=0, y=y + 19, width=WIDTH, height=11)
        put(root, "rect", cls="bar s0", fill=_fill(0), x=0, y=y + 19, width=at(value), height=11)
    table = tuple((name, exact(value), *((percent(value or 0, whole),) if whole else ())) for name, value in rows)
    return Chart(title, note, _or_nothing(root, drawn), ("", unit, *(("share",) if whole else ())), table)


def histogram(
    title: str, note: str, bins: Sequence[str], series: Mapping[str, Sequence[int]], x: str, y: str, every: int = 1
) -> Chart:
    """Counts in bins side by side, the series stacked; they differ by hatching as well as by colour.

    Args:
        bins: a label each; of a bin of numbers where it begins.
        every: label every so many bins.
    """
    shown = {name: counts for name, counts in series.items() if any(counts)}
    heights = [sum(counts[i] for counts in shown.values()) for i in range(len(bins))]
    root = chart(title, note, 0)
    top = legend(root, list(shown), _swatch) if len(shown) > 1 else 0.0
    at = scale(heights, top + 22 + PLOT, top + 22, zero=True)
    up(root, at, y)
    room = (WIDTH - LEFT - RIGHT) / max(1, len(bins))
    for i, label in enumerate(bins):
        below = 0
        for number, counts in enumerate(shown.values()):
            if counts[i]:
                high = at(below) - at(below + counts[i])
                place = {"x": LEFT + i * room + 1, "y": at(below + counts[i]), "width": room - 2 if room > 4 else room}
                put(root, "rect", cls=f"bar s{number % SERIES}", fill=_fill(number), height=high, **place)
                below += counts[i]
        if i % every == 0:
            middle = LEFT + (i + (0.5 if every == 1 else 0)) * room
            write(root, label, middle, at.start + 16, "middle", "tick")
    write(root, x, WIDTH - RIGHT, at.start + 34, "end", "axis")
    _close(root, at.start + 42)
    rows = tuple((label, *(exact(counts[i]) for counts in shown.values())) for i, label in enumerate(bins))
    return Chart(title, note, _or_nothing(root, shown), (x, *shown), rows)


def lines(
    title: str,
    note: str,
    series: Sequence[Line],
    x: str,
    y: str,
    *,
    log: bool = False,
    show: Callable[[float], str] = short,
) -> Chart:
    """Curves over x, with a band where one is given; they differ by dash and marker as well as by colour.

    Args:
        log: the horizontal axis is logarithmic; points at or below 0 are left out.
    """
    drawn = [(one, _points(one, log), _band(one, log)) for one in series]
    drawn = [(one, points, band) for one, points, band in drawn if points]
    root = chart(title, note, 0)
    top = legend(root, [one.name for one, _, _ in drawn], _sample) if len(drawn) > 1 else 0.0
    reach = [a for _, points, _ in drawn for a, _ in points] + [a for _, _, band in drawn for a, *_ in band]
    over = scale(reach or [1.0], LEFT + 6, WIDTH - RIGHT - 6, log=log)
    heights = [b for _, points, _ in drawn for _, b in points]
    heights += [edge for _, _, band in drawn for _, *edges in band for edge in edges]
    at = scale(heights, top + 22 + PLOT, top + 22)
    across(root, over, at.start, x, at.end)
    up(root, at, y, show)
    for number, (_, points, band) in enumerate(drawn):
        cls = f"s{number % SERIES}"
        if len(band) > 1:
            edge = [(over(a), at(high)) for a, _, high in band] + [(over(a), at(low)) for a, low, _ in band[::-1]]
            put(root, "polygon", cls=f"band {cls}", points=" ".join(f"{a:.2f},{b:.2f}" for a, b in edge))
        path = [(over(a), at(b)) for a, b in points]
        put(
            root,
            "polyline",
            cls=f"line {cls}",
            points=" ".join(f"{a:.2f},{b:.2f}" for a, b in path),
            stroke_dasharray=DASHES[number % SERIES] or "none",
        )
        for a, b in path if len(path) <= _MARKED else ():
            _marker(root, number, a, b)
    _close(root, at.start + 42)
    rows = tuple((one.name, exact(a), exact(b)) for one in series for a, b in one.points)
    return Chart(title, note, _or_nothing(root, drawn), ("", x, y), rows)


def whiskers(title: str, note: str, unit: str, rows: Sequence[Dot]) -> Chart:
    """A dot with its interval below its name and numbers, all on one axis; a line marks 0 where the axis holds it."""
    drawn = [row for row in rows if finite(row.value)]
    drawn, note = drawn[:MOST], _first(note, len(drawn))
    bottom = _ROW * max(1, len(drawn))
    root = chart(title, note, bottom + 42)
    ends = [v for row in drawn for v in (row.value, row.low, row.high) if v is not None and finite(v)]
    at = scale(ends, 8, WIDTH - 8)
    across(root, at, bottom, unit, 0)
    if at.low < 0 < at.high:
        put(root, "line", cls="zero", x1=at(0), y1=0, x2=at(0), y2=bottom)
    for number, row in enumerate(drawn):
        y = _ROW * number + 30.0
        assert row.value is not None
        told = f"{row.value:,.1f}"
        if row.low is not None and row.high is not None and finite(row.low) and finite(row.high):
            told += f" [{row.low:,.1f}, {row.high:,.1f}]"
            put(root, "line", cls="whisker s0", x1=at(row.low), y1=y, x2=at(row.high), y2=y)
            for end in (at(row.low), at(row.high)):
                put(root, "line", cls="whisker s0", x1=end, y1=y - 4, x2=end, y2=y + 4)
        put(root, "circle", cls="dot s0", cx=at(row.value), cy=y, r=4.5)
        write(root, cut(row.name, WIDTH - 20 - len(told) * LETTER), 0, y - 14, cls="over")
        write(root, told, WIDTH, y - 14, "end", "over told")
        if number:
            put(root, "line", cls="rule", x1=0, y1=_ROW * number, x2=WIDTH, y2=_ROW * number)
    table = tuple((row.name, exact(row.value), exact(row.low), exact(row.high)) for row in rows)
    return Chart(title, note, _or_nothing(root, drawn), ("", unit, "from", "to"), table)


def _first(note: str, count: int) -> str:
    return f"{note} The first {MOST} of {count:,} are drawn, the table has all." if count > MOST else note


def _points(line: Line, log: bool) -> list[tuple[float, float]]:
    return [(x, y) for x, y in line.points if y is not None and finite(y) and finite(x) and (x > 0 or not log)]


def _band(line: Line, log: bool) -> list[tuple[float, float, float]]:
    return [
        (x, low, high)
        for x, low, high in line.band
        if low is not None and high is not None and finite(low) and finite(high) and finite(x) and (x > 0 or not log)
    ]


def _or_nothing(root: ET.Element, drawn: object) -> Markup:
    return markup(root) if drawn else Markup("")


def _close(root: ET.Element, height: float) -> None:
    root.set("viewBox", f"0 0 {WIDTH} {height:g}")


def _fill(number: int) -> str:
    return f"url(#hatch{number % SERIES})"


def _swatch(root: ET.Element, number: int, x: float, y: float) -> None:
    put(root, "rect", cls=f"key s{number % SERIES}", fill=_fill(number), x=x, y=y - 7, width=26, height=14)


def _sample(root: ET.Element, number: int, x: float, y: float) -> None:
    dash = DASHES[number % SERIES] or "none"
    put(root, "line", cls=f"key line s{number % SERIES}", x1=x, y1=y, x2=x + 26, y2=y, stroke_dasharray=dash)
    _marker(root, number, x + 13, y)


def _marker(root: ET.Element, number: int, x: float, y: float) -> None:
    cls = f"dot s{number % SERIES}"
    if number % 3 == 0:
        put(root, "circle", cls=cls, cx=x, cy=y, r=3.2)
    elif number % 3 == 1:
        put(root, "rect", cls=cls, x=x - 3, y=y - 3, width=6, height=6)
    else:
        put(root, "polygon", cls=cls, points=f"{x:.2f},{y - 4:.2f} {x - 4:.2f},{y + 3:.2f} {x + 4:.2f},{y + 3:.2f}")
