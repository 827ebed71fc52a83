"""The trace browser in headless Chromium, under the policy of the report's page."""

from __future__ import annotations

import base64
import hashlib
import time
from pathlib import Path
from typing import Any

import pytest

from distill.progress import LogLines
from distill.reporting.browser.trace_browser import pack_browser
from distill.run import Run
from tests.conftest import make_problem, make_trace
from tests.integration.chromium import Open, Seen, chromium, open_page
from tests.reporting.browser_runs import Said, write_run

__all__ = ["chromium", "open_page"]
pytestmark = pytest.mark.integration

COLOURS = "--bg: #fff; --fg: #111; --muted: #555; --line: #ccc; --accent: #05a; --good: #060; --bad: #a00"
HOSTILE = {
    "script": "<script>window.pwned = 1</script>",
    "end": "</script></style></textarea></title><script>window.pwned = 1</script>",
    "comment": "<!--<script><!-- --><script>window.pwned = 1</script>",
    "image": '"><img src=x onerror="window.pwned = 1"><svg onload="window.pwned = 1">',
    "link": "[click](javascript:window.pwned=1) <a href='javascript:window.pwned=1'>x</a> http://example.invalid/x",
    "bidi": "safe \u202egnp.exe\u2066 \u200b\u200b\u200d \ufeff end",
    "controls": "nul \x00 bell \x07 escape \x1b[31m del \x7f c1 \x9b separators \u2028\u2029",
    "template": "{{ constructor.constructor('window.pwned=1')() }} ${window.pwned=1} {% raw %} <%= 1 %>",
    "formula": "$\\href{javascript:window.pwned=1}{x} <img src=x onerror=window.pwned=1> \\unknown{\u202e}$",
    "prototype": "__proto__ constructor toString",
    "astral": "\U0001f600" * 50 + "\U000e0041\U0010fffd",
}
WORDS = "the quick brown fox weighs 3 * (4 + 5) and asks whether x^2 is right, "


