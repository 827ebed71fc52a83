"""The set to train on: rows in an order that depends on their content only, written to parquet in bounded memory."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from distill.errors import writing
from distill.filtering.ledger import Ledger
from distill.filtering.problems import Problems
from distill.filters import Context
from distill.store import jsonl
from distill.types import Problem, Trace, TrainingRow

Placed = tuple[bytes, TrainingRow]
_BUCKET = 64 << 20
"""Bytes that are sorted in memory at once, about."""
_MOST = 500
"""Buckets, each an open file."""


def rows(ledger: Ledger, problems: Problems, context: Context) -> Iterator[Placed]:
    """The chosen traces as rows, each with its place in the set."""
    kept, addressed = itertools.tee(ledger.kept())
    lines = jsonl.lines_at((path, at) for _, _, path, at, _ in addressed)
    for (place, source, _, _, tokens), line in zip(kept, lines, strict=True):
        trace = Trace.model_validate_json(line)
        problem = problems.get(source, trace.problem_id)
        assert problem is not None, "a trace without its problem is never chosen"
        yield place, _row(problem, trace, context.tokenizer.count(trace.text) if tokens is None else tokens)


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


def write(path: Path, placed: Iterable[Placed], size: int) -> None:
    """Write rows by place: dealt into buckets on disk by the place's first bytes, then sorted bucket by bucket.

    Args:
        size: about how many bytes the rows have in all.
    """
    import pyarrow
    import pyarrow.parquet

    message = pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())])
    texts = [(name, pyarrow.string()) for name in TrainingRow.model_fields if name not in ("messages", "tokens")]
    schema = pyarrow.schema([("messages", pyarrow.list_(message)), *texts, ("tokens", pyarrow.int64())])
    partial = path.with_suffix(".partial")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".sorting") as folder:
            buckets = _deal(placed, Path(folder), min(size // _BUCKET + 1, _MOST))
            with pyarrow.parquet.ParquetWriter(partial, schema) as writer:
                for bucket in buckets:
                    for batch in _batches(bucket):
                        writer.write_batch(pyarrow.RecordBatch.from_pylist(batch, schema=schema))
        os.replace(partial, path)


def _deal(placed: Iterable[Placed], folder: Path, count: int) -> list[Path]:
    paths = [folder / str(bucket) for bucket in range(count)]
    files = [path.open("wb") for path in paths]
    try:
        for place, row in placed:
            line = orjson.dumps([place.hex(), row.model_dump(mode="json")]) + b"\n"
            files[int.from_bytes(place[:4], "big") * count >> 32].write(line)
    finally:
        for file in files:
            file.close()
    return paths


def _batches(bucket: Path, size: int = 500) -> Iterator[list[dict[str, Any]]]:
    with bucket.open("rb") as file:
        lines = sorted(file)  # each begins with its place
    for start in range(0, len(lines), size):
        yield [orjson.loads(line)[1] for line in lines[start : start + size]]
