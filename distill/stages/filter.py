"""filter: every check on every trace, a decision for each, and the set to train on."""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from distill.errors import InputError, RunError
from distill.filtering import executors, funnel, training
from distill.filtering.earlier import is_usable
from distill.filtering.funnel import CheckCounts, GroupCounts
from distill.filtering.judge import CheckedSlice, CheckerSetup, LogSlice, build_filters, fingerprints
from distill.filtering.ledger import Ledger
from distill.filtering.problems import ProblemIndex
from distill.filtering.selection import Selection, order_key, select
from distill.filters import ChosenFilter, ChosenFilters, Context, Filter
from distill.machine import hardware
from distill.models import presets
from distill.problems.verifier_files import own_verifiers
from distill.run import Run, write_json
from distill.sources.mix import DrawnSource, Mix, MixSource
from distill.stages import Stage, StageJob, StageSummary, quantiles
from distill.store import jsonl
from distill.types import NO_RESULT, Message, Record

CHUNK = 1 << 20
"""Bytes of a log that a process judges at a time."""


class Config(Record):
    checks: ChosenFilters = Field(default_factory=lambda: {"correct": ChosenFilter.of({}, "correct")})
    """Checks by name with their settings, in the order in which the first reject reason is taken; false switches one
    off."""
    traces: Annotated[tuple[str, ...], NO_RESULT] = ()
    """Other run folders whose traces are filtered instead of this run's."""
    limit: int | None = Field(None, ge=1)
    """Only the first so many traces are judged, over all logs; None judges all."""
    select: Selection = Selection()
    """Rules that choose traces to train on among the accepted ones."""
    mix: dict[str, MixSource] = {}
    """General data beside the reasoning, by name; each source is a share of the final set."""
    unfiltered: bool = False
    """Train on as many traces as would be chosen, but drawn at random from all, for comparison."""
    examples: Annotated[int, NO_RESULT] = Field(5, ge=0)
    """Number of kept traces, and of rejected ones of each reason, that funnel.json names to read with `distill
    show`."""
    on: Annotated[Literal["here", "ray"], NO_RESULT] = "here"
    """Place where traces are judged: this machine (`here`) or a Ray cluster (RAY_ADDRESS)."""
    processes: Annotated[int | None, NO_RESULT] = Field(None, ge=1)
    """Processes on this machine; None takes all cores that it may use."""
    seed: int = 0
    """Seed of what is drawn: the choice of traces, the mix and their order."""

    def active(self) -> dict[str, ChosenFilter]:
        """The checks that are switched on."""
        return {name: chosen for name, chosen in self.checks.items() if chosen}


def sources(job: StageJob[Config]) -> list[Run]:
    return [Run(Path(folder)) for folder in job.config.traces] or [job.run]


class FilterSummary(StageSummary):
    """What every check did to the traces; funnel.json holds the same."""

    traces: int
    checks: tuple[CheckCounts, ...]
    undecidable: int
    accepted: int
    kept: int
    by_set: dict[str, GroupCounts]
    by_length: dict[str, GroupCounts]
    examples: dict[str, list[str]]
    """Ids of some traces to read, by `check:reason` and `kept`."""
    orphans: int
    """Traces whose problem is not there."""
    repeats: int
    """Traces that were in the logs more than once."""
    reused: int
    """Traces of which every outcome was known from an earlier run."""
    tokens: dict[str, int | float]
    """Student tokens of the kept traces: `total` and quantiles."""
    mix: tuple[DrawnSource, ...] = ()

    def line(self) -> str:
        text = f"{self.kept:,} of {self.traces:,} traces kept"
        if self.reused:
            text += f" ({self.reused:,} judged before)"
        return f"{text}, {self.tokens['total']:,} student tokens"


