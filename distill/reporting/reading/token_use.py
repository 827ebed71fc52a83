"""What became of each trace and its tokens, from one pass over each log; some thirty bytes a trace are kept."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from distill.errors import InputError
from distill.progress import Progress
from distill.run import Run
from distill.store import jsonl

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

_CHUNK_BYTES = 8 << 20
_NO_VERDICT, _REJECTED, _PASSED, _UNDECIDABLE, _NOT_CHOSEN = range(5)
"""A check's verdict on a trace: none, rejected, passed, undecidable; and accepted but not in the set."""
OUTCOMES = ("correct", "wrong", "cut", "loop", "undecided", "not judged")
"""What a trace was worth: the verifier's verdict counts first, then how the trace ended."""
DECISIONS = ("kept", "rejected", "not chosen", "undecided", "not filtered")
"""What the filter decided on a trace."""


@dataclass(frozen=True)
class Attempts:
    """Columns with a row for each trace; of several log rows with one id the last counts."""

    outcome: Ints
    """[N] index into OUTCOMES."""
    decision: Ints
    """[N] index into ENDS."""
    reasoning: Ints
    """[N] tokens of the reasoning."""
    answer: Ints
    """[N] tokens of the answer."""
    prompt: Ints
    """[N] tokens sent for the trace: the prompt once a request, and again what was continued."""

    def __len__(self) -> int:
        return len(self.outcome)

    @property
    def tokens(self) -> Ints:
        """[N] completion tokens."""
        return self.reasoning + self.answer


def read(sources: Sequence[Run], judged_run: Run, progress: Progress) -> Attempts:
    """Count what became of every trace of some runs.

    Args:
        sources: the runs whose traces were filtered; often just `judged_run`.
        judged_run: the run with the verdicts. Without any of the check `correct`, the grades of the sources count.

    Raises:
        InputError: a line of a log is not what it should be.
    """
    correctness = _VerdictTable()
    decisions = _VerdictTable()
    traces = _TraceTable()
    with _row_errors(judged_run.verdicts_file):
        _read_verdicts(judged_run.verdicts_file, correctness, decisions, progress)
    if not correctness:
        for run in sources:
            with _row_errors(run.grades):
                for row in _read_rows(run.grades, progress):
                    correctness.add(row["trace_id"], _verdict_code(row["passed"]))
    for run in sources:
        with _row_errors(run.traces_file):
            for row in _read_rows(run.traces_file, progress):
                traces.add(row)
    return traces.joined(correctness, decisions)


