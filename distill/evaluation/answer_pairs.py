"""Gold and predicted answers in, verdicts out: what `distill verify` does, on all cores, in the order of the input.

A row is `{"gold", "pred", "kind"?, "id"?, "expected"?}`; other fields are ignored. `pred` may be a bare answer or a
whole reply, of which everything up to the last `</think>` is left out. A row that makes no sense gets a verdict as
well: passed null, reason `bad_row`.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext, suppress
from functools import cache, partial
from pathlib import Path
from typing import IO, NamedTuple

from distill import plugins
from distill.errors import DistillError, InputError, RunError
from distill.machine import hardware
from distill.machine.workers import Workers, single_items
from distill.models.reasoning import Tags
from distill.progress import Progress
from distill.store.replacing import replacing
from distill.types import Outcome
from distill.verifiers import ChosenVerifier, Verifier

_CHUNK_ROWS = 200  # that a worker takes at a time; more are fewer trips, fewer spread slow rows better
_CHUNK_BYTES = 1 << 20  # of long rows it takes fewer

NumberedLine = tuple[int, bytes]


class JudgedPair(NamedTuple):
    """A row's verdict, and what the summary needs of it."""

    line_number: int
    """Line number in the file, from 1."""
    verdict_line: bytes
    """The verdict as a line of JSON."""
    passed: bool | None
    reason: str
    expected: bool | None
    """What the row itself says is right, if it does."""


class BadRow(Exception):
    pass


def verify(path: Path, kind: str = "math", workers: int | None = None) -> Iterator[JudgedPair]:
    """Verdicts on the rows of a JSONL file, in their order; reads no further ahead than the workers need.

    Args:
        kind: of the rows that name none; only here can it be a file, since rows come from elsewhere.
        workers: processes; None for one a core.

    Raises:
        InputError: the file cannot be read or is empty, or there is no verifier `kind` that works without settings.
        RunError: a verifier cannot work here at all (no sandbox, say).
    """
    _verifier(kind)
    judged = None
    for judged in _all_judged(_chunks(_lines(path)), kind, workers or len(hardware.processors())):
        yield judged
    if judged is None:
        raise InputError("holds no rows", where=str(path), fix='give lines such as {"gold": "1/2", "pred": "0.5"}')


def outcomes(rows: Iterable[Mapping[str, object]], kind: str = "math", workers: int = 1) -> Iterator[Outcome]:
    """Outcomes on rows that are in memory, in their order; as `verify` on their JSON lines.

    Args:
        kind: of the rows that name none.
        workers: processes; one is this process.
    """
    _verifier(kind)
    # what JSON does not have, such as a fraction or a number of numpy's, is judged as it is written
    lines = ((number, json.dumps({**row}, default=str).encode()) for number, row in enumerate(rows, 1))
    for judged in _all_judged(_chunks(lines), kind, workers):
        fields = json.loads(judged.verdict_line)
        yield Outcome(**{name: fields[name] for name in Outcome.model_fields})


class Summary:
    """Counts over verdicts."""

    def __init__(self) -> None:
        self.total = 0
        self.reasons: dict[bool | None, Counter[str]] = {True: Counter(), False: Counter(), None: Counter()}
        self.labelled = 0
        """Number of rows with a boolean `expected`."""
        self.agreed = 0
        """Number of labelled rows whose verdict is the expected one."""
        self.disagreed: list[int] = []
        """Line numbers of the first labelled rows whose verdict is another."""

    def add(self, judged: JudgedPair) -> None:
        self.total += 1
        self.reasons[judged.passed][judged.reason] += 1
        if judged.expected is not None:
            self.labelled += 1
            self.agreed += judged.passed is judged.expected
            if judged.passed is not judged.expected and len(self.disagreed) < 20:
                self.disagreed.append(judged.line_number)

    def count(self, passed: bool | None) -> int:
        return self.reasons[passed].total()


def write_verdicts(source: Path, target: Path | IO[bytes], kind: str, progress: Progress) -> Summary:
    """Write the verdicts on the rows of a JSONL file, a line each in their order, and count them.

    Args:
        target: a file that is replaced once all verdicts are in it, or a stream that gets each as it comes.

    Raises:
        InputError: as `verify`, or the target is the source.
        RunError: as `verify`, or stopped, or the target cannot be written.
    """
    if not source.is_file():
        raise InputError("no such file", where=str(source), fix="give a JSONL file of gold and predicted answers")
    path = target if isinstance(target, Path) else None
    if path and path.exists() and path.samefile(source):
        raise InputError("would replace the pairs themselves", where=str(path), fix="give --out another name")
    summary = Summary()
    progress.start("verify", _count_rows(source), unit="pairs")
    try:
        with replacing(target) if isinstance(target, Path) else nullcontext(target) as file:
            for judged in verify(source, kind):
                file.write(judged.verdict_line)
                summary.add(judged)
                progress.advance()
            file.flush()
    except KeyboardInterrupt as interrupt:
        state = f"{path} is as it was" if path else "the rows so far are whole"
        raise RunError(f"stopped; {state}", fix="the same command begins anew") from interrupt
    finally:
        progress.stop()
    return summary


