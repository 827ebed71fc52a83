"""The set to train on: rows in an order that depends on their content only, written to parquet in bounded memory."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import orjson

from distill.filtering.ledger import Ledger
from distill.filtering.problems import ProblemIndex
from distill.filters import Context
from distill.store import jsonl
from distill.store.replacing import replacing_path
from distill.types import Problem, Trace, TrainingRow

OrderedRow = tuple[bytes, TrainingRow]
_BUCKET_BYTES = 64 << 20
"""About how many bytes are sorted in memory at once."""
_MAX_BUCKETS = 500
"""Buckets at most, since each is an open file."""


def rows(ledger: Ledger, problems: ProblemIndex, context: Context) -> Iterator[OrderedRow]:
    """The chosen traces as rows, each behind its order key."""
    chosen, chosen_again = itertools.tee(ledger.kept_rows())
    lines = jsonl.lines_at((path, offset) for _, _, path, offset, _ in chosen_again)
    for (order_key, source, _, _, known_tokens), line in zip(chosen, lines, strict=True):
        trace = Trace.model_validate_json(line)
        problem = problems.get(source, trace.problem_id)
        assert problem is not None, "a trace without its problem is never chosen"
        tokens = context.tokenizer.count(trace.text) if known_tokens is None else known_tokens
        yield order_key, _row(problem, trace, tokens)


def _row(problem: Problem, trace: Trace, tokens: int) -> TrainingRow:
    turns = [message.model_dump(include={"role", "content"}) for message in problem.messages]
    return TrainingRow(
        messages=(*turns, {"role": "assistant", "content": trace.text}),
        trace_id=trace.id,
        problem_id=problem.id,
        teacher=trace.model,
        set=problem.set,
        language=problem.language,
        licence=problem.licence,
        source=trace.source,
        tokens=tokens,
    )


def write(path: Path, ordered: Iterable[OrderedRow], total_bytes: int) -> None:
    """Write rows by their order keys: dealt into buckets on disk by a key's first bytes, then sorted bucket by bucket.

    Args:
        total_bytes: about how many bytes the rows have in all.
    """
    import pyarrow
    import pyarrow.parquet

    message_type = pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())])
    text_columns = [(name, pyarrow.string()) for name in TrainingRow.model_fields if name not in ("messages", "tokens")]
    schema = pyarrow.schema([("messages", pyarrow.list_(message_type)), *text_columns, ("tokens", pyarrow.int64())])
    with replacing_path(path) as partial, tempfile.TemporaryDirectory(dir=path.parent, prefix=".sorting") as folder:
        buckets = _fill_buckets(ordered, Path(folder), min(total_bytes // _BUCKET_BYTES + 1, _MAX_BUCKETS))
        with pyarrow.parquet.ParquetWriter(partial, schema) as writer:
            for bucket in buckets:
                for batch in _sorted_batches(bucket):
                    writer.write_batch(pyarrow.RecordBatch.from_pylist(batch, schema=schema))


def _fill_buckets(ordered: Iterable[OrderedRow], folder: Path, count: int) -> list[Path]:
    paths = [folder / str(bucket) for bucket in range(count)]
    files = [path.open("wb") for path in paths]
    try:
        for order_key, row in ordered:
            line = orjson.dumps([order_key.hex(), row.model_dump(mode="json")]) + b"\n"
            files[int.from_bytes(order_key[:4], "big") * count >> 32].write(line)
    finally:
        for file in files:
            file.close()
    return paths


def _sorted_batches(bucket: Path, size: int = 500) -> Iterator[list[dict[str, object]]]:
    with bucket.open("rb") as file:
        lines = sorted(file)  # each begins with its order key
    for start in range(0, len(lines), size):
        yield [orjson.loads(line)[1] for line in lines[start : start + size]]