class FilterStage(Stage[Config]):
    summary = FilterSummary

    def inputs(self, job: StageJob[Config]) -> dict[str, Path]:
        return {str(path): path for run in sources(job) for path in (run.problems, run.traces_file, run.rates)}

    def outputs(self, run: Run) -> list[Path]:
        return [run.verdicts_file, run.sft]

    def facts(self, job: StageJob[Config]) -> dict[str, str]:
        """Fingerprints of code and files that outcomes depend on besides settings, as a user's own filter."""
        return fingerprints(job.config.active(), _context(job))

    def run(self, job: StageJob[Config]) -> FilterSummary:
        """Judge all traces, write verdicts.jsonl, funnel.json and sft/train.parquet.

        An earlier run's outcome still holds where trace, problem and check have not changed.

        Raises:
            InputError: there are no traces, or a filter's settings are wrong.
            RunError: nothing is left to train on.
        """
        summary = _filter(job, job.run)
        if not summary.kept:
            raise RunError(
                f"no trace of {summary.traces:,} was accepted; most often: {_commonest_reject(summary)}",
                where=str(job.run.funnel),
                fix="read some with `distill show`, then loosen that check or mend the teacher's prompt",
            )
        return summary

    def preview(self, job: StageJob[Config]) -> FilterSummary:
        """The summary that `run` would return, without changing anything."""
        scratch = job.run.folder if job.run.folder.is_dir() else None  # Ray's machines share that folder, not /tmp
        with tempfile.TemporaryDirectory(dir=scratch, prefix=".preview") as folder:
            return _filter(job, Run(Path(folder)))


STAGE = FilterStage()


def _context(job: StageJob[Config]) -> Context:
    return Context(
        student=job.student.model,
        revision=job.student.revision,
        template=presets.template(job.student),
        tags=job.teacher.think,
        benchmarks=job.benchmarks,
        cache=job.run.folder / "judge.jsonl",
        verifier_kinds=own_verifiers(run.problems for run in sources(job)),
    )


def _filter(job: StageJob[Config], output_run: Run) -> FilterSummary:
    config = job.config
    checks = config.active()
    _check_traces(sources(job))
    context = _context(job)
    filters = build_filters(checks, context)
    _check_needs(filters)
    check_fingerprints = fingerprints(checks, context)
    interrupted = output_run.ledger.with_suffix(".interrupted")
    ledger_path = output_run.ledger.with_suffix(".partial")
    if is_usable(ledger_path):
        os.replace(ledger_path, interrupted)
    earlier = [run.ledger for run in (job.run, *sources(job))] + [interrupted]
    index = output_run.ledger.with_suffix(".problems")
    ProblemIndex.write(index, sources(job))
    setup = CheckerSetup(checks, context, index, tuple(path for path in earlier if is_usable(path)), check_fingerprints)
    with Ledger(ledger_path, check_fingerprints) as ledger, contextlib.closing(ProblemIndex(index)) as problems:
        orphans, reused = _judge(job, setup, ledger)
        for name, check in filters.items():
            ledger.settle(name, check.settle(ledger.candidates(name, problems)))
        ledger.keep(select(ledger, problems, config.select, config.seed, config.unfiltered))
        outcome_counts = funnel.Funnel(list(checks), config.examples)
        jsonl.write(output_run.verdicts_file, _verdicts(ledger, outcome_counts, config.unfiltered))
        tokens, mix_reports = _write_set(job, output_run, ledger, training.rows(ledger, problems, context), context)
        repeats = ledger.repeats
    for path in (index, interrupted):
        path.unlink(missing_ok=True)
    os.replace(ledger_path, output_run.ledger)
    summary = FilterSummary.model_validate(
        {
            **outcome_counts.summary(),
            "orphans": orphans,
            "repeats": repeats,
            "reused": reused,
            "tokens": {"total": sum(tokens), **quantiles(tokens)},
            "mix": mix_reports,
        }
    )
    write_json(output_run.funnel, summary.model_dump(mode="json"))
    return summary


def _commonest_reject(summary: FilterSummary) -> str:
    """The commonest reason for rejecting, as `check:reason`."""
    counts = {f"{check.check}:{reason}": count for check in summary.checks for reason, count in check.reasons.items()}
    return max(counts, key=lambda reason: counts[reason], default="nothing to judge")


def _check_traces(runs: list[Run]) -> None:
    for run in runs:
        for path in (run.traces_file, run.problems):
            if not jsonl.exists(path):
                raise InputError(
                    "there are no traces to filter",
                    where=str(path),
                    fix="run `distill generate` or `distill import` first, or name a run with --traces or --run",
                )


