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

_CHUNK = 8 << 20
_UNKNOWN, _FALSE, _TRUE, _OPEN, _UNCHOSEN = range(5)
"""A check's word on a trace: none, rejected, passed, undecidable; and accepted but not in the set."""
OUTCOMES = ("correct", "wrong", "cut", "loop", "undecided", "not judged")
"""What a trace was worth, by the verifier first and then by how it ended."""
ENDS = ("kept", "rejected", "not chosen", "undecided", "not filtered")
"""What the filter made of it."""


@dataclass(frozen=True)
class Attempts:
    """A row for each trace, the last one of an id."""

    outcome: Ints
    """[N] index into OUTCOMES."""
    end: Ints
    """[N] index into ENDS."""
    reasoning: Ints
    """[N] tokens, as `answer`."""
    answer: Ints
    prompt: Ints
    """[N] tokens sent for it: the prompt once a request, and again what was continued."""

    def __len__(self) -> int:
        return len(self.outcome)

    @property
    def tokens(self) -> Ints:
        """[N] completion tokens."""
        return self.reasoning + self.answer


def read(sources: Sequence[Run], judged: Run, progress: Progress) -> Attempts:
    """
    Args:
        sources: the runs whose traces were filtered; often just `judged`.
        judged: the run with the verdicts. Without any of the check `correct`, the grades of the sources count.

    Raises:
        InputError: a line of a log is not what it should be.
    """
    correct, decision, rows = _Words(), _Words(), _Rows()
    with _reading(judged.verdicts):
        _verdicts(judged.verdicts, correct, decision, progress)
    for run in sources if not correct else ():
        with _reading(run.grades):
            for row in _rows(run.grades, progress):
                correct.add(row["trace_id"], _word(row["passed"]))
    for run in sources:
        with _reading(run.traces):
            for row in _rows(run.traces, progress):
                rows.add(row)
    return rows.joined(correct, decision)


@contextmanager
def _reading(log: Path) -> Iterator[None]:
    """The logs are ours, but may have been edited."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, OverflowError, orjson.JSONDecodeError) as error:
        raise InputError(
            f"a row is not what it should be: {type(error).__name__}: {error}",
            where=str(log),
            fix="the file was edited or written by another version of distill",
        ) from error


def _verdicts(log: Path, correct: _Words, decision: _Words, progress: Progress) -> None:
    # of seven rows a trace two are wanted; quotes within a value are escaped, so this matches no text
    wanted = {b'"check":"correct"': correct, b'"check":"decision"': decision}
    for line in _lines(log, progress):
        for mark, words in wanted.items():
            if mark in line:
                row = orjson.loads(line)
                left = row["reason"] in ("not_selected", "not_drawn")
                words.add(row["trace_id"], _UNCHOSEN if left else _word(row["passed"]))


def _word(passed: bool | None) -> int:
    return _OPEN if passed is None else _TRUE if passed else _FALSE


def _lines(log: Path, progress: Progress) -> Iterator[bytes]:
    if not jsonl.exists(log):
        return
    progress.start(f"report: {log.parent.name}/{log.name}", max(1, jsonl.size(log) >> 20), 0, "MB")
    try:
        done = 0
        for chunk in jsonl.chunks(log, _CHUNK):
            for _, line in jsonl.lines(chunk):
                yield line
            progress.advance((chunk.end >> 20) - done)
            done = chunk.end >> 20
    finally:
        progress.stop()


def _rows(log: Path, progress: Progress) -> Iterator[dict[str, Any]]:
    return (orjson.loads(line) for line in _lines(log, progress))


def _key(id: str) -> int:
    """64 bits of an id, which may be anything in a log of others."""
    return int.from_bytes(blake2b(id.encode(), digest_size=8).digest(), "little")


class _Words:
    """One check's word on each trace; the last one counts."""

    def __init__(self) -> None:
        self._ids, self._words = array("Q"), array("b")

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, id: str, word: int) -> None:
        self._ids.append(_key(id))
        self._words.append(word)

    def of(self, ids: Any) -> Any:
        """[N] words on the traces of these ids."""
        import numpy as np

        if not self._ids:
            return np.full(len(ids), _UNKNOWN)
        last = _last(np.array(self._ids, dtype=np.uint64))
        known, words = np.array(self._ids, dtype=np.uint64)[last], np.array(self._words)[last]
        at = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        return np.where(known[at] == ids, words[at], _UNKNOWN)


class _Rows:
    """The few numbers of each trace."""

    def __init__(self) -> None:
        self._ids, self._ends = array("Q"), array("b")
        self._reasoning, self._answer, self._prompt = array("I"), array("I"), array("Q")

    def add(self, row: dict[str, Any]) -> None:
        usage = row["usage"]
        self._ids.append(_key(row["id"]))
        self._ends.append({"length": 1, "repetition": 2}.get(row["finish"], 0))
        self._reasoning.append(usage["reasoning"])
        self._answer.append(usage["answer"])
        sent, so_far = 0, usage["prompt"]
        for segment in row["segments"]:
            sent += so_far
            so_far += segment["tokens"]
        self._prompt.append(sent)

    def joined(self, correct: _Words, decision: _Words) -> Attempts:
        import numpy as np

        ids = np.array(self._ids, dtype=np.uint64)
        last = _last(ids)
        ids = ids[last]
        verdicts, ends = correct.of(ids), np.array(self._ends, dtype=np.int64)[last]
        of_filter = decision.of(ids)
        names = {name: number for number, name in enumerate(OUTCOMES)}
        outcome = np.select(
            [verdicts == _TRUE, verdicts == _OPEN, ends == 1, ends == 2, verdicts == _FALSE],
            [names[name] for name in ("correct", "undecided", "cut", "loop", "wrong")],
            names["not judged"],
        )
        made = {_TRUE: "kept", _FALSE: "rejected", _UNCHOSEN: "not chosen", _OPEN: "undecided"}
        end = np.select(
            [of_filter == word for word in made], [ENDS.index(name) for name in made.values()], len(ENDS) - 1
        )
        numbers = [np.array(one, dtype=np.int64)[last] for one in (self._reasoning, self._answer, self._prompt)]
        return Attempts(outcome, end, *numbers)


def _last(ids: Any) -> Any:
    """Where the last row of each id stands, in the order of the ids."""
    import numpy as np

    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    return order[np.append(ordered[1:] != ordered[:-1], True)] if len(ids) else order
