"""The rows that are trained on: the SFT set rendered, tokenised and masked once, into a parquet file.

One pass in bounded memory, whatever the set's size: a few hundred rows at a time, on all cores (the tokenizers library
lets go of Python's lock while it works). Rows keep the order of the set, and nothing is ever cut: a row that is too
long, or that would teach something broken, is left out and counted.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from distill.errors import InputError, RunError, from_validation
from distill.machine import hardware
from distill.models.chat import Example, Tokenizer
from distill.models.presets import Student
from distill.progress import Progress
from distill.run import stamp
from distill.store.replacing import replacing_path
from distill.training.sft.renderer import IGNORED, RenderedRow, Renderer, SetRow
from distill.types import Message, Record, content_id

if TYPE_CHECKING:
    from pyarrow import Schema, Table, parquet

COLUMNS = ("trace_id", "set", "messages")
"""Columns that are read of a set."""
_WRITTEN_COLUMNS = ("id", "input_ids", "labels", "length")
_BATCH_ROWS = 256
_PERCENTILES = (0.5, 0.9, 0.95, 0.99, 1.0)


class UnfitRows(Record):
    """Rows left out for what they say rather than for their length."""

    count: int
    first: str
    """Id of the first such row."""
    what: str
    """Why the first such row is unfit, in words."""


class BuiltRows(Record):
    """What became of a set; the written file keeps it too."""

    of: int
    """Rows of the set, or of its first `limit`."""
    rows: int
    """Rows written; the rest is `dropped` or `unfit`."""
    tokens: int
    """Tokens of the written rows, prompts included."""
    loss_tokens: int
    """Tokens of the written rows that are learnt."""
    longest: int
    """Tokens of the longest written row."""
    dropped: int
    """Rows left out as longer than `max_length`."""
    dropped_by_set: dict[str, tuple[int, int]]
    """Problem set to (dropped, of); sets that lose nothing too."""
    unfit: dict[str, UnfitRows]
    """Rows unfit to train on by reason: `refused`, `special_token` or `double_think`; see `Renderer`."""
    histogram: dict[int, int]
    """Rows by the upper bound of their bin, tokens, too long ones included; bins grow by a half or a third."""
    keep_at: dict[int, float]
    """Share of rows that would fit by `max_length`: round lengths just above the 50th, 90th, … percentile."""
    made_of: str = ""
    """Hash of all that the rows depend on: the set, the tokenizer, the template, the limits."""


def build(
    set_path: Path,
    student: Student,
    tokenizer: Tokenizer,
    *,
    max_length: int,
    limit: int | None = None,
    rows_path: Path,
    progress: Progress,
    keep: bool = True,
) -> BuiltRows:
    """Write the rows of a set that fit as parquet: `id`, `input_ids`, `labels` (-100 outside the loss) and `length`.

    The file appears whole or not at all. One that was made of the same set in the same way is kept: a training that is
    resumed does not tokenise again.

    Args:
        keep: False writes nothing and only counts.

    Raises:
        InputError: the set is not one, or the student has no EOS.
        RunError: the set is damaged, or the disk is full.
    """
    import pyarrow
    import pyarrow.parquet as pq

    numbers = pyarrow.list_(pyarrow.int32())
    schema = pyarrow.schema(
        {"id": pyarrow.string(), "input_ids": numbers, "labels": numbers, "length": pyarrow.int32()}
    )
    render = Renderer(tokenizer, student.think, student.eos or tokenizer.special("eos_token"))
    source = open_parquet(set_path)
    total = min(limit or source.metadata.num_rows, source.metadata.num_rows)
    made_of = _made_of(set_path, render, max_length, total)
    if rows_path.is_file():
        metadata = _metadata_of(rows_path)
        if metadata.get(b"made_of") == made_of.encode():
            return BuiltRows.model_validate_json(metadata[b"distill"]).model_copy(update={"made_of": made_of})
    tally = _Tally(max_length)

    def kept_examples() -> Iterator[list[tuple[str, Example]]]:
        with ThreadPoolExecutor(len(hardware.processors())) as pool:
            for batch in _read(source, set_path, total):
                rendered = list(pool.map(lambda row: render(messages(row, set_path)), batch))
                yield tally.add(batch, rendered)
                progress.advance(len(batch))

    progress.start("tokenise", total, unit="rows")
    if keep:
        with (
            replacing_path(rows_path) as partial,
            pq.ParquetWriter(partial, schema, compression="zstd") as writer,
        ):
            for examples in filter(None, kept_examples()):
                writer.write_table(_table(examples, schema))
            built = tally.built(made_of)
            writer.add_key_value_metadata({"distill": built.model_dump_json(), "made_of": made_of})
    else:
        for _ in kept_examples():
            pass
        built = tally.built(made_of)
    progress.stop()
    return built


def _made_of(set_path: Path, render: Renderer, max_length: int, total: int) -> str:
    """Hash of all that the written rows depend on."""
    content = stamp(set_path)
    assert content is not None, "it was opened"
    tokenizer = render.tokenizer
    rendering = (tokenizer.fast.to_str(), tokenizer.template, render.eos, render.tags.model_dump())
    return content_id("rows", version("distill"), content["hash"], rendering, max_length, total)


def _metadata_of(path: Path) -> dict[bytes, bytes]:
    """What a written file itself says of how it came about; empty for another's or a broken one."""
    import pyarrow
    import pyarrow.parquet as pq

    try:
        return dict(pq.read_metadata(path).metadata or {})
    except (OSError, pyarrow.ArrowInvalid):
        return {}