@contextmanager
def _row_errors(log: Path) -> Iterator[None]:
    """Rows that are not what they should be become an InputError: the logs are ours, but may have been edited."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, OverflowError, orjson.JSONDecodeError) as error:
        raise InputError(
            f"a row is not what it should be: {type(error).__name__}: {error}",
            where=str(log),
            fix="the file was edited or written by another version of distill",
        ) from error


def _read_verdicts(log: Path, correctness: _VerdictTable, decisions: _VerdictTable, progress: Progress) -> None:
    # of seven rows a trace two are wanted; quotes within a value are escaped, so this matches no text
    table_by_marker = {b'"check":"correct"': correctness, b'"check":"decision"': decisions}
    for line in _read_lines(log, progress):
        for marker, table in table_by_marker.items():
            if marker in line:
                row = orjson.loads(line)
                not_chosen = row["reason"] in ("not_selected", "not_drawn")
                table.add(row["trace_id"], _NOT_CHOSEN if not_chosen else _verdict_code(row["passed"]))


def _verdict_code(passed: bool | None) -> int:
    if passed is None:
        return _UNDECIDABLE
    return _PASSED if passed else _REJECTED


def _read_lines(log: Path, progress: Progress) -> Iterator[bytes]:
    if not jsonl.exists(log):
        return
    progress.start(f"report: {log.parent.name}/{log.name}", max(1, jsonl.size(log) >> 20), 0, "MB")
    try:
        done_mb = 0
        for chunk in jsonl.chunks(log, _CHUNK_BYTES):
            for _, line in jsonl.lines(chunk):
                yield line
            progress.advance((chunk.end >> 20) - done_mb)
            done_mb = chunk.end >> 20
    finally:
        progress.stop()


def _read_rows(log: Path, progress: Progress) -> Iterator[dict[str, Any]]:
    return (orjson.loads(line) for line in _read_lines(log, progress))


def _id_hash(id: str) -> int:
    """64 bits of an id, which may be anything in a log of others."""
    return int.from_bytes(blake2b(id.encode(), digest_size=8).digest(), "little")


class _VerdictTable:
    """One check's verdict on each trace; the last one counts."""

    def __init__(self) -> None:
        self._ids = array("Q")
        self._verdicts = array("b")

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, id: str, verdict: int) -> None:
        self._ids.append(_id_hash(id))
        self._verdicts.append(verdict)

    def for_ids(self, ids: Any) -> Any:
        """[N] verdicts on the traces of these ids."""
        import numpy as np

        if not self._ids:
            return np.full(len(ids), _NO_VERDICT)
        last_rows = _last_positions(np.array(self._ids, dtype=np.uint64))
        known_ids = np.array(self._ids, dtype=np.uint64)[last_rows]
        verdicts = np.array(self._verdicts)[last_rows]
        positions = np.minimum(np.searchsorted(known_ids, ids), len(known_ids) - 1)
        return np.where(known_ids[positions] == ids, verdicts[positions], _NO_VERDICT)


class _TraceTable:
    """The few numbers of each trace."""

    def __init__(self) -> None:
        self._ids = array("Q")
        self._finishes = array("b")
        self._reasoning = array("I")
        self._answer = array("I")
        self._prompt = array("Q")

    def add(self, row: dict[str, Any]) -> None:
        usage = row["usage"]
        self._ids.append(_id_hash(row["id"]))
        self._finishes.append({"length": 1, "repetition": 2}.get(row["finish"], 0))
        self._reasoning.append(usage["reasoning"])
        self._answer.append(usage["answer"])
        prompt_tokens = 0
        context_tokens = usage["prompt"]
        for segment in row["segments"]:
            prompt_tokens += context_tokens
            context_tokens += segment["tokens"]
        self._prompt.append(prompt_tokens)

    def joined(self, correctness: _VerdictTable, decisions: _VerdictTable) -> Attempts:
        import numpy as np

        ids = np.array(self._ids, dtype=np.uint64)
        last_rows = _last_positions(ids)
        ids = ids[last_rows]
        verdicts = correctness.for_ids(ids)
        finishes = np.array(self._finishes, dtype=np.int64)[last_rows]
        filter_decisions = decisions.for_ids(ids)
        outcome_numbers = {name: number for number, name in enumerate(OUTCOMES)}
        outcome = np.select(
            [verdicts == _PASSED, verdicts == _UNDECIDABLE, finishes == 1, finishes == 2, verdicts == _REJECTED],
            [outcome_numbers[name] for name in ("correct", "undecided", "cut", "loop", "wrong")],
            outcome_numbers["not judged"],
        )
        decision_names = {_PASSED: "kept", _REJECTED: "rejected", _NOT_CHOSEN: "not chosen", _UNDECIDABLE: "undecided"}
        decision = np.select(
            [filter_decisions == code for code in decision_names],
            [DECISIONS.index(name) for name in decision_names.values()],
            len(DECISIONS) - 1,
        )
        token_columns = [
            np.array(column, dtype=np.int64)[last_rows] for column in (self._reasoning, self._answer, self._prompt)
        ]
        return Attempts(outcome, decision, *token_columns)


def _last_positions(ids: Any) -> Any:
    """Where the last row of each id stands, in the order of the ids."""
    import numpy as np

    order = np.argsort(ids, kind="stable")
    if not len(ids):
        return order
    ordered = ids[order]
    return order[np.append(ordered[1:] != ordered[:-1], True)]
