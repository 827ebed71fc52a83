"""A log's files, read as one text: finished parts, sealed or yet to be, and the active file.

Beside `traces.jsonl`, to which lines are appended, lie its finished parts, numbered from 0:

    traces.00000.unsealed    what was the active file, renamed when it had grown large
    traces.00000.jsonl.zst   the same, sealed, with its index traces.00000.index (see sealed.py)

The log's text is the parts' in order, then the active file's, and a byte's place in it never changes: an address (the
log's path, the place of a line's first byte) holds for good, whatever is rotated and sealed meanwhile.

Sealing writes `.partial` files, syncs them, renames the index, renames the part, syncs the folder, and only then
removes the unsealed part. So at every moment an unsealed part is whole, and where it is gone a whole sealed one is
there: readers take the first they find. The next writer removes partial files, and an unsealed part where only that was
left to do.
"""

from __future__ import annotations

import bisect
import contextlib
import errno
import os
import re
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

from distill.errors import InputError, writing
from distill.store import sealed
from distill.store.replacing import sync_folder
from distill.store.sealed import Index


@lru_cache(maxsize=4096)
def _unsealed(log: Path, number: int) -> Path:
    return log.with_name(f"{log.stem}.{number:05}.unsealed")


@lru_cache(maxsize=4096)
def _sealed(log: Path, number: int) -> Path:
    return log.with_name(f"{log.stem}.{number:05}{log.suffix}.zst")


@lru_cache(maxsize=4096)
def _index(log: Path, number: int) -> Path:
    return log.with_name(f"{log.stem}.{number:05}.index")


def _load(log: Path, number: int) -> Index:
    return sealed.load(_sealed(log, number), _index(log, number))


class Part(NamedTuple):
    """A finished part: the log's text from `start` to `end`."""

    start: int
    end: int


def finished(log: Path) -> list[Part]:
    """The finished parts in order.

    Raises:
        InputError: one is missing or damaged.
    """
    try:
        folder = log.parent.stat()
    except FileNotFoundError:
        return []
    finished_parts = list(_finished(log, (folder.st_ino, folder.st_mtime_ns)))
    number = len(finished_parts)
    while _unsealed(log, number).exists() or _sealed(log, number).exists():  # newer than the clock can tell
        finished_parts.append(_part(log, number, _text_end(finished_parts)))
        number += 1
    return finished_parts


def _text_end(finished_parts: Sequence[Part]) -> int:
    return finished_parts[-1].end if finished_parts else 0


@lru_cache(maxsize=64)
def _finished(log: Path, _folder: tuple[int, int]) -> tuple[Part, ...]:
    part_name = re.compile(re.escape(log.stem) + r"\.(\d{5,})(?:\.unsealed|" + re.escape(log.suffix) + r"\.zst)")
    numbers = {int(match[1]) for entry in os.listdir(log.parent) if (match := part_name.fullmatch(entry))}
    finished_parts: list[Part] = []
    for number in range(max(numbers, default=-1) + 1):
        if number not in numbers:
            fix = f"restore {_sealed(log, number).name}; the parts of a log belong together"
            raise InputError(f"its part {number} is missing", where=str(log), fix=fix)
        finished_parts.append(_part(log, number, _text_end(finished_parts)))
    return tuple(finished_parts)


def _part(log: Path, number: int, start: int) -> Part:
    try:
        size = _unsealed(log, number).stat().st_size
    except FileNotFoundError:  # sealed, perhaps at this moment
        size = _load(log, number).size
    return Part(start, start + size)


class PlainFile(NamedTuple):
    """A part that is not sealed, or the active file."""

    file: BinaryIO
    active: bool


def _open(log: Path, number: int) -> PlainFile | Index | None:
    """The part or active file that holds the log's text behind its first `number` parts; None if there is none yet."""
    while True:
        with contextlib.suppress(FileNotFoundError):
            return PlainFile(_unsealed(log, number).open("rb"), active=False)
        with contextlib.suppress(FileNotFoundError):
            return _load(log, number)
        file = None
        with contextlib.suppress(FileNotFoundError):
            file = log.open("rb")
        if not (_unsealed(log, number).exists() or _sealed(log, number).exists()):
            return PlainFile(file, active=True) if file else None
        if file:  # rotated between two looks: the opened file may be the next active one
            file.close()


def _segments(log: Path, start: int = 0, end: int = sys.maxsize) -> Iterator[tuple[int, PlainFile | Index]]:
    """Yield (offset of its first byte, part or active file) of all that hold text between two offsets; closes them.

    Raises:
        InputError: there is no such log, or it cannot be read.
    """
    try:
        finished_parts = finished(log)
        number = bisect.bisect_right(finished_parts, start, key=lambda part: part.end)
        base = _text_end(finished_parts[:number])
        while base < end:
            segment = _open(log, number)
            if segment is None:
                if not number:
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
                return
            if isinstance(segment, Index):
                yield base, segment
                base += segment.size
            else:
                with segment.file:
                    size = os.fstat(segment.file.fileno()).st_size
                    yield base, segment
                if segment.active:
                    return
                base += size
            number += 1
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(log)) from error


