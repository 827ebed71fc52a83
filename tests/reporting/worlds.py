"""A finished run made by hand, its numbers known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from distill.evaluation.report import Difference, ModelReport, Point, SetReport
from distill.filtering.funnel import Funnel, decide
from distill.filtering.ledger import LedgerEntry
from distill.progress import LogLines
from distill.reporting.reading.gather import ReportedRun, gather
from distill.run import Run, write_json
from distill.store import jsonl
from distill.types import Metric, Outcome, Score, Trace, Usage
from tests.conftest import make_problem, make_trace

HOSTILE = "<script>alert(1)</script>\"'&</style>{{7*7}}\u202e"


def trace(number: int, reasoning: int, answer: int, finish: str = "stop", **fields: Any) -> Trace:
    usage = Usage(prompt=10, reasoning=reasoning, answer=answer)
    return make_trace(sample=number, finish=finish).model_copy(update={"id": f"t{number}", "usage": usage, **fields})


def write_filtered(run: Run, traces: list[Trace], right: set[str], reason: str = "wrong_value") -> None:
    """Traces with their verdicts by one check, `correct`, and the funnel of it."""
    jsonl.write(run.problems, [make_problem()])
    jsonl.write(run.traces_file, traces)
    funnel, rows = Funnel(["correct"], 5), []
    for one in {one.id: one for one in traces}.values():
        passed = one.id in right
        word = Outcome(passed=passed, reason="" if passed else reason)
        entry = LedgerEntry(0, one.id, one.problem_id, 0, "test", len(one.completion), {"correct": word}, passed)
        funnel.add(entry)
        rows += [{"trace_id": one.id, "check": "correct", **word.model_dump()}]
        rows.append({"trace_id": one.id, "check": "decision", **decide(entry).model_dump()})
    jsonl.write(run.verdicts_file, rows)
    write_json(run.funnel, to_jsonable_python(funnel.summary()))


def metric(value: float, half: float | None = None) -> Metric:
    return Metric(value=value) if half is None else Metric(value=value, low=value - half, high=value + half)


def write_scores(run: Run, values: dict[str, float]) -> None:
    """pass@1 by role on one set, with curves and the differences to the first."""
    scores, models, gaps = [], [], []
    first = next(iter(values))
    for role, value in values.items():
        metrics = {"pass@1": metric(value, 0.05), "pass@4": metric(value, 0.05), "cons@4": metric(value, 0.05)}
        metrics |= {"truncated": metric(0.1), "tokens": metric(180.0, 10.0)}
        scores.append(Score(model=f"m-{role}", role=role, set="countdown", n=4, metrics=metrics))  # type: ignore[arg-type]
        samples = tuple(
            Point(at=n, metrics={"pass": metric(value, 0.05), "cons": metric(value, 0.1)}) for n in (1, 2, 4)
        )
        budget = tuple(Point(at=2**n, metrics={"pass@1": metric(value * n / 9, 0.01)}) for n in range(3, 10))
        told = {"revision": None, "sampling": {}, "n": 4, "missing": 0, "rerun": {}}
        models.append(ModelReport(model=f"m-{role}", role=role, budget=budget, samples=samples, **told))  # type: ignore[arg-type]
        if role != first:
            ends = {"value": value - values[first], "low": value - values[first] - 0.1, "high": None}
            ends["high"] = ends["value"] + 0.1
            gaps.append(Difference(metric="pass@1", first=role, second=first, problems=200, p=0.0004, **ends))  # type: ignore[arg-type]
    report = SetReport(
        set="countdown",
        commit=None,
        protocol=None,
        problems=200,
        rejected=0,
        models=tuple(models),
        differences=tuple(gaps),
    )
    write_json(run.scores_file, [score.model_dump(mode="json") for score in scores])
    write_json(run.eval / "report.json", {"about": {}, "sets": [report.model_dump(mode="json")]})


def make_run(folder: Path, name: str = "tiny", loss: float = 1.0, reason: str = "wrong_value") -> Run:
    """Eight traces (5 kept, 2 wrong, 1 cut), fine-tuning, GRPO and scores."""
    run = Run(folder)
    folder.mkdir(parents=True)
    traces = [trace(n, 10 * (n + 1), 5) for n in range(7)] + [trace(7, 400, 0, "length")]
    write_filtered(run, traces, {f"t{n}" for n in range(5)}, reason)
    jsonl.write(
        run.rates,
        [
            {"problem_id": "p1", "samples": 8, "correct": 5, "pass_rate": 0.625, "ended": "all"},
            {"problem_id": "p2", "samples": 4, "correct": 0, "pass_rate": 0.0, "ended": "given_up"},
        ],
    )
    steps: list[dict[str, Any]] = [
        {"stage": "sft", "step": n, "loss": loss / n, "learning_rate": 1e-4} for n in range(1, 9)
    ]
    steps += [
        {"stage": "grpo", "step": n, "reward": 0.1 * n, "kl": 0.01 * n, "rewards/accuracy": 0.1, "rewards/format": 0.2}
        for n in range(1, 5)
    ]
    run.add_metrics(steps)
    write_scores(run, {"base": 0.2, "sft": 0.6})
    recipe = {"name": name, "teacher": "tiny", "student": "tiny", "generate": {"price": {"input": 1.0, "output": 2.0}}}
    sft = {"rows": 5, "steps": 8, "first_loss": loss, "last_loss": loss / 8}
    stages = {
        "sft": {"fingerprint": "f" * 20, "outputs": {"student": {"hash": "a" * 20}}, "seconds": 61.0, "summary": sft}
    }
    write_json(run.json, {"recipe": recipe, "versions": {"python": "3.11.7"}, "stages": stages})
    return run


def gathered(run: Run, label: str = "") -> ReportedRun:
    return gather(run, label or run.folder.name, LogLines())
