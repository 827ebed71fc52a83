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

from distill.reporting.charts.numbers import exact, is_drawable, percent, short
from distill.reporting.charts.svg import (
    DASHES,
    LEFT,
    LETTER_WIDTH,
    MAX_SERIES,
    RIGHT,
    WIDTH,
    Scale,
    add_element,
    add_text,
    draw_legend,
    draw_x_axis,
    draw_y_axis,
    empty_chart,
    markup,
    scale_for,
    shortened_label,
)

PLOT = 190
"""Height of the plot in charts with a vertical axis."""
MAX_ROWS = 40
"""Rows that bars and whiskers draw; the table has them all."""
_WHISKER_ROW_HEIGHT = 42
_MAX_MARKED_POINTS = 40  # points of a curve up to which each has its marker


@dataclass(frozen=True)
class Chart:
    title: str
    note: str
    """What the chart shows and how to read it, in a sentence or two."""
    svg: Markup
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """The chart's numbers, a table row each."""


@dataclass(frozen=True)
class Curve:
    """One curve of a chart, with a band around it where one is given."""

    name: str
    points: Sequence[tuple[float, float | None]]
    """(x, y) of each point."""
    band: Sequence[tuple[float, float | None, float | None]] = ()
    """(x, low, high) of each point of the band."""