def page(folder: Path, runs: list[Run], most: int = 10_000) -> Path:
    """The browser alone in a page as strict as the report's."""
    made = pack_browser(runs, most, LogLines())
    style = f":root {{ color-scheme: light dark; {COLOURS} }} * {{ box-sizing: border-box }} {made.style}"

    def hashed(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    policy = f"default-src 'none'; style-src {hashed(style)}; script-src {hashed(made.script)}; base-uri 'none'; "
    policy += "form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    path = folder / "page.html"
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write('<!doctype html><html lang="en"><meta charset="utf-8"><title>traces</title>')
        file.write(f'<meta http-equiv="Content-Security-Policy" content="{policy}">')
        file.write('<meta name="viewport" content="width=device-width, initial-scale=1">')
        file.write(
            f'<style>{style}</style><h1>Page</h1><p><a id="elsewhere" href="#reason=length:too_long">too long</a></p>'
        )
        file.write(made.html)
        file.write(f'<script type="module" async>{made.script}</script>')
        file.writelines(made.data)
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """400 traces of 40 problems: every fifth is wrong, every eighth too long, two speak of a zebra."""
    folder = tmp_path_factory.mktemp("plain")
    asked = [make_problem(f"What is $\\frac{{{n}}}{{2}}$ and {n}?", answer=f"\\frac{{{n}}}{{2}}") for n in range(40)]

    def one(n: int) -> tuple[Any, Said]:
        zebra = " A ZeBra (striped) \\frac{1}{2}. " if n in (17, 399) else ""
        text = f"{WORDS * (n % 7)}{zebra}\n</think>\n\nSo \\boxed{{\\frac{{{n}}}{{2}}}}"
        said = {"correct": "" if n % 5 else "wrong_answer", "length": "too_long" if n % 8 == 1 else ""}
        usage = {"prompt": 9, "reasoning": 10 * n, "answer": 5}
        return make_trace(text, problem_id=asked[n % 40].id, sample=n // 40, usage=usage), said

    run = write_run(folder / "run", asked, map(one, range(400)))
    return page(folder, [run]), run


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trace of each hostile kind, in every place that holds text, and two of a megabyte."""
    folder = tmp_path_factory.mktemp("hostile")
    asked, traces = [], []
    for kind, text in HOSTILE.items():
        asked.append(make_problem(f"{kind}: {text}", answer=text))
        trace = make_trace(f"{text}\n</think>\n\n{text} <answer>{text}</answer>", problem_id=asked[-1].id, model=text)
        traces.append((trace, {text: text, "correct": text}))
    long = {"line": "0123456789" * 104_858, "lines": f"{WORDS}\n" * 15_000}
    for kind, text in long.items():
        asked.append(make_problem(kind))
        traces.append((make_trace(f"{text} needle </think> done", problem_id=asked[-1].id), {}))
    return page(folder, [write_run(folder / HOSTILE["image"].replace("/", ""), asked, traces)])


def ready(seen: Seen) -> Any:
    seen.page.wait_for_selector("#tb-form:not([hidden])")
    return seen.page


def until(window: Any, expression: str, arg: Any = None) -> None:
    """Wait until it holds; Playwright's own waiting compiles strings in the page, which its policy forbids."""
    ends = time.monotonic() + 10
    while not window.evaluate(expression, arg):
        assert time.monotonic() < ends, f"{expression} ({arg}): {window.inner_text('#tb-count')}"
        window.wait_for_timeout(20)


def count(window: Any, text: str) -> None:
    """Wait until the page tells this."""
    until(window, "text => document.getElementById('tb-count').textContent.includes(text)", text)


def clean(seen: Seen) -> None:
    assert seen.errors == []
    assert seen.requests == []
    assert seen.page.evaluate("window.pwned") is None


def test_list_filters_order_and_pages(plain: tuple[Path, Run], open_page: Open) -> None:
    seen = open_page(plain[0])
    window = ready(seen)
    count(window, "400 traces.")
    assert window.locator("#tb-list a").count() == 50
    window.click("#tb-on")
    assert "Page 2 of 8" in window.inner_text("#tb-page")
    window.select_option("#tb-reason", "correct:wrong_answer")
    count(window, "80 of 400")
    assert "Page 1 of 2" in window.inner_text("#tb-page")
    window.select_option("#tb-reason", "length:too_long")
    count(window, "50 of 400")
    window.select_option("#tb-correct", "no")
    count(window, "10 of 400")
    until(window, "location.hash.includes('correct=no')")
    window.click("button[type=reset]")
    count(window, "400 traces.")
    window.select_option("#tb-decision", "kept")
    count(window, "280 of 400")
    window.fill("#tb-min", "1000")
    window.fill("#tb-max", "1104")
    count(window, "8 of 400")  # n from 100 to 109
    window.click("button[type=reset]")
    window.select_option("#tb-sort", "long")
    assert "3,995 tokens" in window.locator("#tb-list a").first.inner_text()
    window.fill("#tb-problem", make_problem("What is $\\frac{7}{2}$ and 7?").id[:12])
    count(window, "10 of 400")
    clean(seen)


def test_search_finds_literally_and_a_new_one_ends_the_old(plain: tuple[Path, Run], open_page: Open) -> None:
    seen = open_page(plain[0])
    window = ready(seen)
    for text, found in (
        ("zebra (STRIPED)", 2),
        ("\\FRAC{1}{2}. ", 2),
        ("3 * (4", 342),
        (".*", 0),
        ("\\n", 0),
        ('"', 0),
    ):
        window.fill("#tb-q", text)
        count(window, f"{found} of 400 traces hold the text")
    window.fill("#tb-q", "fox")
    window.fill("#tb-q", "zebra")
    count(window, "2 of 400 traces hold the text")
    assert window.locator("#tb-list a").count() == 2
    window.select_option("#tb-reason", "correct:wrong_answer")
    count(window, "0 of 80 traces that fit hold the text")
    window.select_option("#tb-reason", "length:too_long")
    count(window, "1 of 50 traces that fit hold the text")
    window.click("#tb-list a")
    window.wait_for_selector("#tb-trace details[open] mark")
    assert window.inner_text("#tb-trace mark") == "ZeBra"
    clean(seen)


def test_links_choose_filters_and_traces(plain: tuple[Path, Run], open_page: Open) -> None:
    path, run = plain
    rows = run.traces_file.read_text().splitlines()
    last = rows[-1].split('"id":"')[1][:20]
    problem = make_problem("What is $\\frac{7}{2}$ and 7?").id
    seen = open_page(path, hash="#reason=length:too_long")
    window = ready(seen)
    count(window, "50 of 400")
    for address, told in (
        (f"#problem={problem}", "10 of 400"),
        ("#check=correct", "80 of 400"),
        ("#decision=kept&correct=yes", "280"),
    ):
        window.evaluate("hash => { location.hash = hash }", address)
        count(window, told)
    window.evaluate("hash => { location.hash = hash }", f"#trace={last}")
    until(window, "id => document.getElementById('tb-heading')?.textContent.includes(id)", last)
    count(window, "400 traces.")
    assert "400 of 400" in window.inner_text(".tb-head")
    window.click("#elsewhere")
    count(window, "50 of 400")
    window.go_back()
    clean(seen)


def test_a_trace_shows_all_there_is_to_it(plain: tuple[Path, Run], open_page: Open) -> None:
    seen = open_page(plain[0], hash="#reason=correct:wrong_answer&sort=long&min=3900")
    window = ready(seen)
    window.click("#tb-list a")
    window.wait_for_selector("#tb-trace table")
    text = window.inner_text("#tb-trace")
    for part in (
        "rejected",
        "wrong_answer",
        "Gold answer",
        "Final answer",
        "3,950 reasoning",
        "temperature 1.0",
        "Sample\n9",
    ):
        assert part in text, part
    assert window.locator("#tb-trace mfrac").count() >= 3
    fold = window.locator("#tb-trace details").first
    assert fold.get_attribute("open") is None
    assert "quick brown fox" not in text
    fold.locator("summary").click()
    until(window, "document.querySelector('#tb-trace details').innerText.includes('quick brown fox')")
    window.check("#tb-raw")
    until(window, "!document.querySelector('#tb-trace mfrac')")
    assert "\\frac{35}{2}" in window.inner_text("#tb-trace")
    window.locator("#tb-trace details").last.locator("summary").click()
    assert window.locator("#tb-trace details").last.locator("li").count() == 10
    window.locator("#tb-trace details").last.locator("a").first.click()
    until(window, "document.querySelector('.tb-head').innerText.includes('not in the list')")
    clean(seen)


def test_keyboard_alone(plain: tuple[Path, Run], open_page: Open) -> None:
    seen = open_page(plain[0])
    window = ready(seen)
    focused = "document.activeElement.id || document.activeElement.closest('#tb-list') && 'list'"
    window.focus("#elsewhere")
    stops = []
    while (stop := window.evaluate(focused)) != "list":
        window.keyboard.press("Tab")
        stops.append(stop)
        assert len(stops) < 20
    assert [stop for stop in stops if stop][1:] == [
        f"tb-{name}"
        for name in ("q", "decision", "reason", "correct", "finish", "problem", "min", "max", "sort", "raw")
    ]
    for _ in range(3):
        window.keyboard.press("ArrowDown")
    window.keyboard.press("Enter")
    until(window, "document.activeElement.id === 'tb-heading'")
    third = window.inner_text("#tb-heading")
    assert "4 of 400" in window.inner_text(".tb-head")
    window.keyboard.press("j")
    until(window, "before => document.getElementById('tb-heading').innerText !== before", third)
    window.keyboard.press("k")
    until(window, "before => document.getElementById('tb-heading').innerText === before", third)
    for _ in range(60):
        window.keyboard.press("j")
        window.wait_for_timeout(5)
    until(window, "document.getElementById('tb-page').innerText.startsWith('Page 2')")
    window.fill("#tb-q", "jk")
    window.focus("#tb-q")
    window.keyboard.press("j")
    assert window.input_value("#tb-q") == "jkj"
    clean(seen)


def test_every_control_has_a_name_and_what_changes_is_announced(plain: tuple[Path, Run], open_page: Open) -> None:
    window = ready(open_page(plain[0]))
    nameless = """() => [...document.querySelectorAll("#traces :is(input, select, button, progress, [role=region])")]
        .filter((one) => !(one.labels?.length || one.getAttribute("aria-label") || one.textContent.trim()))
        .map((one) => one.outerHTML)"""
    assert window.evaluate(nameless) == []
    assert window.get_attribute("#tb-count", "role") == "status"


def test_hostile_traces_are_harmless(hostile: Path, open_page: Open) -> None:
    seen = open_page(hostile)
    window = ready(seen)
    count(window, f"{len(HOSTILE) + 2} traces.")
    foreign = "#traces :is(img, script, iframe, object, embed, svg, style, link, [href^=java])"
    foreign = f"document.querySelectorAll('{foreign}').length"
    for place, kind in enumerate(HOSTILE):
        window.locator("#tb-list a").nth(place).click()
        until(window, "kind => document.querySelector('#tb-trace .tb-text')?.innerText.startsWith(kind)", kind)
        for fold in window.locator("#tb-trace summary").all():
            fold.click()
        window.wait_for_selector("#tb-trace details[open] .tb-text")
        assert window.evaluate(foreign) == 0
        own = "document.querySelectorAll('#traces [style], #traces [onclick], #traces [onerror], #traces [src]').length"
        assert window.evaluate(own) == 0
        text = window.inner_text("#traces")
        if kind in ("script", "end", "image", "template"):
            assert HOSTILE[kind] in text
        hidden = [
            letter for letter in text if letter in "\u202e\u2066\u200b\ufeff\x00\x07\x1b\x7f\x9b\u2028\u2029\U000e0041"
        ]
        assert hidden == []
        if kind == "bidi":
            assert "⟨U+202E⟩gnp.exe⟨U+2066⟩ ⟨U+200B ×2⟩⟨U+200D⟩ ⟨U+FEFF⟩" in text
        if kind == "controls":
            assert "⟨U+0000⟩" in text
        clean(seen)


def test_a_megabyte_is_shown_in_pieces_and_found_at_its_end(hostile: Path, open_page: Open) -> None:
    seen = open_page(hostile)
    window = ready(seen)
    for place in (len(HOSTILE), len(HOSTILE) + 1):
        window.locator("#tb-list a").nth(place).click()
        until(window, "document.querySelector('#tb-trace summary')?.innerText.includes('characters')")
        began = time.monotonic()
        window.locator("#tb-trace summary").first.click()
        window.wait_for_selector("#tb-trace details .tb-piece")
        assert time.monotonic() - began < 2
        fold = window.locator("#tb-trace details").first
        assert "Characters 1 to " in fold.inner_text()
        before = len(fold.inner_text())
        fold.get_by_role("button", name="Show more").click()
        assert len(fold.inner_text()) > before + 10_000
        window.fill("#tb-q", "NEEDLE")
        count(window, f"2 of {len(HOSTILE) + 2} traces hold the text")
        window.locator("#tb-list a").nth(place - len(HOSTILE)).click()
        window.wait_for_selector("#tb-trace mark")
        fold = window.locator("#tb-trace details").first
        fold.get_by_role("button", name="Show earlier").click()
        window.fill("#tb-q", "")
        count(window, "traces.")
    clean(seen)


def test_addresses_are_hostile_too(plain: tuple[Path, Run], open_page: Open) -> None:
    for hash in (
        "#reason=<img src=x onerror=window.pwned=1>",
        "#trace=%ED%A0%80%00&q=%3Cscript%3E",
        "#trace=__proto__",
        "#constructor=1&__proto__=x&sort=__proto__",
        "#min=1e999&max=-1&problem=%",
        "#q=" + "(" * 5000,
        "#traces",
    ):
        seen = open_page(plain[0], hash=hash)
        window = ready(seen)
        until(window, "document.getElementById('tb-count').textContent !== 'Opening…'")
        assert window.evaluate("document.querySelectorAll('#traces img, #traces script').length") == 0
        clean(seen)
    seen = open_page(plain[0], hash="#reason=nonsense:x")
    ready(seen)
    count(seen.page, "There is no reason “nonsense:x” here.")


def test_nothing_is_wider_than_a_phone(hostile: Path, open_page: Open) -> None:
    seen = open_page(hostile, width=390, height=800, dark=True)
    window = ready(seen)
    for place in range(len(HOSTILE) + 2):
        window.locator("#tb-list a").nth(place).click()
        window.wait_for_selector("#tb-trace .tb-text")
        for fold in window.locator("#tb-trace summary").all():
            fold.click()
        assert window.evaluate("document.documentElement.scrollWidth") <= 390
    window.locator("#tb-list a").nth(1).click()
    until(window, "(({top}) => top >= 0 && top < 200)(document.getElementById('tb-heading').getBoundingClientRect())")
    clean(seen)


def test_a_page_that_was_cut_says_so(plain: tuple[Path, Run], tmp_path: Path, open_page: Open) -> None:
    text = plain[0].read_text()
    cut = text.replace('id="traces-0"', 'id="gone"')
    (tmp_path / "cut.html").write_text(cut)
    window = ready(open_page(tmp_path / "cut.html"))
    window.click("#tb-list a")
    count(window, "the file is not whole")
    damaged = text.replace('id="traces-index">', 'id="traces-index">AAAA')
    (tmp_path / "damaged.html").write_text(damaged)
    count(open_page(tmp_path / "damaged.html").page, "cannot be shown")


def test_several_runs_side_by_side(plain: tuple[Path, Run], tmp_path: Path, open_page: Open) -> None:
    problem = make_problem("What is $\\frac{7}{2}$ and 7?")
    other = write_run(tmp_path / "other", [problem], [(make_trace("x", problem_id=problem.id), {})])
    seen = open_page(page(tmp_path, [plain[1], other]))
    window = ready(seen)
    count(window, "401 traces.")
    window.select_option("#tb-run", "other")
    count(window, "1 of 401")
    window.click("#tb-list a")
    window.locator("#tb-trace summary", has_text="All 11 traces of this problem").click()
    clean(seen)
