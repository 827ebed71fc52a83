"""Charts, read back from their SVG as a reader would: by the ticks of their axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from distill.reporting.charts.plots import MAX_ROWS, Chart, Curve, Dot, bar_chart, histogram, interval_chart, line_chart
from distill.reporting.charts.svg import MAX_SERIES, WIDTH
from tests.reporting.worlds import HOSTILE

NUMBERS = st.one_of(
    st.none(),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, 1.0, -1.0, 1e9, 1e-9, 5e-324, 1e300]),
)
LETTERS = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


def parsed(chart: Chart) -> ET.Element:
    return ET.fromstring(str(chart.svg))


def of_class(root: ET.Element, name: str) -> list[ET.Element]:
    return [one for one in root.iter() if name in (one.get("class") or "").split()]


def at(one: ET.Element, *names: str) -> list[float]:
    return [float(one.get(name, "nan")) for name in names]


def number(text: str) -> float:
    return float(text[:-1]) * LETTERS[text[-1]] if text[-1] in LETTERS else float(text)


def reader(chart: Chart, axis: str, log: bool = False) -> Callable[[float], float]:
    """From a place to its value, by the first and the last tick: `x` or `y`."""
    ticks = of_class(parsed(chart), "tick")
    lines_ = of_class(parsed(chart), "grid")
    upright = [one for one in lines_ if (one.get("x1") == one.get("x2")) == (axis == "x")]
    labels = [one.text or "" for one in ticks if (one.get("text-anchor") == "middle") == (axis == "x")]
    places = [at(one, f"{axis}1")[0] for one in upright]
    assert len(places) == len(labels) >= 2
    (low, first), (high, last) = (number(labels[0]), places[0]), (number(labels[-1]), places[-1])
    if log:
        low, high = math.log(low), math.log(high)

    def value(place: float) -> float:
        found = low + (place - first) / (last - first) * (high - low)
        return math.exp(found) if log else found

    return value


def test_bars_are_as_long_as_their_numbers() -> None:
    chart = bar_chart("Left", "Of 200.", "traces", [("all", 200), ("kept", 50), ("none", 0), ("unknown", None)], 200)
    found = of_class(parsed(chart), "bar")
    assert [at(one, "width")[0] for one in found] == [WIDTH, WIDTH / 4, 0]
    assert chart.rows == (
        ("all", "200", "100.0 %"),
        ("kept", "50", "25.0 %"),
        ("none", "0", "0.0 %"),
        ("unknown", "–", "0.0 %"),
    )
    texts = [one.text for one in parsed(chart).iter("text")]
    assert "50 traces · 25.0 %" in texts


def test_a_histogram_stacks_its_counts() -> None:
    counts = {"right": [3, 0, 5], "wrong": [1, 2, 0], "never": [0, 0, 0]}
    chart = histogram("H", "n", ["0", "10", "20"], counts, "tokens", "traces")
    value = reader_of_heights(chart)
    found = of_class(parsed(chart), "bar")
    assert [one.get("fill") for one in found] == ["url(#hatch0)", "url(#hatch1)", "url(#hatch1)", "url(#hatch0)"]
    heights = [value(at(one, "y")[0] + at(one, "height")[0]) - value(at(one, "y")[0]) for one in found]
    assert [-height for height in heights] == pytest.approx([3, 1, 2, 5], abs=0.02)
    assert value(at(found[1], "y")[0]) == pytest.approx(4, abs=0.02), "the second stands on the first"
    assert chart.head == ("tokens", "right", "wrong")
    assert chart.rows[0] == ("0", "3", "1")


def reader_of_heights(chart: Chart) -> Callable[[float], float]:
    root = parsed(chart)
    ticks = [one for one in of_class(root, "tick") if one.get("text-anchor") == "end"]
    grid = [at(one, "y1")[0] for one in of_class(root, "grid")]
    first, last = number(ticks[0].text or ""), number(ticks[-1].text or "")
    return lambda y: first + (y - grid[0]) / (grid[-1] - grid[0]) * (last - first)


def test_the_ends_of_whiskers_are_the_ends_of_intervals() -> None:
    rows = [Dot("base", 20.0, 16.5, 23.5), Dot("sft", 68.0, 63.0, 72.9), Dot("unknown", 50.0)]
    chart = interval_chart("pass@1", "n", "percent", rows)
    value = reader(chart, "x")
    root = parsed(chart)
    spans = [one for one in of_class(root, "whisker") if one.get("y1") == one.get("y2")]
    ends = [tuple(map(value, at(one, "x1", "x2"))) for one in spans]
    assert ends == [pytest.approx((16.5, 23.5), abs=0.05), pytest.approx((63.0, 72.9), abs=0.05)]
    dots = [value(at(one, "cx")[0]) for one in of_class(root, "dot")]
    assert dots == pytest.approx([20, 68, 50], abs=0.05)
    assert chart.rows[0] == ("base", "20", "16.5", "23.5")
    assert not of_class(root, "zero")


def test_differences_show_where_zero_is() -> None:
    chart = interval_chart("gaps", "n", "points", [Dot("a", -2.0, -5.0, 1.0)])
    (line,) = of_class(parsed(chart), "zero")
    assert reader(chart, "x")(at(line, "x1")[0]) == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("log", [False, True])
def test_curves_go_through_their_points(log: bool) -> None:
    points = [(8, 0.25), (64, 1.5), (512, 3.0)]
    band = [(8, 0.0, 0.5), (64, 1.0, 2.0), (512, 2.5, 3.5)]
    chart = line_chart("C", "n", [Curve("one", points, band), Curve("two", [(8, 1.0)])], "tokens", "pass@1", log=log)
    root = parsed(chart)
    x, y = reader(chart, "x", log), reader(chart, "y")
    drawn = [tuple(map(float, pair.split(","))) for pair in of_class(root, "line")[2].get("points", "").split()]
    assert [x(a) for a, _ in drawn] == pytest.approx([8, 64, 512], rel=0.02)
    assert [y(b) for _, b in drawn] == pytest.approx([0.25, 1.5, 3.0], abs=0.02)
    (edge,) = of_class(root, "band")
    heights = [y(float(pair.split(",")[1])) for pair in edge.get("points", "").split()]
    assert heights == pytest.approx([0.5, 2.0, 3.5, 2.5, 1.0, 0.0], abs=0.03)


def test_series_are_told_apart_without_colour() -> None:
    curves = line_chart("C", "n", [Curve(f"run {n}", [(1, n), (2, n)]) for n in range(MAX_SERIES)], "x", "y")
    dashes = [one.get("stroke-dasharray") for one in parsed(curves).iter("polyline")]
    assert len(set(dashes)) == MAX_SERIES
    stacked = histogram("H", "n", ["0"], {f"s{n}": [1] for n in range(MAX_SERIES)}, "x", "y")
    assert len({one.get("fill") for one in of_class(parsed(stacked), "bar")}) == MAX_SERIES
    named = [one.text for one in parsed(curves).iter("text")]
    assert {f"run {n}" for n in range(MAX_SERIES)} <= set(named)


def test_a_chart_has_a_name_a_description_and_nothing_but_text_of_names() -> None:
    for chart in (
        bar_chart(HOSTILE, HOSTILE, HOSTILE, [(HOSTILE, 1)]),
        histogram(HOSTILE, HOSTILE, [HOSTILE], {HOSTILE: [1], "b": [2]}, HOSTILE, HOSTILE),
        line_chart(HOSTILE, HOSTILE, [Curve(HOSTILE, [(1, 1)]), Curve("b", [(1, 2)])], HOSTILE, HOSTILE),
        interval_chart(HOSTILE, HOSTILE, HOSTILE, [Dot(HOSTILE, 1, 0, 2)]),
    ):
        root = parsed(chart)
        assert root.get("role") == "img"
        assert [root.findtext("title"), root.findtext("desc")] == [HOSTILE, HOSTILE]
        assert "<script" not in chart.svg
        assert not [name for one in root.iter() for name in one.attrib if name == "style" or name.startswith("on")]


def test_many_rows_are_cut_in_the_drawing_and_whole_in_the_table() -> None:
    rows = [(f"reason {n}", float(n)) for n in range(200)]
    chart = bar_chart("Many", "n", "traces", rows)
    assert len(of_class(parsed(chart), "bar")) == MAX_ROWS
    assert len(chart.rows) == 200
    assert chart.note.endswith("The first 40 of 200 are drawn, the table has all.")
    dots = interval_chart("Many", "n", "%", [Dot(f"m{n}", 1.0) for n in range(200)])
    assert len(of_class(parsed(dots), "dot")) == MAX_ROWS


def inside(chart: Chart) -> None:
    """Every place is a number within the drawing."""
    if not chart.svg:
        return
    root = parsed(chart)
    _, _, width, height = map(float, root.get("viewBox", "").split())
    for one in root.iter():
        for name in ("x", "x1", "x2", "cx", "y", "y1", "y2", "cy", "width", "height"):
            if one.get(name) is not None:
                place = at(one, name)[0]
                assert math.isfinite(place)
                most = width if name in ("x", "x1", "x2", "cx", "width") else height
                assert -1 <= place <= most + 1, (one.tag, name, place)
        for pair in one.get("points", "").split():
            x, y = map(float, pair.split(","))
            assert -1 <= x <= width + 1
            assert -1 <= y <= height + 1


@settings(max_examples=40)
@given(st.lists(st.tuples(st.text(max_size=60), NUMBERS), max_size=50), st.sampled_from([None, 100.0]))
def test_any_bars(rows: list[tuple[str, float | None]], whole: float | None) -> None:
    rows = [(name.encode(errors="ignore").decode().translate(dict.fromkeys(range(32))), value) for name, value in rows]
    chart = bar_chart(
        "t", "n", "u", [(name.replace("\ufffe", "").replace("\uffff", ""), value) for name, value in rows], whole
    )
    inside(chart)
    assert len(chart.rows) == len(rows)


@settings(max_examples=40)
@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), max_size=30))
def test_any_whiskers(rows: list[tuple[float | None, float | None, float | None]]) -> None:
    chart = interval_chart("t", "n", "u", [Dot("d", *row) for row in rows])
    inside(chart)
    assert len(chart.rows) == len(rows)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.floats(), NUMBERS, NUMBERS), max_size=30), st.booleans())
@example([(5e-324, 1.0, None)], True)
@example([(1.7e308, 1.0, None)], True)
def test_any_lines(rows: list[tuple[float, float | None, float | None]], log: bool) -> None:
    curve = Curve("a", [(x, y) for x, y, _ in rows], [(x, y, z) for x, y, z in rows])
    chart = line_chart("t", "n", [curve, curve], "x", "y", log=log)
    inside(chart)
    assert len(chart.rows) == 2 * len(rows)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 10**12), max_size=200), st.integers(1, 8))
def test_any_histogram(counts: list[int], every: int) -> None:
    labels = [str(n) for n in range(len(counts))]
    chart = histogram("t", "n", labels, {"a": counts, "b": counts}, "x", "y", label_every=every)
    inside(chart)
    assert len(chart.rows) == len(counts)
