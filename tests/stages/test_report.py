"""The report stage: from run folders to a page."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill.errors import InputError
from distill.progress import LogLines
from distill.run import Run
from distill.stages.report import Config, run
from tests.reporting.worlds import make_run


def test_a_page_goes_into_the_run_folder(tmp_path: Path) -> None:
    made = make_run(tmp_path / "a")
    before = {path: path.read_bytes() for path in made.folder.rglob("*") if path.is_file()}
    told = run([made], Config(), LogLines())
    assert told.file == made.report
    assert told.bytes == made.report.stat().st_size
    assert told.left_out == ()
    assert told.next == f"distill sft --run {made.folder}", "there is no student"
    text = made.report.read_text(encoding="utf-8")
    assert text.count('<section id="traces"') == 1
    assert "#reason=correct:wrong_value" in text
    after = {path: path.read_bytes() for path in made.folder.rglob("*") if path.is_file() and path != made.report}
    assert after == before, "a report changes nothing else"


def test_without_traces_the_page_is_small_and_says_so(tmp_path: Path) -> None:
    made = make_run(tmp_path / "a")
    whole = run([made], Config(), LogLines()).bytes
    assert run([made], Config(traces=0), LogLines()).bytes < whole
    assert "report.traces=0" in made.report.read_text(encoding="utf-8")


def test_several_runs_make_one_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = [make_run(Path(name) / "tiny") for name in ("a", "b")]
    told = run(runs, Config(), LogLines())
    assert told.file == Path("report.html")
    text = Path("report.html").read_text(encoding="utf-8")
    assert "<h1>distill report: a/tiny, b/tiny</h1>" in text
    assert run(runs, Config(out=Path("x/y.html")), LogLines()).file == Path("x/y.html")


def test_what_cannot_be_is_told(tmp_path: Path) -> None:
    made = make_run(tmp_path / "a")
    for runs, message in (
        ([Run(tmp_path / "none")], "there is no run"),
        ([made, Run(tmp_path / "." / "a")], "is given twice"),
    ):
        with pytest.raises(InputError, match=message):
            run(runs, Config(), LogLines())
    with pytest.raises(InputError, match="is a folder"):
        run([made], Config(out=tmp_path), LogLines())