def _count_rows(source: Path) -> int:
    with source.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def _lines(path: Path) -> Iterator[NumberedLine]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path)) from error
    with file:
        yield from ((number, line) for number, line in enumerate(file, 1) if not line.isspace())


def _chunks(lines: Iterable[NumberedLine]) -> Iterator[list[NumberedLine]]:
    chunk: list[NumberedLine] = []
    size = 0
    for line in lines:
        chunk.append(line)
        size += len(line[1])
        if len(chunk) == _CHUNK_ROWS or size >= _CHUNK_BYTES:
            yield chunk
            chunk = []
            size = 0
    if chunk:
        yield chunk


def _all_judged(chunks: Iterator[list[NumberedLine]], kind: str, workers: int) -> Iterator[JudgedPair]:
    first_chunks = list(itertools.islice(chunks, 2))
    if workers == 1 or len(first_chunks) < 2:  # too little to be worth starting processes
        for chunk in itertools.chain(first_chunks, chunks):
            yield from judge_lines(chunk, kind)
        return
    with Workers(partial(judge_lines, kind=kind), workers, split=single_items, on_death=_worker_died) as crew:
        for judged in crew.each(itertools.chain(first_chunks, chunks)):
            yield from judged


def _worker_died(chunk: list[NumberedLine]) -> list[JudgedPair]:
    """The verdict on a row that killed its worker."""
    [(number, line)] = chunk
    row: dict[str, object] = {}
    with suppress(BadRow):
        row = _read(line)
    return [_judged_row(number, row, Outcome(passed=None, reason="worker_died"))]


def judge_lines(lines: list[NumberedLine], kind: str) -> list[JudgedPair]:
    """Verdicts on some rows, in a worker."""
    return [_judge_line(number, line, kind) for number, line in lines]


def _judge_line(number: int, line: bytes, kind: str) -> JudgedPair:
    row: dict[str, object] = {}
    try:
        row = _read(line)
        outcome = _outcome(row, kind)
    except (BadRow, InputError) as error:
        message = error.message if isinstance(error, InputError) else str(error)
        outcome = Outcome(passed=None, reason="bad_row", detail=f"line {number}: {message}"[:300])
    return _judged_row(number, row, outcome)


def _read(line: bytes) -> dict[str, object]:
    """The row; by the standard library, since orjson would round integers beyond 64 bits."""
    try:
        row = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BadRow(f"is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise BadRow("is not a JSON object")
    return row


def _refuse_constant(constant: str) -> None:
    raise ValueError(constant)


def _outcome(row: dict[str, object], kind: str) -> Outcome:
    gold = row.get("gold")
    prediction = row.get("pred", ...)
    if gold is None:
        raise BadRow("has no `gold`")
    if prediction is ...:
        raise BadRow("has no `pred`")
    if prediction is not None and (isinstance(prediction, bool) or not isinstance(prediction, str | int | float)):
        raise BadRow(f"`pred` should be a text: {prediction!r:.80}")
    verifier = _verifier(_kind(row, kind))
    try:
        return verifier.verify(gold, after_reasoning("" if prediction is None else str(prediction)))
    except DistillError:
        raise
    except Exception as error:  # noqa: BLE001  a named boundary: a verifier's bug costs one row, and shows
        detail = f"{type(error).__name__}: {error}"[:200]
        return Outcome(passed=None, reason="verifier_error", detail=detail)


def _kind(row: dict[str, object], default: str) -> str:
    kind = row.get("kind")
    if kind is None or kind == default:
        return default
    kinds = plugins.names("verifiers")
    if kind not in kinds:
        raise BadRow(f"unknown kind {kind!r:.80}; choices: {', '.join(kinds)}")
    return str(kind)


@cache
def _verifier(kind: str) -> Verifier:
    return ChosenVerifier.of({"kind": kind}, where=f"verifier {kind}").build()


def after_reasoning(reply: str) -> str:
    """What a reply says outside its reasoning: after the last closing tag, and before one that opens without end."""
    tags = Tags()
    return reply.rpartition(tags.close)[2].partition(tags.open)[0]


def _judged_row(number: int, row: dict[str, object], outcome: Outcome) -> JudgedPair:
    fields = {"id": row["id"]} if "id" in row else {}
    text = json.dumps(fields | outcome.model_dump(), ensure_ascii=False, separators=(",", ":")) + "\n"
    expected = row.get("expected")
    return JudgedPair(
        line_number=number,
        verdict_line=text.encode(errors="backslashreplace"),  # half a surrogate pair stays the escape that it was
        passed=outcome.passed,
        reason=outcome.reason,
        expected=expected if isinstance(expected, bool) else None,
    )
