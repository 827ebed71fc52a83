"""filter: every check on every trace, a decision for each, and the set to train on."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from distill import jsonl, plugins
from distill.errors import InputError, RunError, writing
from distill.filters import Context, Filter
from distill.run import Run, write_json
from distill.stages import Job, Summary, quantiles
from distill.types import Outcome, Problem, Record, Trace, Verdict, content_id


class Config(Record):
    checks: dict[str, dict[str, Any] | bool | None] = {"correct": {}}
    """Name to settings, in the order in which the first reject reason is taken; false switches one off."""
    traces: tuple[str, ...] = ()
    """Other run folders whose traces to filter instead of this run's."""
    limit: int | None = Field(None, ge=1)
    per_problem: int | None = Field(None, ge=1)
    """At most so many accepted traces of one problem, the lowest sample indices first."""
    unfiltered: bool = False
    """For comparison: train on as many traces as would be accepted, drawn at random from all."""
    seed: int = 0

    def active(self) -> dict[str, dict[str, Any]]:
        """The checks that are switched on, with their settings."""
        return {
            name: settings if isinstance(settings, dict) else {}
            for name, settings in self.checks.items()
            if settings is not False
        }


class Row(Record):
    """One row of the training set."""

    messages: tuple[dict[str, str], ...]
    """The problem's turns and the assistant's, `<think>` block included."""
    trace_id: str
    problem_id: str
    set: str
    language: str
    licence: str | None
    source: str | None
    tokens: int
    """Of the assistant's turn, in the student's tokens."""


def sources(job: Job[Config]) -> list[Run]:
    return [Run(Path(folder)) for folder in job.config.traces] or [job.run]


def inputs(job: Job[Config]) -> dict[str, Path]:
    return {str(path): path for run in sources(job) for path in (run.problems, run.traces)}


def outputs(run: Run) -> list[Path]:
    return [run.verdicts, run.sft]


@dataclass(frozen=True)
class _Judged:
    trace_id: str
    problem_id: str
    sample: int
    decision: Verdict


def run(job: Job[Config]) -> Summary:
    """Judge all traces, write verdicts.jsonl, funnel.json and sft/train.parquet.

    Raises:
        InputError: there are no traces, or a filter's settings are wrong.
        RunError: nothing is left to train on.
    """
    config, folder = job.config, job.run
    context = Context(student=job.student.model, revision=job.student.revision, tags=job.teacher.think)
    checks: dict[str, Filter] = {
        name: plugins.build("filters", settings, context, name=name, where=f"filter.checks.{name}")
        for name, settings in config.active().items()
    }
    judged: list[_Judged] = []
    funnel = Funnel(list(checks))
    total = sum(_count(run.traces) for run in sources(job))
    kept: set[str] = set()

    def ledger() -> Iterator[Verdict]:
        yield from _judge_all(job, checks, judged, funnel)
        kept.update(_select(judged, config))
        yield from _decisions(judged, kept, config)

    job.progress.start("filter", min(total, config.limit or total), unit="traces")
    jsonl.write(folder.verdicts, ledger())
    job.progress.stop()
    tokens = _write_set(job, kept, context)
    summary = funnel.summary(len(kept))
    summary["tokens"] = {"total": sum(tokens), **quantiles(tokens)}
    write_json(folder.funnel, summary)
    if not kept:
        raise RunError(
            f"no trace of {len(judged):,} was accepted; most often: {_worst(summary)}",
            where=str(folder.funnel),
            fix="read some with `distill show`, then loosen that check or mend the teacher's prompt",
        )
    return summary


def _count(path: Path) -> int:
    if not path.exists():
        raise InputError(
            "there are no traces to filter",
            where=str(path),
            fix="run `distill generate` first, or name a run with --traces or --run",
        )
    return sum(1 for _ in jsonl.rows(path))


def _judge_all(job: Job[Config], checks: dict[str, Filter], judged: list[_Judged], funnel: Funnel) -> Iterator[Verdict]:
    for problem, trace in _pairs(job, funnel):
        outcomes = {name: check(problem, trace) for name, check in checks.items()}
        yield from (
            Verdict(trace_id=trace.id, check=name, **outcome.model_dump()) for name, outcome in outcomes.items()
        )
        decision = _decide(trace, outcomes)
        funnel.add(outcomes, decision)
        judged.append(_Judged(trace.id, trace.problem_id, trace.sample, decision))
        job.progress.advance()


def _pairs(job: Job[Config], funnel: Funnel) -> Iterator[tuple[Problem, Trace]]:
    """Traces with their problems, each trace once, `limit` of them."""
    seen: set[str] = set()
    for source in sources(job):
        problems = {problem.id: problem for problem in jsonl.read(source.problems, Problem)}
        for trace in jsonl.read(source.traces, Trace):
            if trace.id in seen:
                continue
            if len(seen) == job.config.limit:
                return
            if trace.problem_id not in problems:
                funnel.orphans += 1
                continue
            seen.add(trace.id)
            yield problems[trace.problem_id], trace