@dataclass(frozen=True)
class Dot:
    """A value with its interval, as far as there is one."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None


def bar_chart(
    title: str, note: str, unit: str, rows: Sequence[tuple[str, float | None]], whole: float | None = None
) -> Chart:
    """One bar a row, from 0; its name and number stand above it.

    Args:
        whole: what a row's share is told of; no shares without it.
    """
    drawn = [(name, value) for name, value in rows if value is not None and is_drawable(value) and value >= 0]
    note = _note_on_cut(note, len(drawn))
    drawn = drawn[:MAX_ROWS]
    root = empty_chart(title, note, 36 * max(1, len(drawn)) + 4)
    lengths = [value for _, value in drawn]
    longest = max([*lengths, whole or 0])
    bar_scale = scale_for(lengths, 0, WIDTH, zero=True)
    if longest > 0:  # the longest, or the whole, takes the whole width
        bar_scale = Scale(0, longest, 0, WIDTH)
    for row_number, (name, value) in enumerate(drawn):
        top = 36 * row_number
        value_text = f"{exact(value)} {unit}"
        if whole:
            value_text += f" · {percent(value, whole)}"
        add_text(root, shortened_label(name, WIDTH - 20 - len(value_text) * LETTER_WIDTH), 0, top + 14)
        add_text(root, value_text, WIDTH, top + 14, "end", "tick")
        add_element(root, "rect", cls="track", x=0, y=top + 19, width=WIDTH, height=11)
        add_element(root, "rect", cls="bar s0", fill=_fill(0), x=0, y=top + 19, width=bar_scale(value), height=11)
    head: tuple[str, ...] = ("", unit)
    table: list[tuple[str, ...]] = [(name, exact(value)) for name, value in rows]
    if whole:
        head = ("", unit, "share")
        table = [(name, exact(value), percent(value or 0, whole)) for name, value in rows]
    return Chart(title, note, _markup_or_empty(root, drawn), head, tuple(table))


def histogram(
    title: str,
    note: str,
    bins: Sequence[str],
    series: Mapping[str, Sequence[int]],
    x_label: str,
    y_label: str,
    label_every: int = 1,
) -> Chart:
    """Counts in bins side by side, the series stacked; they differ by hatching as well as by colour.

    Args:
        bins: a label each; of a bin of numbers where it begins.
        label_every: label every so many bins.
    """
    shown = {name: counts for name, counts in series.items() if any(counts)}
    heights = [sum(counts[bin_number] for counts in shown.values()) for bin_number in range(len(bins))]
    root = empty_chart(title, note, 0)
    top = draw_legend(root, list(shown), _swatch) if len(shown) > 1 else 0.0
    y_scale = scale_for(heights, top + 22 + PLOT, top + 22, zero=True)
    draw_y_axis(root, y_scale, y_label)
    bin_width = (WIDTH - LEFT - RIGHT) / max(1, len(bins))
    for bin_number, label in enumerate(bins):
        stacked = 0
        for number, counts in enumerate(shown.values()):
            if counts[bin_number]:
                height = y_scale(stacked) - y_scale(stacked + counts[bin_number])
                position = {
                    "x": LEFT + bin_number * bin_width + 1,
                    "y": y_scale(stacked + counts[bin_number]),
                    "width": bin_width - 2 if bin_width > 4 else bin_width,
                }
                add_element(
                    root, "rect", cls=f"bar s{number % MAX_SERIES}", fill=_fill(number), height=height, **position
                )
                stacked += counts[bin_number]
        if bin_number % label_every == 0:
            label_x = LEFT + (bin_number + (0.5 if label_every == 1 else 0)) * bin_width
            add_text(root, label, label_x, y_scale.start + 16, "middle", "tick")
    add_text(root, x_label, WIDTH - RIGHT, y_scale.start + 34, "end", "axis")
    _set_height(root, y_scale.start + 42)
    rows = tuple(
        (label, *(exact(counts[bin_number]) for counts in shown.values())) for bin_number, label in enumerate(bins)
    )
    return Chart(title, note, _markup_or_empty(root, shown), (x_label, *shown), rows)


def line_chart(
    title: str,
    note: str,
    series: Sequence[Curve],
    x_label: str,
    y_label: str,
    *,
    log: bool = False,
    show: Callable[[float], str] = short,
) -> Chart:
    """Curves over x, with a band where one is given; they differ by dash and marker as well as by colour.

    Args:
        log: the horizontal axis is logarithmic; points at or below 0 are left out.
    """
    drawn = [(line, _points(line, log), _band(line, log)) for line in series]
    drawn = [(line, points, band) for line, points, band in drawn if points]
    root = empty_chart(title, note, 0)
    top = draw_legend(root, [line.name for line, _, _ in drawn], _line_sample) if len(drawn) > 1 else 0.0
    x_values = [x for _, points, _ in drawn for x, _ in points] + [x for _, _, band in drawn for x, *_ in band]
    x_scale = scale_for(x_values or [1.0], LEFT + 6, WIDTH - RIGHT - 6, log=log)
    y_values = [y for _, points, _ in drawn for _, y in points]
    y_values += [edge for _, _, band in drawn for _, *edges in band for edge in edges]
    y_scale = scale_for(y_values, top + 22 + PLOT, top + 22)
    draw_x_axis(root, x_scale, y_scale.start, x_label, y_scale.end)
    draw_y_axis(root, y_scale, y_label, show)
    for number, (_, points, band) in enumerate(drawn):
        series_class = f"s{number % MAX_SERIES}"
        if len(band) > 1:
            edge = [(x_scale(x), y_scale(high)) for x, _, high in band]
            edge += [(x_scale(x), y_scale(low)) for x, low, _ in band[::-1]]
            add_element(root, "polygon", cls=f"band {series_class}", points=_svg_points(edge))
        path = [(x_scale(x), y_scale(y)) for x, y in points]
        dashes = DASHES[number % MAX_SERIES] or "none"
        add_element(root, "polyline", cls=f"line {series_class}", points=_svg_points(path), stroke_dasharray=dashes)
        if len(path) <= _MAX_MARKED_POINTS:
            for x, y in path:
                _marker(root, number, x, y)
    _set_height(root, y_scale.start + 42)
    rows = tuple((line.name, exact(x), exact(y)) for line in series for x, y in line.points)
    return Chart(title, note, _markup_or_empty(root, drawn), ("", x_label, y_label), rows)


def interval_chart(title: str, note: str, unit: str, rows: Sequence[Dot]) -> Chart:
    """A dot with its interval below its name and numbers, all on one axis; a line marks 0 where the axis holds it."""
    drawn = [row for row in rows if is_drawable(row.value)]
    note = _note_on_cut(note, len(drawn))
    drawn = drawn[:MAX_ROWS]
    bottom = _WHISKER_ROW_HEIGHT * max(1, len(drawn))
    root = empty_chart(title, note, bottom + 42)
    interval_values = [
        value for row in drawn for value in (row.value, row.low, row.high) if value is not None and is_drawable(value)
    ]
    x_scale = scale_for(interval_values, 8, WIDTH - 8)
    draw_x_axis(root, x_scale, bottom, unit, 0)
    if x_scale.low < 0 < x_scale.high:
        add_element(root, "line", cls="zero", x1=x_scale(0), y1=0, x2=x_scale(0), y2=bottom)
    for number, row in enumerate(drawn):
        top = _WHISKER_ROW_HEIGHT * number
        y = top + 30.0
        assert row.value is not None
        value_text = f"{row.value:,.1f}"
        if row.low is not None and row.high is not None and is_drawable(row.low) and is_drawable(row.high):
            value_text += f" [{row.low:,.1f}, {row.high:,.1f}]"
            add_element(root, "line", cls="whisker s0", x1=x_scale(row.low), y1=y, x2=x_scale(row.high), y2=y)
            for end_x in (x_scale(row.low), x_scale(row.high)):
                add_element(root, "line", cls="whisker s0", x1=end_x, y1=y - 4, x2=end_x, y2=y + 4)
        add_element(root, "circle", cls="dot s0", cx=x_scale(row.value), cy=y, r=4.5)
        add_text(root, shortened_label(row.name, WIDTH - 20 - len(value_text) * LETTER_WIDTH), 0, y - 14, cls="over")
        add_text(root, value_text, WIDTH, y - 14, "end", "over told")
        if number:
            add_element(root, "line", cls="rule", x1=0, y1=top, x2=WIDTH, y2=top)
    table = tuple((row.name, exact(row.value), exact(row.low), exact(row.high)) for row in rows)
    return Chart(title, note, _markup_or_empty(root, drawn), ("", unit, "from", "to"), table)


def _note_on_cut(note: str, row_count: int) -> str:
    if row_count <= MAX_ROWS:
        return note
    return f"{note} The first {MAX_ROWS} of {row_count:,} are drawn, the table has all."


def _points(line: Curve, log: bool) -> list[tuple[float, float]]:
    return [
        (x, y) for x, y in line.points if y is not None and is_drawable(y) and is_drawable(x) and (x > 0 or not log)
    ]


def _band(line: Curve, log: bool) -> list[tuple[float, float, float]]:
    return [
        (x, low, high)
        for x, low, high in line.band
        if low is not None
        and high is not None
        and is_drawable(low)
        and is_drawable(high)
        and is_drawable(x)
        and (x > 0 or not log)
    ]


def _svg_points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.2f},{y:.2f}" for x, y in points)


def _markup_or_empty(root: ET.Element, drawn: object) -> Markup:
    return markup(root) if drawn else Markup("")


def _set_height(root: ET.Element, height: float) -> None:
    root.set("viewBox", f"0 0 {WIDTH} {height:g}")


def _fill(number: int) -> str:
    return f"url(#hatch{number % MAX_SERIES})"


def _swatch(root: ET.Element, number: int, x: float, y: float) -> None:
    add_element(root, "rect", cls=f"key s{number % MAX_SERIES}", fill=_fill(number), x=x, y=y - 7, width=26, height=14)


def _line_sample(root: ET.Element, number: int, x: float, y: float) -> None:
    dash = DASHES[number % MAX_SERIES] or "none"
    add_element(
        root, "line", cls=f"key line s{number % MAX_SERIES}", x1=x, y1=y, x2=x + 26, y2=y, stroke_dasharray=dash
    )
    _marker(root, number, x + 13, y)


def _marker(root: ET.Element, number: int, x: float, y: float) -> None:
    marker_class = f"dot s{number % MAX_SERIES}"
    if number % 3 == 0:
        add_element(root, "circle", cls=marker_class, cx=x, cy=y, r=3.2)
    elif number % 3 == 1:
        add_element(root, "rect", cls=marker_class, x=x - 3, y=y - 3, width=6, height=6)
    else:
        add_element(
            root,
            "polygon",
            cls=marker_class,
            points=f"{x:.2f},{y - 4:.2f} {x - 4:.2f},{y + 3:.2f} {x + 4:.2f},{y + 3:.2f}",
        )