def rows_of_length(path: Path, sizes: Collection[int]) -> Iterator[tuple[list[int], list[int]]]:
    """Ids and labels of all written rows that have one of these lengths."""
    import pyarrow
    import pyarrow.compute as pc

    source = open_parquet(path, _WRITTEN_COLUMNS)
    wanted_lengths = pyarrow.array(sorted(sizes), pyarrow.int32())
    for group in range(source.num_row_groups):
        matches = pc.is_in(source.read_row_group(group, columns=["length"])["length"], wanted_lengths)
        if pc.any(matches).as_py():
            for row in source.read_row_group(group, columns=["input_ids", "labels"]).filter(matches).to_pylist():
                yield row["input_ids"], row["labels"]


def open_parquet(path: Path, columns: Sequence[str] = COLUMNS) -> parquet.ParquetFile:
    """A parquet file, to be read piece by piece.

    Raises:
        InputError: no such file, no parquet, or it lacks a column.
    """
    import pyarrow
    import pyarrow.parquet as pq

    try:
        # so a column is read in pieces of a megabyte; else a row group, be it of a million rows, is read as a whole
        source = pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
    except (OSError, pyarrow.ArrowInvalid) as error:
        description = "no such file"
        if path.exists():
            description = f"cannot be read as parquet: {str(error).splitlines()[0]}"
        fix = "run `distill filter` first, or name a run with --data"
        raise InputError(description, where=str(path), fix=fix) from error
    if missing := [name for name in columns if name not in source.schema_arrow.names]:
        raise InputError(
            f"has no column {missing[0]!r} (only {', '.join(source.schema_arrow.names)})",
            where=str(path),
            fix="give a set that `distill filter` wrote",
        )
    return source


def messages(row: SetRow, where: Path) -> list[Message]:
    """The turns of a set's row.

    Raises:
        InputError: they are not messages, or do not end in an assistant's turn.
    """
    location = f"{where}, row {row['trace_id']}"
    try:
        turns = [Message.model_validate(turn) for turn in row["messages"] or ()]
    except ValidationError as error:
        raise from_validation(error, location, "messages") from error
    if len(turns) < 2 or turns[-1].role != "assistant":
        raise InputError("its messages do not end in a reply of the assistant to something", where=location)
    return turns


def _read(source: parquet.ParquetFile, path: Path, total: int) -> Iterator[list[SetRow]]:
    """The first `total` rows of a set, in batches.

    Raises:
        RunError: the set is damaged.
    """
    import pyarrow

    remaining = total
    try:
        for batch in source.iter_batches(batch_size=_BATCH_ROWS, columns=list(COLUMNS)):
            if remaining <= 0:
                return
            yield batch.slice(0, remaining).to_pylist()
            remaining -= batch.num_rows
    except (OSError, pyarrow.ArrowInvalid) as error:  # else it would look as if writing had failed
        raise RunError(
            f"is damaged: {str(error).splitlines()[0]}", where=str(path), fix="write it again with `distill filter`"
        ) from error