def _check_needs(filters: Mapping[str, Filter]) -> None:
    for name, check in filters.items():
        missing = [needed for needed in check.needs if needed not in filters]
        if missing:
            raise InputError(
                f"asks for the check {missing[0]!r}, which is off",
                where=f"filter.checks.{name}",
                fix=f"add `{missing[0]}: {{}}` to filter.checks",
            )


def _judge(job: StageJob[Config], setup: CheckerSetup, ledger: Ledger) -> tuple[int, int]:
    """Fill the ledger; returns how many traces lack their problem and of how many every outcome was known."""
    config = job.config
    shares = [
        LogSlice(number, chunk)
        for number, run in enumerate(sources(job))
        for chunk in jsonl.chunks(run.traces_file, CHUNK)
    ]
    size = sum(share.chunk.end - share.chunk.start for share in shares)
    job.progress.start("filter", math.ceil(size / 2**20), unit="MB")
    orphans = 0
    reused = 0
    read = 0
    for judged in _judged_shares(config, setup, shares):
        ledger.add(judged.rows, judged.log_slice.source, config.limit)
        orphans += judged.orphans
        reused += judged.reused
        read_before = read
        read += judged.log_slice.chunk.end - judged.log_slice.chunk.start
        job.progress.advance(math.ceil(read / 2**20) - math.ceil(read_before / 2**20), f"{ledger.count:,} traces")
        if ledger.count == config.limit:
            break
    ledger.sort()
    job.progress.stop()
    return orphans, reused


def _judged_shares(config: Config, setup: CheckerSetup, shares: list[LogSlice]) -> Iterator[CheckedSlice]:
    if config.on == "ray":
        return executors.ray(setup, shares)
    processes = min(config.processes or len(hardware.processors()), len(shares))
    if processes > 1:
        return executors.pool(setup, shares, processes)
    return executors.in_process(setup, shares)


def _verdicts(
    ledger: Ledger, outcome_counts: funnel.Funnel, unfiltered: bool
) -> Iterator[dict[str, bool | str | float | None]]:
    """Rows of verdicts.jsonl, the fields of `Verdict`."""
    for entry in ledger.entries():
        outcome_counts.add(entry)
        decision = funnel.final_decision(entry, unfiltered)
        for name, outcome in (*entry.outcomes.items(), ("decision", decision)):
            yield {
                "trace_id": entry.id,
                "check": name,
                "passed": outcome.passed,
                "reason": outcome.reason,
                "score": outcome.score,
                "detail": outcome.detail,
            }


def _write_set(
    job: StageJob[Config], output_run: Run, ledger: Ledger, kept_rows: Iterator[training.OrderedRow], context: Context
) -> tuple[Sequence[int], list[DrawnSource]]:
    """Write the set; returns the tokens of the kept traces and a report on each source of general data."""
    config = job.config
    tokens = array("q")
    mixes = []

    def rows() -> Iterator[training.OrderedRow]:
        for placed_row in kept_rows:
            tokens.append(placed_row[1].tokens)
            yield placed_row
        if config.mix:  # shares are of the whole, so the size of the rest must be known
            mix = _mix(job, tokens, context)
            mixes.append(mix)
            yield from ((order_key(config.seed, row.trace_id), row) for row in mix)

    path = output_run.sft / "train.parquet"
    if ledger.kept_bytes():
        training.write(path, rows(), ledger.kept_bytes())
    else:
        path.unlink(missing_ok=True)
    mix_reports = mixes[0].report() if mixes else []
    return tokens, mix_reports


def _mix(job: StageJob[Config], tokens: Sequence[int], context: Context) -> Mix:
    thinks = bool(context.tokenizer.prompt((Message(role="user", content="?"),), job.student.think).prefill)
    return Mix(
        job.config.mix,
        len(tokens),
        sum(tokens),
        count_tokens=context.tokenizer.count,
        tags=job.student.think,
        thinks=thinks,
        seed=job.config.seed,
        progress=job.progress,
    )
