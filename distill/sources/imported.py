"""Import: other people's traces become problems.jsonl and traces.jsonl of a run folder, by a field map.

Ids are content: a trace is its problem, its model and its text, so the same source adds nothing twice, and a cut import
goes on with the same command. A row that cannot become a trace is kept aside with its number and the reason, in
imports.rejected.jsonl. What nobody knows of an imported trace is written as such: no segments, and token counts of 0.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from distill.errors import InputError
from distill.models.reasoning import split
from distill.progress import Progress
from distill.run import Run
from distill.sources import field_maps
from distill.sources.field_maps import TAGS, FieldMap, ParsedRow, RowAttempt
from distill.sources.rows import Row, RowReader
from distill.store import jsonl
from distill.types import Problem, Record, Trace, Usage, content_id

ENGINE = "import"
"""Where a trace names the engine that sampled it."""
REJECTED = "imports.rejected.jsonl"
_TRIAL_REJECTS = 100
"""Rejects, and not one trace, after which the map is taken to be the wrong one."""


class RejectedImport(Record):
    """A row, or one attempt of it, that could not become a trace."""

    source: str
    row: int
    attempt: int | None
    """Which of the row's attempts, from 0; None for the whole row."""
    reason: str
    text: str
    """The beginning of what the map reads of the row."""


@dataclass
class ImportTally:
    """What one import did."""

    rows: int = 0
    left_out: int = 0
    """Rows that the map's `where` does not want."""
    problems: int = 0
    """New problems."""
    without_gold: int = 0
    traces: int = 0
    """New traces."""
    found: int = 0
    """Attempts that an earlier import brought."""
    repeats: int = 0
    """Attempts whose problem, model and text are those of another in this source."""
    cut: int = 0
    """New traces that did not end by themselves."""
    opened: int = 0
    """New traces whose think block was opened by the prompt."""
    rejected: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


def run(source: str, field_map: FieldMap, run_folder: Run, limit: int | None, progress: Progress) -> dict[str, Any]:
    """Read a source into a run folder; returns the summary that run.json keeps under `imports`.

    Args:
        limit: how many of the rows that the map's `where` lets in are read; None for all.

    Raises:
        InputError: the source cannot be read, or no row of it fits the map.
        RunError: another process writes this folder, or the source broke off; what was read stays.
    """
    rows = RowReader(
        source, field_map.fields(), config=field_map.config, split=field_map.split, revision=field_map.revision
    )
    started = time.monotonic()
    total = rows.total if limit is None else min(limit, rows.total or limit)
    with (
        jsonl.Log(run_folder.problems) as problems,
        jsonl.Log(run_folder.traces_file) as traces,
        jsonl.Log(run_folder.folder / REJECTED) as rejected,
    ):
        importing = _Import(rows, field_map, problems, traces, rejected)
        progress.start("import", total or 0, unit="rows")
        try:
            for _ in importing.read_rows(limit):
                progress.advance(note=f"{importing.tally.traces:,} traces")
        finally:
            progress.stop()
    summary = _summary(importing.tally, field_map, rows, limit, time.monotonic() - started)
    run_folder.update(imports=[*run_folder.state().get("imports", []), summary])
    return summary


def _summary(
    tally: ImportTally, field_map: FieldMap, rows: RowReader, limit: int | None, seconds: float
) -> dict[str, Any]:
    counts = {name: value for name, value in vars(tally).items() if name != "reasons"}
    return {
        "source": rows.source,
        "revision": rows.revision,
        "limit": limit,
        **counts,
        "reasons": dict(tally.reasons.most_common()),
        "seconds": round(seconds, 3),
        "map": field_map.model_dump(mode="json", exclude_defaults=True),
    }


def trace_id(problem: Problem, attempt: RowAttempt) -> str:
    """Identity of an attempt that somebody else sampled: what was asked, who wrote it, and what."""
    return content_id("import", problem.id, attempt.model, attempt.prefill, attempt.text)