def lines(log: Path, start: int = 0, end: int = sys.maxsize) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, line) of the lines that begin between two offsets; the last may be torn, without its newline."""
    for base, segment in _segments(log, start, end):
        if isinstance(segment, Index):
            yield from _unpacked(segment, base, start, end)
            continue
        offset = max(start, base)
        if offset > base:
            segment.file.seek(offset - base - 1)
            offset += len(segment.file.readline()) - 1  # the rest of a line that began before
        while offset < end and (line := segment.file.readline()):
            yield offset, line
            offset += len(line)


def _unpacked(index: Index, base: int, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    for frame in range(index.frame_at(max(0, start - base)), len(index.starts) - 1):
        frame_start = base + index.starts[frame]
        if frame_start >= end:
            return
        text = index.text(frame)
        position = max(0, start - frame_start)
        if position:
            position = text.find(b"\n", position - 1) + 1  # behind the rest of a line that began before
        while position < len(text) and frame_start + position < end:
            line_end = text.find(b"\n", position) + 1
            yield frame_start + position, text[position:line_end]
            position = line_end


def line_at(log: Path, offset: int) -> bytes:
    """The line that begins at an offset.

    Raises:
        InputError: no line begins there.
    """
    for line_start, line in lines(log, offset, offset + 1):
        if line_start == offset:
            return line
    raise InputError(
        f"no line begins at byte {offset}", where=str(log), fix="the log was replaced; run the stage again"
    )


def blocks(log: Path, size: int = 1 << 20) -> Iterator[bytes]:
    """The log's text, in pieces."""
    for _, segment in _segments(log):
        if isinstance(segment, Index):
            yield from map(segment.text, range(len(segment.starts) - 1))
        else:
            while block := segment.file.read(size):
                yield block


def heads(log: Path) -> Iterator[tuple[int, sealed.Facts]]:
    """Yield (offset, facts) of each trace, from the indexes where they are sealed; a torn last line is skipped.

    Raises:
        InputError: a line is no trace.
    """
    for number, (base, segment) in enumerate(_segments(log)):
        if not isinstance(segment, Index):
            yield from _plain_heads(log, base, segment.file)
        elif segment.stray is not None:
            raise _stray_error(log, base + segment.stray)
        else:
            yield from ((base + offset, facts) for offset, facts in sealed.heads(segment.file, _index(log, number)))


def _plain_heads(log: Path, offset: int, file: BinaryIO) -> Iterator[tuple[int, sealed.Facts]]:
    for line in file:
        if line.endswith(b"\n") and not line.isspace():
            facts = sealed.facts(line)
            if facts is None:
                raise _stray_error(log, offset)
            yield offset, facts
        offset += len(line)


def _stray_error(log: Path, offset: int) -> InputError:
    return InputError(f"the line at byte {offset} is no trace", where=str(log), fix="mend or remove that line")


def cuts(log: Path, size: int) -> Iterator[tuple[int, int]]:
    """Ranges of about `size` bytes that cover the log; where it is sealed they are whole frames."""
    start = 0
    for base, segment in _segments(log):
        if isinstance(segment, Index):
            for frame_end in segment.starts[1:]:
                if base + frame_end - start >= size or frame_end == segment.size:
                    yield start, base + frame_end
                    start = base + frame_end
        else:
            end = base + os.fstat(segment.file.fileno()).st_size
            for start in range(base, end, size):
                yield start, min(start + size, end)
            start = end


def parts(log: Path) -> list[Path]:
    """The files that hold the log's text, in order; none if there is no such log."""
    paths = []
    for number in range(len(finished(log))):
        unsealed = _unsealed(log, number)
        paths.append(unsealed if unsealed.exists() else _sealed(log, number))
    return [*paths, log] if log.exists() else paths


def size(log: Path) -> int:
    """Bytes of the log's text."""
    finished_size = _text_end(finished(log))
    with contextlib.suppress(FileNotFoundError):  # between two steps of its writer
        return finished_size + log.stat().st_size
    return finished_size


def rotate(log: Path, number: int) -> None:
    """Make the active file, whose content is synced, the next finished part."""
    os.rename(log, _unsealed(log, number))
    sync_folder(log.parent)


def seal(log: Path, number: int, stopped: Callable[[], bool] = lambda: False) -> bool:
    """Compress a part; False if it was stopped before the end, which leaves it as it was.

    Raises:
        RunError: the sealed part cannot be written, as on a full disk; the unsealed one stays as it was.
    """
    source = _unsealed(log, number)
    target = _sealed(log, number)
    index = _index(log, number)
    # a name of its own: a writer that was stopped for long must not publish what its successor has half written
    token = secrets.token_hex(4)
    partial, partial_index = (path.with_name(f"{path.name}.{token}.partial") for path in (target, index))
    try:
        with writing(target), source.open("rb") as file:
            if not sealed.pack(file, partial, partial_index, stopped):
                return False
            os.replace(partial_index, index)
            os.replace(partial, target)
            sync_folder(log.parent)
            source.unlink()
            return True
    finally:
        for path in (partial, partial_index):
            path.unlink(missing_ok=True)


def recover(log: Path) -> list[int]:
    """Clear up behind a writer that died; returns the parts that wait to be sealed. For the lock's holder only."""
    partial_name = re.compile(re.escape(log.stem) + r"\.\d{5,}\..*\.partial")
    for entry in os.listdir(log.parent):
        if partial_name.fullmatch(entry):
            (log.parent / entry).unlink(missing_ok=True)
    unsealed_parts = []
    for number in range(len(finished(log))):
        unsealed = _unsealed(log, number)
        if unsealed.exists():
            if _sealed(log, number).exists() and _load(log, number).size == unsealed.stat().st_size:
                unsealed.unlink()  # only this step of its sealing was missing
            else:
                unsealed_parts.append(number)
    return unsealed_parts
