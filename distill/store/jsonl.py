"""Record logs: JSON lines over orjson, appended by one writer (log.py), read by anyone at any time.

**The last row of an id counts.** A row is never changed: a trace that is continued is appended again, whole, under its
id. The readers here hand out every row in order; who keeps rows by id lets the later one replace the earlier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jsonlines
import orjson
from pydantic import ValidationError

from distill.errors import InputError, RunError
from distill.store import log_parts
from distill.store.log import Log
from distill.store.log_parts import blocks, parts, size
from distill.store.replacing import replacing
from distill.types import Finish, Record

__all__ = [
    "Chunk",
    "Head",
    "Log",
    "blocks",
    "chunks",
    "exists",
    "heads",
    "line_at",
    "lines",
    "lines_at",
    "parts",
    "read",
    "rows",
    "size",
    "write",
]

R = TypeVar("R", bound=Record)

_READ_AHEAD = 1 << 20  # bytes that are read through rather than the log opened again


def rows(path: Path, on_bad: Callable[[int, str], None] | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of a log or any JSONL file; empty lines and a torn last line are skipped.

    Args:
        on_bad: takes number and text of a broken line, which is then skipped; without it that is an error.

    Raises:
        InputError: a broken line, named by its number; or the file cannot be opened.
    """
    number = 0
    line = b""

    def counted_lines() -> Iterator[bytes]:
        nonlocal number, line
        for _, line in log_parts.lines(path):
            number += 1
            yield line

    reader = jsonlines.Reader(counted_lines(), loads=orjson.loads)
    while True:
        try:
            row = reader.read(type=dict, skip_empty=True)
            yield number, row
        except EOFError:
            return
        except jsonlines.InvalidLineError as error:
            text = line.decode(errors="replace").rstrip("\n")
            if on_bad is not None:
                on_bad(number, text)
            elif line.endswith(b"\n"):
                raise InputError(
                    f"line {number} is not a JSON object: {text[:80]!r}",
                    where=str(path),
                    fix="mend or remove that line",
                ) from error


class Chunk(NamedTuple):
    """A part of a log that one worker reads: the lines that begin in these bytes of its text."""

    path: str
    start: int
    end: int


def chunks(path: Path, size: int) -> Iterator[Chunk]:
    """Cut a log into chunks of about `size` bytes; reads none of it. What is sealed is cut between frames."""
    for start, end in log_parts.cuts(path, size):
        yield Chunk(str(path), start, end)


def lines(chunk: Chunk) -> Iterator[tuple[int, bytes]]:
    """Yield (offset in the log, line) of a chunk; empty lines and a torn last line are skipped."""
    for offset, line in log_parts.lines(Path(chunk.path), chunk.start, chunk.end):
        if line.endswith(b"\n") and not line.isspace():
            yield offset, line


def line_at(path: str, offset: int) -> bytes:
    """The line at an address, which `append` returned, or a chunk's lines or `heads` gave."""
    return log_parts.line_at(Path(path), offset)


def lines_at(addresses: Iterable[tuple[str, int]]) -> Iterator[bytes]:
    """`line_at` of each (path, offset); where they ascend in one log, as a share of its lines does, it is read through.

    Raises:
        InputError: no line begins there.
    """
    log = ""
    offset = 0
    line = b""
    following: Iterator[tuple[int, bytes]] = iter(())
    for path, address in addresses:
        next_offset = offset + len(line)
        if path != log or not next_offset <= address <= next_offset + _READ_AHEAD:
            log = path
            following = log_parts.lines(Path(path), address)
        offset, line = next((pair for pair in following if pair[0] >= address), (-1, b""))
        yield line if offset == address else line_at(path, address)


class Head(NamedTuple):
    """The facts of a trace that are known without reading it."""

    path: str
    offset: int
    id: str
    problem_id: str
    sample: int
    finish: Finish
    tokens: int
    """Tokens of the completion: reasoning and answer."""
    segments: int


def heads(path: Path) -> Iterator[Head]:
    """The head of every trace in a log, in order; of the sealed parts only the indexes are read.

    Raises:
        InputError: a line is no trace, or the file cannot be opened.
    """
    log = str(path)
    for offset, facts in log_parts.heads(path):
        yield Head(log, offset, *facts)


def exists(path: Path) -> bool:
    """Whether there is such a log; between two steps of its writer the active file may not be there."""
    return bool(parts(path))


def read(path: Path, record_type: type[R]) -> Iterator[R]:
    """Records of a log, typed; streams."""
    for number, row in rows(path):
        try:
            yield record_type.model_validate(row)
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(
                f"line {number} is no {record_type.__name__}: {'.'.join(map(str, first['loc']))}: {first['msg']}",
                where=str(path),
                fix="the file was edited or written by another version of distill",
            ) from error


def write(path: Path, records: Iterable[Record | Mapping[str, object]]) -> int:
    """Write a whole file at once: readers see the old one or the new one, never half. Returns the row count.

    Raises:
        RunError: the disk is full, for one; or the file is a log with finished parts, which may only be appended to.
    """
    if log_parts.finished(path):
        raise RunError("has finished parts beside it", where=str(path), fix="remove them first, or write elsewhere")
    count = 0
    with replacing(path) as file:
        for record in records:
            row = record.model_dump(mode="json") if isinstance(record, Record) else record
            file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
            count += 1
    return count
