"""Tables of an evaluation."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from distill.cli.scores import scores
from rich.console import Console

from distill.run import Run, write_json


def metric(value: float, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high}


def row(role: str, value: float) -> dict[str, Any]:
    metrics = {
        "pass@1": metric(value, value - 0.05, value + 0.05),
        "pass@4": metric(0.9),
        "truncated": metric(0.1),
        "answered": metric(0.95),
        "tokens": metric(1234.5),
    }
    return {"model": f"m-{role}", "role": role, "set": "s", "n": 4, "metrics": metrics}


def shown(run: Run) -> str:
    out = io.StringIO()
    scores(Console(file=out, width=80), run)
    return out.getvalue()


def test_scores_differences_budgets_and_lightevals_numbers(tmp_path: Path) -> None:
    run = Run(tmp_path)
    theirs = {
        "model": "m",
        "role": "sft",
        "set": "lighteval:gpqa:[x]|0",
        "n": 1,
        "metrics": {"acc": metric(0.5, 0.4, 0.6)},
    }
    write_json(run.scores_file, [row("base", 0.2), row("sft", 0.6), theirs])
    gap = {"metric": "pass@1", "first": "sft", "second": "base", "problems": 200, "value": 0.4, "low": 0.3, "high": 0.5}
    curve = [{"at": at, "metrics": {"pass@1": metric(at / 640)}} for at in (64, 90, 128, 181, 256)]
    one = {
        "set": "s",
        "differences": [{**gap, "p": 0.0001}, {**gap, "metric": "tokens", "p": 0.2}],
        "models": [{"role": "base", "budget": curve}, {"role": "sft", "budget": curve}],
    }
    write_json(run.eval / "report.json", {"about": {}, "sets": [one]})
    text = shown(run)
    assert "20.0 [15.0, 25.0]" in text
    assert "1,234" in text
    assert "cons@4" not in text, "no votes, no column"
    assert "sft − base" in text
    assert "+40.0 [30.0, 50.0]" in text
    assert "<0.001" in text
    assert text.count("sft − base") == 1, "of the differences only those of pass@1"
    budgets = text.split("token budget")[1]
    assert [word for word in ("64", "90", "128", "181", "256") if word in budgets.split()] == ["64", "128", "256"]
    assert "gpqa:[x]|0" in text
    assert "50.0 [40.0, 60.0]" in text


def test_scores_of_an_older_run_have_no_report(tmp_path: Path) -> None:
    write_json(Run(tmp_path).scores_file, [row("base", 0.2)])
    assert "20.0 [15.0, 25.0]" in shown(Run(tmp_path))
