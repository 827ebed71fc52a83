"""The report page in a real browser: charts, policy, keyboard, phone, dark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distill.progress import LogLines
from distill.stages.report import Config, run
from tests.integration.chromium import Open, Seen, chromium, open_page
from tests.reporting.worlds import HOSTILE, make_run

__all__ = ["chromium", "open_page"]
pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two runs, one of them with hostile names."""
    folder = tmp_path_factory.mktemp("report")
    runs = [make_run(folder / "a"), make_run(folder / "b", name="b", loss=2.0, reason=HOSTILE)]
    return run(runs, Config(out=folder / "report.html"), LogLines()).file


def quiet(seen: Seen) -> None:
    assert seen.errors == []
    assert seen.requests == []


def test_charts_are_there_and_have_names(report: Path, open_page: Open) -> None:
    seen = open_page(report)
    quiet(seen)
    page = seen.page
    for name in (
        "pass@1 on countdown",
        "Training loss",
        "Mean reward",
        "Tokens of reasoning: b",
        "Where the tokens went: a",
    ):
        chart = page.get_by_role("img", name=name, exact=True)
        assert chart.count() == 1, name
        box = chart.bounding_box()
        assert box["width"] > 250
        assert box["height"] > 60
    assert page.get_by_role("img").count() == page.locator("figure").count()
    # hatches and classes have colours: nothing is drawn in the default black
    fills = page.eval_on_selector_all(".dot", "dots => dots.map(dot => getComputedStyle(dot).fill)")
    assert fills
    assert "rgb(0, 0, 0)" not in fills
    assert page.evaluate("typeof window.alerted") == "undefined"
    page.get_by_role("link", name="Fine-tuning").click()
    assert page.evaluate("location.hash") == "#sft"


def test_numbers_open_under_a_chart(report: Path, open_page: Open) -> None:
    page = open_page(report).page
    figure = page.locator("figure", has=page.get_by_role("img", name="Training loss", exact=True))
    table = figure.get_by_role("table")
    assert not table.is_visible()
    figure.locator("summary").focus()
    page.keyboard.press("Enter")
    assert table.is_visible()
    assert figure.get_by_role("row").count() == 1 + 2 * 8


INJECTED = """<script>window.hacked = 1</script><img src="http://127.0.0.1:9/x.png" onerror="window.hacked = 2">
<p id="late" style="position: fixed">late</p><iframe src="http://127.0.0.1:9/frame"></iframe>"""


def test_the_policy_is_in_force(report: Path, tmp_path: Path, open_page: Open) -> None:
    """What was put into the page behind its author's back neither runs nor loads."""
    changed = tmp_path / "changed.html"
    changed.write_text(report.read_text(encoding="utf-8").replace("</main>", INJECTED + "</main>"), encoding="utf-8")
    seen = open_page(changed)
    seen.page.wait_for_timeout(300)
    assert seen.page.evaluate("typeof window.hacked") == "undefined"
    assert seen.page.eval_on_selector("#late", "late => getComputedStyle(late).position") == "static"
    told = "\n".join(seen.errors)
    for directive in ("script-src", "default-src", "style-src"):
        assert directive in told
    assert len([error for error in seen.errors if "Content Security Policy" in error]) >= 4
    refused = "try { document.body.innerHTML = '<b>x</b>'; 'set' } catch (error) { error.name }"
    assert seen.page.evaluate(refused) == "TypeError", "no script makes elements of a string"


def test_all_can_be_reached_by_keyboard(report: Path, open_page: Open) -> None:
    seen = open_page(report)
    page = seen.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0, "it shows itself"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    reached: list[dict[str, Any]] = []
    look = """() => { const one = document.activeElement;
        return {tag: one.tagName, width: one.getBoundingClientRect().width, outline: getComputedStyle(one).outlineStyle,
                name: one.getAttribute('aria-label') || one.textContent || one.labels[0].textContent}; }"""
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(look))
    assert {"SUMMARY", "DIV", "A"} <= {one["tag"] for one in reached}
    for one in reached:
        assert one["width"] > 0, one
        assert one["outline"] != "none", f"no mark of the focus: {one}"
        assert one["name"].strip(), "a stop without a name"
    quiet(seen)


def test_a_reason_leads_into_the_traces(report: Path, open_page: Open) -> None:
    seen = open_page(report)
    seen.page.get_by_role("link", name="wrong_value", exact=True).first.click()
    assert seen.page.evaluate("location.hash") == "#reason=correct:wrong_value"
    seen.page.wait_for_function("document.querySelector('#traces').getBoundingClientRect().top < innerHeight")
    quiet(seen)


@pytest.mark.parametrize("width", [360, 390])
def test_on_a_phone_nothing_sticks_out_and_text_is_readable(report: Path, open_page: Open, width: int) -> None:
    seen = open_page(report, width=width, height=780)
    page = seen.page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = page.eval_on_selector_all("svg.chart", "all => all.map(one => one.getBoundingClientRect().right)")
    assert max(boxes) <= width
    # text is 14 units of the drawing's 400, scaled with it
    sizes = page.eval_on_selector_all(
        "svg.chart", "all => all.map(one => 14 * one.getBoundingClientRect().width / 400)"
    )
    assert min(sizes) >= 11
    quiet(seen)


def test_in_the_dark_the_page_is_dark(report: Path, open_page: Open) -> None:
    seen = open_page(report, dark=True)
    colour = "getComputedStyle(document.body).backgroundColor"
    assert seen.page.evaluate(colour) == "rgb(20, 23, 28)"
    assert open_page(report).page.evaluate(colour) == "rgb(255, 255, 255)"
    text = seen.page.eval_on_selector("svg.chart", "one => getComputedStyle(one).fill")
    assert text == "rgb(230, 233, 238)"
    quiet(seen)
