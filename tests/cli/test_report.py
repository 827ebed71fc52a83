"""`distill report` on the command line."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Run
from tests.reporting.worlds import make_run


def test_it_says_where_the_page_is_and_what_comes_next(run_here: Run, tmp_path: Path) -> None:
    made = make_run(tmp_path / "runs" / "tiny")
    made.scores_file.unlink()
    done = run_here("report", "tiny")
    assert done.exit_code == 0, done.output
    assert "runs/tiny/report.html: " in done.output
    assert " kB; open it in any browser" in done.output
    assert "left out: nothing is measured yet: `distill eval --run runs/tiny`" in done.output
    assert "next: distill sft --run runs/tiny" in done.output
    assert (tmp_path / "runs/tiny/report.html").is_file()


def test_two_runs_into_one_file(run_here: Run, tmp_path: Path) -> None:
    make_run(tmp_path / "a")
    make_run(tmp_path / "b")
    done = run_here("report", "--run", "a", "--run", "b", "--out", "both.html", "--set", "report.traces=0")
    assert done.exit_code == 0, done.output
    assert "b · sft" in (tmp_path / "both.html").read_text(encoding="utf-8")


def test_wrong_input_is_one_message(run_here: Run, tmp_path: Path) -> None:
    done = run_here("report", "--run", "none")
    assert done.exit_code == 2
    assert "there is no run" in done.output
    done = run_here("report", "tiny", "--set", "report.trace=5")
    assert done.exit_code == 2
    assert "did you mean report.traces?" in done.output
    done = run_here("report", "tiny", "--set", "report.traces=-1")
    assert done.exit_code == 2
    assert "report.traces" in done.output
    assert "(traces: Most traces that go into the page" in done.output