def _table(examples: list[tuple[str, Example]], schema: Schema) -> Table:
    """Examples with their ids as an Arrow table."""
    import numpy as np
    import pyarrow

    sizes = np.array([len(example.ids) for _, example in examples], dtype=np.int32)
    offsets = pyarrow.array(np.concatenate(([0], np.cumsum(sizes))), pyarrow.int32())
    ids = np.concatenate([np.array(example.ids, dtype=np.int32) for _, example in examples])
    learnt = np.frombuffer(b"".join(bytes(example.mask) for _, example in examples), dtype=np.uint8)
    labels = np.where(learnt, ids, np.int32(IGNORED))
    columns = [
        pyarrow.array([id for id, _ in examples]),
        pyarrow.ListArray.from_arrays(offsets, pyarrow.array(ids)),
        pyarrow.ListArray.from_arrays(offsets, pyarrow.array(labels)),
        pyarrow.array(sizes),
    ]
    return pyarrow.Table.from_arrays(columns, schema=schema)


class _Tally:
    """Counts while rows go by, four bytes a row."""

    def __init__(self, max_length: int) -> None:
        self._max_length = max_length
        self._lengths = array("I")
        self._rows_by_set: Counter[str] = Counter()
        self._dropped_by_set: Counter[str] = Counter()
        self._unfit: dict[str, UnfitRows] = {}
        self._rows = 0
        self._tokens = 0
        self._loss_tokens = 0
        self._longest = 0

    def add(self, batch: list[SetRow], rendered: list[RenderedRow]) -> list[tuple[str, Example]]:
        """Count a batch; the examples of it to write, with their ids."""
        fitting = []
        for row, (example, reason, explanation) in zip(batch, rendered, strict=True):
            self._rows_by_set[row["set"] or ""] += 1
            if example is None:
                unfit = self._unfit.get(reason) or UnfitRows(count=0, first=row["trace_id"], what=explanation)
                self._unfit[reason] = unfit.model_copy(update={"count": unfit.count + 1})
                continue
            length = len(example.ids)
            self._lengths.append(length)
            if length > self._max_length:
                self._dropped_by_set[row["set"] or ""] += 1
                continue
            self._rows += 1
            self._tokens += length
            self._loss_tokens += sum(example.mask)
            self._longest = max(self._longest, length)
            fitting.append((row["trace_id"], example))
        return fitting

    def built(self, made_of: str) -> BuiltRows:
        """The counts of all batches."""
        sorted_lengths = sorted(self._lengths)
        count = len(sorted_lengths)
        limits: list[int] = []
        if count:
            indices = [min(int(share * count), count - 1) for share in _PERCENTILES]
            limits = sorted({round_up(sorted_lengths[index]) for index in indices})
        bins = Counter(map(bin_of, sorted_lengths))
        return BuiltRows(
            of=self._rows_by_set.total(),
            rows=self._rows,
            tokens=self._tokens,
            loss_tokens=self._loss_tokens,
            longest=self._longest,
            dropped=self._dropped_by_set.total(),
            dropped_by_set={name: (self._dropped_by_set[name], of) for name, of in sorted(self._rows_by_set.items())},
            unfit=dict(sorted(self._unfit.items())),
            histogram=dict(sorted(bins.items())),
            keep_at={limit: sum(length <= limit for length in sorted_lengths) / count for limit in limits},
            made_of=made_of,
        )


def bin_of(size: int) -> int:
    """The smallest of 16, 24, 32, 48, 64, 96, … that is not below a size."""
    power = 1 << max(4, (size - 1).bit_length())
    three_quarters = power * 3 // 4
    if power > 16 and size <= three_quarters:
        return three_quarters
    return power


def round_up(size: int) -> int:
    """A size rounded up to a round number of tokens at most an eighth, and at most 1,024, above."""
    step = min(1024, 1 << max(0, size.bit_length() - 4))
    return -(-size // step) * step
