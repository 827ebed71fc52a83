"""The page as text: its policy, its structure, what it tells, and that nothing of a run is markup."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markupsafe import Markup

from distill.errors import InputError, RunError
from distill.reporting import page
from distill.reporting.browser.trace_browser import Browser
from distill.reporting.reading.gather import ReportedRun
from distill.run import Run, write_json
from tests.reporting.worlds import HOSTILE, gathered, make_run

STYLE = (Path(page.__file__).parent / "page.css").read_text(encoding="utf-8")


class Tags(HTMLParser):
    """Every element with its attributes, and the text of style and script elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._within = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._within = tag

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        self.texts[self._within] = self.texts.get(self._within, "") + data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def text_of(*runs: ReportedRun, browser: Browser | None = None) -> str:
    return "".join(page.pieces(runs, page.sections(runs, browser is not None), browser))


def fake_browser(script: str = "void 0;\r\n", data: Iterable[str] = ()) -> Browser:
    return Browser(html=Markup('<section id="traces"></section>'), style=".x { color: red }", script=script, data=data)


def test_a_run_is_told_in_full(tmp_path: Path) -> None:
    text = text_of(gathered(make_run(tmp_path / "a")))
    tags = Tags(text)
    assert [one.get("lang") for one in tags.all("html")] == ["en"]
    assert len(tags.all("h1")) == len(tags.all("main")) == len(tags.all("nav")) == 1
    ids = [attributes["id"] for _, attributes in tags.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = ("overview", "scores", "funnel", "lengths", "rates", "tokens", "sft", "grpo", "traces", "provenance")
    assert set(wanted) <= set(ids)
    links = {str(one["href"]).removeprefix("#") for one in tags.all("a")}
    assert links <= set(ids), "no link leads nowhere"
    drawn = [one for one in tags.all("svg") if one.get("role") == "img"]
    assert len(drawn) == len(tags.all("figure")) == len(tags.all("details")) == 15
    assert "sft 60.0 [55.0, 65.0]" in text
    assert "50.0 %" not in text.partition('id="funnel"')[0]
    assert "5 (62.5 %)" in text, "kept of eight"
    assert "+40.0 [+30.0, +50.0]" in text
    assert "&lt;0.001" in text
    tokens = sum(10 * (n + 1) + 5 for n in range(7)) + 400
    assert f"{tokens:,} tokens sampled" in text
    assert f"{(80 * 1.0 + tokens * 2.0) / 1e6:,.2f}" in text, "cost"


def test_nothing_is_asked_for_and_nothing_inline_runs(tmp_path: Path) -> None:
    text = text_of(gathered(make_run(tmp_path / "a")), browser=fake_browser())
    tags = Tags(text)
    policy = str(next(one["content"] for one in tags.all("meta") if one.get("http-equiv")))
    assert policy.startswith("default-src 'none'; ")
    for name in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(tags.texts[name].encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert "\r" not in text
    for tag, attributes in tags.found:
        assert tag not in ("link", "img", "iframe", "object", "base", "form")
        assert not [
            name for name in attributes if name.startswith("on") or name in ("style", "src", "srcset", "action")
        ]
        assert str(attributes.get("href") or "#").startswith("#")
    assert text.index("Content-Security-Policy") < text.index("<style>")


def test_what_a_run_holds_is_text(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a<b>&", name="x", reason=HOSTILE)
    state = run.state()
    state["recipe"]["name"] = state["recipe"]["teacher"] = HOSTILE
    state["versions"] = {HOSTILE: HOSTILE}
    write_json(run.json, state)
    text = text_of(gathered(run), browser=fake_browser())
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert len(Tags(text).all("script")) == 1
    assert len(Tags(text).all("style")) == 1


def test_reasons_lead_into_the_traces(tmp_path: Path) -> None:
    run = gathered(make_run(tmp_path / "a"))
    assert '<a href="#reason=correct:wrong_value">wrong_value</a>' in text_of(run, browser=fake_browser())
    assert "#reason=" not in text_of(run), "without traces there is nothing to lead to"


def test_a_reason_is_a_name_and_no_address(tmp_path: Path) -> None:
    run = gathered(make_run(tmp_path / "a", reason="a+b&trace=x%20y"))
    assert 'href="#reason=correct:a%2Bb%26trace%3Dx%2520y"' in text_of(run, browser=fake_browser())


def test_traces_of_other_runs_are_told_where_they_were_filtered(tmp_path: Path) -> None:
    first, second = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    second.traces_file.unlink()
    state = second.state()
    state["recipe"]["filter"] = {"traces": [str(first.folder), str(tmp_path / "gone")]}
    write_json(second.json, state)
    found = gathered(second)
    assert found.attempts is not None
    assert len(found.attempts) == 8
    state["recipe"] = {**state["recipe"], "filter": {}, "sft": {"data": str(first.folder)}}
    write_json(second.json, state)
    second.funnel.unlink()
    assert gathered(second).funnel["kept"] == 5, "what it was trained on"
    assert "5 rows of a, 8 steps" in text_of(gathered(second))


def test_many_runs_are_counted_in_the_title(tmp_path: Path) -> None:
    one = gathered(make_run(tmp_path / "a"))
    assert "<h1>distill report: 7 runs</h1>" in text_of(*[replace(one, label=f"run {n}") for n in range(7)])


def test_several_runs_stand_side_by_side(tmp_path: Path) -> None:
    runs = [gathered(make_run(tmp_path / name, loss=loss)) for name, loss in (("a", 1.0), ("b", 2.0))]
    text = text_of(*runs)
    assert "Training loss" in text
    assert "What is left after each check: b" in text
    figure = next(one for one in text.split("<figure>") if "<h3>Training loss</h3>" in one)
    assert figure.count("<polyline") == 2
    assert "b · sft" in text
    dots = next(one for one in text.split("<figure>") if "<h3>pass@1 on countdown</h3>" in one)
    assert dots.count("<circle") == 4


def test_what_is_missing_is_left_out_with_a_word_of_why(tmp_path: Path) -> None:
    run = Run(tmp_path / "a")
    run.folder.mkdir()
    with pytest.raises(InputError, match="holds no run"):
        gathered(run)
    write_json(run.json, {"recipe": {"name": "x", "teacher": "tiny", "student": "tiny"}, "stages": {}})
    text = text_of(gathered(run))
    for command in ("generate", "filter", "sft", "eval", "grpo"):
        assert f"distill {command} --run" in text
    assert "<figure>" not in text
    write_json(run.scores_file, [{"nonsense": 1}])
    with pytest.raises(InputError, match=r"(?s)scores\.json.*distill eval"):
        gathered(run)


def test_imported_traces_alone_are_enough(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    for path in (
        run.json,
        run.funnel,
        run.verdicts_file,
        run.rates,
        run.metrics,
        run.scores_file,
        run.eval / "report.json",
    ):
        path.unlink()
    text = text_of(gathered(run))
    assert "not judged" in text
    assert "distill filter --run" in text
    assert "Tokens of reasoning" in text


def test_the_price_of_an_hour_is_told_for_one_engine(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    state = run.state()
    state["recipe"]["generate"] = {"price": {"per_hour": 3.0}}
    state["stages"]["generate"] = {"seconds": 7200.0}
    write_json(run.json, state)
    assert "the last call&#39;s 2.00 h cost 6.00 for each engine" in text_of(gathered(run))


def test_the_page_is_written_in_pieces_and_put_in_place_whole(tmp_path: Path) -> None:
    run = gathered(make_run(tmp_path / "a"))
    found = page.sections([run], True)
    out = tmp_path / "deep" / "report.html"
    seen: list[int] = []

    def data() -> Iterator[str]:
        for _ in range(50):
            seen.append((out.parent / "report.html.partial").stat().st_size)
            yield "<!-- " + "x" * 100_000 + " -->"

    size = page.write(out, [run], found, fake_browser(data=data()))
    assert size == out.stat().st_size > 5e6
    assert seen == sorted(seen)
    assert seen[-1] > 4e6, "what comes first is on disk before the rest is made"

    def broken() -> Iterator[str]:
        yield "<!-- -->"
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match="No space left"):
        page.write(out, [run], found, fake_browser(data=broken()))
    assert out.stat().st_size == size, "the old page stays"
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]


def variables(dark: bool) -> dict[str, str]:
    light, _, rest = STYLE.partition("@media (prefers-color-scheme: dark)")
    return dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", rest if dark else light))


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_colours_have_contrast(dark: bool) -> None:
    """WCAG AA: 4.5 for text, 3 for what is drawn."""
    found = variables(dark)
    assert len(found) == 14
    for text, ground in itertools.product(("fg", "muted", "accent", "good", "bad"), ("bg", "panel")):
        assert contrast(found[text], found[ground]) >= 4.5, (text, ground)
    for series in range(6):
        assert contrast(found[f"s{series}"], found["bg"]) >= 3, series
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
