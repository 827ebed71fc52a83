"""One process's part of the filter: reads a chunk of a log and says what every check makes of each trace."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from pydantic import ValidationError

from distill import plugins, verifiers
from distill.errors import InputError
from distill.filtering.earlier import EarlierOutcomes
from distill.filtering.ledger import CheckedTrace
from distill.filtering.packing import outcome_masks, pack_features, pack_outcomes
from distill.filtering.problems import ProblemIndex
from distill.filters import ChosenFilter, Context, Filter
from distill.settings.identity import settings_of
from distill.store import jsonl
from distill.text.tokens import tokens
from distill.types import Outcome, Problem, Trace, content_id

_BATCH = 64  # traces that one check after the other looks at: its code and tables stay in the processor's caches
DIED = Outcome(passed=None, reason="worker_died", detail="the process that judged this trace died of it")


@dataclass(frozen=True)
class CheckerSetup:
    """All that a process on any machine needs to run the checks; paths must mean the same there."""

    checks: Mapping[str, ChosenFilter]
    context: Context
    problem_index: Path
    earlier_ledgers: tuple[Path, ...]
    fingerprints: dict[str, str]


@dataclass(frozen=True)
class LogSlice:
    """A chunk of one source's log."""

    source: int
    chunk: jsonl.Chunk


@dataclass(frozen=True)
class CheckedSlice:
    """What the checks say of the traces of one slice."""

    log_slice: LogSlice
    rows: list[CheckedTrace]
    orphans: int
    """Traces whose problem is no longer in the problem file."""
    reused: int
    """Traces of which every outcome was known from an earlier run."""


@dataclass(frozen=True, slots=True)
class _PendingTrace:
    """A trace between its line in the log and its row in the ledger."""

    offset: int
    """Where its line begins."""
    problem: Problem
    trace: Trace
    basis: bytes
    """Hash of the trace and its problem, as in `CheckedTrace`."""
    earlier_outcomes: dict[str, Outcome]
    """Outcomes of an earlier run that still hold, by check."""
    outcomes: dict[str, Outcome]
    """Outcomes of this run, by check."""
    features: dict[str, bytes]


def build_filters(checks: Mapping[str, ChosenFilter], context: Context) -> dict[str, Filter]:
    """Build the filters, by the names of their checks.

    Raises:
        InputError: the settings of one do not go together here; names it.
    """
    return {name: chosen.build(context) for name, chosen in checks.items()}


def fingerprints(checks: Mapping[str, ChosenFilter], context: Context) -> dict[str, str]:
    """Hash, for each check, what its outcomes depend on besides the trace and its problem.

    The code of a kind counts with all that judges in it, its settings and the think tags, and what it names itself as
    its `basis`. A user's own file may ask the problems' verifiers, so where it names nothing these count for it.
    """
    version = importlib.metadata.version("distill")
    by_check = {}
    for name, check in build_filters(checks, context).items():
        kind = checks[name].kind
        code = plugins.code_of("filters", kind)
        basis = check.basis()
        if basis is None and kind.endswith(".py"):
            basis = verifiers.basis(context.verifier_kinds)
        settings = settings_of(checks[name].config)
        by_check[name] = content_id(version, kind, code, settings, context.tags.model_dump(), basis)
    return by_check


class Checker:
    """Runs all checks on slices of the logs; built once per process."""

    def __init__(self, setup: CheckerSetup) -> None:
        self._filters = build_filters(setup.checks, setup.context)
        self._problems = ProblemIndex(setup.problem_index)
        self._earlier = EarlierOutcomes(setup.earlier_ledgers, setup.fingerprints)

    def check(self, log_slice: LogSlice) -> CheckedSlice:
        """Run every check on every trace of a slice."""
        rows: list[CheckedTrace] = []
        orphans = 0
        reused = 0
        lines = jsonl.lines(log_slice.chunk)
        while batch := [*islice(lines, _BATCH)]:
            looked_up = [self._look_up(log_slice, offset, line) for offset, line in batch]
            pending_traces = [pending for pending in looked_up if pending]
            orphans += len(looked_up) - len(pending_traces)
            reused += sum(len(pending.earlier_outcomes) == len(self._filters) for pending in pending_traces)
            self._complete(pending_traces)
            rows += [_checked(log_slice, pending) for pending in pending_traces]
            tokens.cache_clear()  # a giant trace would stay in memory with its words
        return CheckedSlice(log_slice, rows, orphans, reused)

    def _look_up(self, log_slice: LogSlice, offset: int, line: bytes) -> _PendingTrace | None:
        """A trace with its problem and what is known of it; None if its problem is gone."""
        trace = _read(line, log_slice, offset)
        entry = self._problems.get_with_row(log_slice.source, trace.problem_id)
        if entry is None:
            return None
        problem, row = entry
        basis = hashlib.blake2b(row + line, digest_size=8).digest()
        earlier_outcomes, features = self._earlier.find(trace.id, basis)
        return _PendingTrace(offset, problem, trace, basis, earlier_outcomes, {}, features)

    def _complete(self, pending_traces: list[_PendingTrace]) -> None:
        """Run the checks, in the recipe's order, whose outcome is not known from an earlier run."""
        for name, check in self._filters.items():
            for pending in pending_traces:
                if name in pending.earlier_outcomes:
                    pending.outcomes[name] = pending.earlier_outcomes[name]
                    continue
                pending.outcomes[name] = check(pending.problem, pending.trace)
                feature = check.feature(pending.problem, pending.trace)
                if feature is not None:
                    pending.features[name] = feature

    def mark_undecidable(self, log_slice: LogSlice) -> CheckedSlice:
        """Mark the trace of a single line as undecidable, since its line kills the process that reads it."""
        [(offset, line)] = jsonl.lines(log_slice.chunk)
        pending = self._look_up(log_slice, offset, line)
        if pending is None:
            return CheckedSlice(log_slice, [], 1, 0)
        outcomes = dict.fromkeys(self._filters, DIED)
        return CheckedSlice(
            log_slice, [_checked(log_slice, replace(pending, basis=b"", outcomes=outcomes, features={}))], 0, 0
        )


def _checked(log_slice: LogSlice, pending: _PendingTrace) -> CheckedTrace:
    length = pending.outcomes.get("length")
    rejects, unsure = outcome_masks(pending.outcomes.values())
    return CheckedTrace(
        id=pending.trace.id,
        problem_id=pending.trace.problem_id,
        sample=pending.trace.sample,
        problem_set=pending.problem.set,
        characters=len(pending.trace.completion),
        tokens=int(length.score) if length and length.score is not None else None,
        path=log_slice.chunk.path,
        offset=pending.offset,
        basis=pending.basis,
        outcomes=pack_outcomes(pending.outcomes),
        features=pack_features(list(pending.outcomes), pending.features),
        rejects=rejects,
        undecided=unsure,
    )


def _read(line: bytes, log_slice: LogSlice, offset: int) -> Trace:
    try:
        return Trace.model_validate_json(line)
    except ValidationError as error:
        detail = error.errors()[0]
        raise InputError(
            f"the line at byte {offset} is no Trace: {'.'.join(map(str, detail['loc']))}: {detail['msg']}",
            where=log_slice.chunk.path,
            fix="the file was edited or written by another version of distill; mend or remove that line",
        ) from error
