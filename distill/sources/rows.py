"""Rows of other people's data: a .jsonl or .jsonl.zst file, a .parquet file, a folder of them, or a Hub dataset.

Everything streams, and only the fields asked for are ever handed out: what a data set says of its own quality stays
unread unless somebody names it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from distill.errors import InputError, RunError, suggest
from distill.store import jsonl, log_parts

if TYPE_CHECKING:
    from datasets import IterableDataset

Row = Mapping[str, object]
OnBad = Callable[[int, str], None]


class RowReader:
    """Reads rows from a source; opening it finds out whether it exists and has the fields.

    Args:
        source: a path, or a Hub dataset's id.
        fields: names of those to hand out; of a JSON row, those that it has.
        config, split, revision: of a Hub dataset, or of a folder that is laid out like one.

    Raises:
        InputError: no such file or data set, or it lacks a field.
    """

    def __init__(
        self,
        source: str,
        fields: Iterable[str],
        *,
        config: str | None = None,
        split: str = "train",
        revision: str | None = None,
    ) -> None:
        self.source = source
        self.fields = sorted(fields)
        self.revision: str | None = None
        """Commit of a Hub dataset; what is read is pinned to it."""
        self.total: int | None = None
        """Number of rows; None where it is not cheap to know."""
        self._stream: IterableDataset | None = None
        path = Path(source)
        if source.endswith((".jsonl", ".jsonl.zst")) and not path.is_dir():
            if not path.is_file():
                raise InputError(f"no such file: {source}", fix="paths are relative to the working directory")
            if path.suffix != ".zst":
                self.total = sum(1 for _ in log_parts.lines(path))
        elif path.exists() or source.count("/") == 1:
            self._stream = self._open(path, config, split, revision)
        else:
            raise InputError(
                f"no such source: {source}", fix="give a .jsonl, .jsonl.zst or .parquet, a folder, or a Hub id org/name"
            )

    def _open(self, path: Path, config: str | None, split: str, revision: str | None) -> IterableDataset:
        try:
            import datasets

            if path.is_file():
                stream = datasets.load_dataset("parquet", data_files=str(path), split="train", streaming=True)
            elif path.is_dir():
                folder_config = (
                    config if (path / "README.md").is_file() else None
                )  # a plain folder has no configurations
                stream = datasets.load_dataset(str(path), folder_config, split=split, streaming=True)
            else:
                self.revision = _commit(self.source, revision)
                stream = datasets.load_dataset(self.source, config, split=split, revision=self.revision, streaming=True)
            self.total = ((stream.info.splits or {}).get(split) or _UnknownSize).num_examples
            missing = set(self.fields) - set(stream.column_names or self.fields)
        except Exception as error:  # a boundary: parquet, HTTP and Hub clients raise errors without a common base
            raise InputError(
                f"cannot be read: {(str(error).splitlines() or [type(error).__name__])[0]}",
                where=self.source,
                fix="is it parquet (a file or a folder), or a dataset on the Hub that can be reached from here?",
            ) from error
        if missing:
            first = sorted(missing)[0]
            raise InputError(f"has no field {first!r}", where=self.source, fix=suggest(first, stream.column_names))
        return stream.select_columns(self.fields)

    def read(self, on_bad: OnBad) -> Iterator[tuple[int, Row]]:
        """(row number from 1, the chosen fields of the row) in order.

        Args:
            on_bad: takes number and text of a line that is no JSON object; reading goes on behind it.

        Raises:
            RunError: the source broke off; what came before it was handed out.
        """
        if self._stream is not None:
            yield from enumerate(self._guarded(self._stream), 1)
        elif self.source.endswith(".zst"):
            yield from self._jsonl_zst(on_bad)
        else:
            for number, row in jsonl.rows(Path(self.source), on_bad):
                yield number, self._selected(row)

    def _selected(self, row: Row) -> Row:
        return {name: row[name] for name in self.fields if name in row}

    def _jsonl_zst(self, on_bad: OnBad) -> Iterator[tuple[int, Row]]:
        for number, line in enumerate(_lines(Path(self.source)), 1):
            try:
                row = orjson.loads(line) if line.strip() else None
            except orjson.JSONDecodeError:
                row = line
            if isinstance(row, dict):
                yield number, self._selected(row)
            elif row is not None:
                on_bad(number, line.decode(errors="replace").rstrip("\n"))

    def _guarded(self, source: IterableDataset) -> Iterator[Row]:
        stream = iter(source)
        rows_read = 0
        while True:
            try:
                row = next(stream)
            except StopIteration:
                return
            except Exception as error:  # a boundary: see _open
                raise RunError(
                    f"broke off after {rows_read:,} rows: {type(error).__name__}: {str(error)[:200]}",
                    where=self.source,
                    fix="give the same command again; what was read stays",
                ) from error
            rows_read += 1
            yield row


class _UnknownSize:
    num_examples: int | None = None


def _commit(dataset: str, revision: str | None) -> str:
    from huggingface_hub import HfApi

    return str(HfApi().dataset_info(dataset, revision=revision).sha)


def _lines(path: Path) -> Iterator[bytes]:
    """Lines of a .zst file."""
    import zstandard

    with path.open("rb") as file:
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        try:
            yield from io.BufferedReader(reader)
        except zstandard.ZstdError as error:
            raise InputError(f"is not a whole zstd file: {error}", where=str(path)) from error