class _Import:
    """One import under way: what the folder has already, and the logs it grows."""

    def __init__(
        self, rows: RowReader, field_map: FieldMap, problems: jsonl.Log, traces: jsonl.Log, rejected: jsonl.Log
    ) -> None:
        self.tally = ImportTally()
        self._rows = rows
        self._map = field_map
        self._problems = problems
        self._traces = traces
        self._rejected = rejected
        self._problem_ids = {str(row["id"]) for _, row in jsonl.rows(problems.path)}
        self._sample_counts: Counter[str] = Counter()
        self._earlier_ids: set[str] = set()
        for head in jsonl.heads(traces.path):
            if head.id not in self._earlier_ids:
                self._earlier_ids.add(head.id)
                self._sample_counts[head.problem_id] += 1
        self._new_ids: set[str] = set()
        self._written_rejects = {content_id(row) for _, row in jsonl.rows(rejected.path)}
        self._held_rejects: list[RejectedImport] = []
        """The first rejects, not yet written: a map that fits nothing must not copy a whole source."""

    def read_rows(self, limit: int | None) -> Iterator[None]:
        """Import the rows; yields after each."""
        for number, row in islice(self._admitted_rows(), limit):
            self.tally.rows += 1
            try:
                parsed = field_maps.parse(self._map, row)
            except ValueError as error:
                self._reject(number, None, str(error), row)
            else:
                self._add(number, parsed, row)
            yield
        if not self._map_fits():
            raise self._misfit_error()
        self._release()

    def _admitted_rows(self) -> Iterator[tuple[int, Row]]:
        for number, row in self._rows.read(self._reject_line):
            if field_maps.admits(self._map, row):
                yield number, row
            else:
                self.tally.left_out += 1

    def _reject_line(self, number: int, line: str) -> None:
        self.tally.rows += 1
        self._reject(number, None, "is not a JSON object", line)

    def _map_fits(self) -> bool:
        return bool(self.tally.traces or self.tally.found)

    def _misfit_error(self) -> InputError:
        message = f"none of its first {self.tally.rows:,} rows fits the map {self._map.name!r}"
        if not self.tally.rows:
            message = "holds no rows"
            if self.tally.left_out:
                message += f" with {self._map.where}"
        if self.tally.reasons:
            message += f"; most often one {self.tally.reasons.most_common(1)[0][0]}"
        return InputError(
            message, where=self._rows.source, fix="name another map with --map (`distill import --help`), or write one"
        )

    def _add(self, number: int, parsed: ParsedRow, row: Row) -> None:
        for attempt in parsed.attempts:
            if not attempt.text.strip():
                self._reject(number, attempt.number, "its attempt is empty", row)
                continue
            trace = self._trace(number, parsed, attempt)
            if trace.id in self._new_ids:
                self.tally.repeats += 1
            elif trace.id in self._earlier_ids:
                self.tally.found += 1
            else:
                # the problem first: a trace whose problem is missing would be an orphan
                self._add_problem(parsed.problem)
                self._traces.append(trace)
                self._new_ids.add(trace.id)
                self._sample_counts[trace.problem_id] += 1
                self.tally.traces += 1
                self.tally.cut += trace.finish != "stop"
                self.tally.opened += bool(trace.prefill)

    def _add_problem(self, problem: Problem) -> None:
        if problem.id not in self._problem_ids:
            self._problems.append(problem)
            self._problem_ids.add(problem.id)
            self.tally.problems += 1
            self.tally.without_gold += problem.answer is None

    def _trace(self, number: int, parsed: ParsedRow, attempt: RowAttempt) -> Trace:
        problem = parsed.problem
        spans = split(attempt.text, attempt.prefill, TAGS)
        row_id = parsed.source_id or str(number)
        return Trace(
            id=trace_id(problem, attempt),
            problem_id=problem.id,
            sample=self._sample_counts[problem.id],
            model=attempt.model,
            revision=None,
            template="",
            sampling=self._map.sampling,
            prompt_hash=content_id([message.content for message in problem.messages]),
            prefill=attempt.prefill,
            completion=attempt.text,
            reasoning_span=spans.reasoning,
            answer_span=spans.answer,
            finish=attempt.finish,
            usage=Usage(prompt=0, reasoning=0, answer=0),
            engine=ENGINE,
            segments=(),
            source=parsed.source or self._map.dataset or Path(self._rows.source).name,
            source_id=row_id if len(parsed.attempts) == 1 else f"{row_id}/{attempt.number}",
        )

    def _reject(self, number: int, attempt: int | None, reason: str, row: Row | str) -> None:
        self.tally.rejected += 1
        self.tally.reasons[reason] += 1
        text = row if isinstance(row, str) else orjson.dumps(row, default=str).decode()
        reject = RejectedImport(source=self._rows.source, row=number, attempt=attempt, reason=reason, text=text[:1000])
        self._held_rejects.append(reject)
        if self._map_fits():
            self._release()
        elif self.tally.rejected >= _TRIAL_REJECTS:
            raise self._misfit_error()

    def _release(self) -> None:
        """Write the rejects that were held back, those of an earlier import of the same rows apart."""
        for reject in self._held_rejects:
            key = content_id(reject.model_dump(mode="json"))
            if key not in self._written_rejects:
                self._rejected.append(reject)
                self._written_rejects.add(key)
        self._held_rejects.clear()