def _decide(trace: Trace, outcomes: dict[str, Outcome]) -> Verdict:
    """False if any check rejects, else undecidable if any is, else accepted; all reasons are in `detail`."""
    rejects = [f"{name}:{outcome.reason}" for name, outcome in outcomes.items() if outcome.passed is False]
    unsure = [f"{name}:{outcome.reason}" for name, outcome in outcomes.items() if outcome.passed is None]
    passed = False if rejects else None if unsure else True
    reasons = rejects or unsure
    return Verdict(
        trace_id=trace.id,
        check="decision",
        passed=passed,
        reason=reasons[0] if reasons else "",
        detail=" ".join(rejects + unsure),
    )


def _select(judged: list[_Judged], config: Config) -> set[str]:
    """Ids of the traces to train on: the accepted up to `per_problem`, or as many drawn from all."""
    taken: Counter[str] = Counter()
    kept = []
    for item in sorted(judged, key=lambda item: (item.problem_id, item.sample, item.trace_id)):
        if item.decision.passed and (config.per_problem is None or taken[item.problem_id] < config.per_problem):
            taken[item.problem_id] += 1
            kept.append(item.trace_id)
    if config.unfiltered:
        everything = sorted(item.trace_id for item in judged)
        kept = random.Random(config.seed).sample(everything, len(kept))  # noqa: S311 — a sample, not a secret
    return set(kept)


def _decisions(judged: list[_Judged], kept: set[str], config: Config) -> Iterator[Verdict]:
    """The last word on each trace: in the set or not, and why not."""
    for item in judged:
        decision = item.decision
        if item.trace_id in kept:
            yield decision.model_copy(update={"passed": True, "reason": ""})
        elif decision.passed or config.unfiltered:
            reason = "not_drawn" if config.unfiltered else "over_per_problem"
            yield decision.model_copy(update={"passed": False, "reason": reason})
        else:
            yield decision


def _write_set(job: Job[Config], kept: set[str], context: Context) -> list[int]:
    """Write sft/train.parquet in an order that depends on content only; returns the token counts."""
    import datasets

    datasets.disable_progress_bars()
    rows = []
    for problem, trace in _pairs(job, Funnel([])):
        if trace.id in kept:
            turns = [message.model_dump(include={"role", "content"}) for message in problem.messages]
            rows.append(
                Row(
                    messages=(*turns, {"role": "assistant", "content": trace.text}),
                    trace_id=trace.id,
                    problem_id=problem.id,
                    set=problem.set,
                    language=problem.language,
                    licence=problem.licence,
                    source=trace.source,
                    tokens=len(context.tokenizer.encode(trace.text)),
                )
            )
    rows.sort(key=lambda row: content_id(job.config.seed, row.trace_id))
    path = job.run.sft / "train.parquet"
    partial = path.with_suffix(".partial")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if rows:
            datasets.Dataset.from_list([row.model_dump() for row in rows]).to_parquet(str(partial))
            os.replace(partial, path)
        else:
            path.unlink(missing_ok=True)
    return [row.tokens for row in rows]


class Funnel:
    """Counts of what each check rejects, alone and first."""

    def __init__(self, checks: list[str]) -> None:
        self.orphans = 0
        """Traces whose problem is no longer in the problem file."""
        self._total = self._accepted = self._undecidable = 0
        self._reasons: dict[str, Counter[str]] = {name: Counter() for name in checks}
        self._only: Counter[str] = Counter()
        self._first: Counter[str] = Counter()

    def add(self, outcomes: dict[str, Outcome], decision: Verdict) -> None:
        self._total += 1
        rejecting = [name for name, outcome in outcomes.items() if outcome.passed is False]
        for name in rejecting:
            self._reasons[name][outcomes[name].reason] += 1
        if rejecting:
            self._first[rejecting[0]] += 1
        if len(rejecting) == 1:
            self._only[rejecting[0]] += 1
        self._accepted += decision.passed is True
        self._undecidable += decision.passed is None

    def summary(self, kept: int) -> Summary:
        left = self._total
        checks = []
        for name, reasons in self._reasons.items():
            left -= self._first[name]
            checks.append(
                {
                    "check": name,
                    "rejects": reasons.total(),
                    "only": self._only[name],
                    "left": left,
                    "reasons": dict(reasons.most_common()),
                }
            )
        return {
            "traces": self._total,
            "orphans": self.orphans,
            "checks": checks,
            "undecidable": self._undecidable,
            "accepted": self._accepted,
            "kept": kept,
        }


def _worst(summary: Summary) -> str:
    counts = {f"{c['check']}:{reason}": n for c in summary["checks"] for reason, n in c["reasons"].items()}
    return max(counts, key=lambda reason: counts[reason]) if counts else "nothing to judge"
