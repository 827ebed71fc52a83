"""A log's files, read as one text: finished parts, sealed or yet to be, and the active file.

Beside `traces.jsonl`, to which lines are appended, lie its finished parts, numbered from 0:

    traces.00000.unsealed    what was the active file, renamed when it had grown large
    traces.00000.jsonl.zst   the same, sealed, with its index traces.00000.index (see frames.py)

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
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

from distill.errors import InputError, writing
from distill.store import sealed
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
    known = list(_finished(log, (folder.st_ino, folder.st_mtime_ns)))
    while _unsealed(log, len(known)).exists() or _sealed(log, len(known)).exists():  # newer than the clock can tell
        known.append(_part(log, len(known), known[-1].end if known else 0))
    return known


@lru_cache(maxsize=64)
def _finished(log: Path, _folder: tuple[int, int]) -> tuple[Part, ...]:
    name = re.compile(re.escape(log.stem) + r"\.(\d{5,})(?:\.unsealed|" + re.escape(log.suffix) + r"\.zst)")
    numbers = {int(found[1]) for entry in os.listdir(log.parent) if (found := name.fullmatch(entry))}
    known: list[Part] = []
    for number in range(max(numbers, default=-1) + 1):
        if number not in numbers:
            raise InputError(
                f"its part {number} is missing",
                where=str(log),
                fix=f"restore {_sealed(log, number).name}; the parts of a log belong together",
            )
        known.append(_part(log, number, known[-1].end if known else 0))
    return tuple(known)


def _part(log: Path, number: int, start: int) -> Part:
    try:
        size = _unsealed(log, number).stat().st_size
    except FileNotFoundError:  # sealed, perhaps at this moment
        size = _load(log, number).size
    return Part(start, start + size)


class Plain(NamedTuple):
    """A part that is not sealed, or the active file."""

    file: BinaryIO
    active: bool


def _open(log: Path, number: int) -> Plain | Index | None:
    """What holds the log's text behind its first `number` parts; None if nothing is there yet."""
    while True:
        with contextlib.suppress(FileNotFoundError):
            return Plain(_unsealed(log, number).open("rb"), active=False)
        with contextlib.suppress(FileNotFoundError):
            return _load(log, number)
        file = None
        with contextlib.suppress(FileNotFoundError):
            file = log.open("rb")
        if not (_unsealed(log, number).exists() or _sealed(log, number).exists()):
            return Plain(file, active=True) if file else None
        if file:  # rotated between two looks: what was opened may be the next active file
            file.close()


def _segments(log: Path, start: int = 0, end: int = sys.maxsize) -> Iterator[tuple[int, Plain | Index]]:
    """(place of its first byte, part or active file) of all that holds text between two places; closes them.

    Raises:
        InputError: there is no such log, or it cannot be read.
    """
    try:
        known = finished(log)
        number = bisect.bisect_right(known, start, key=lambda part: part.end)
        base = known[number - 1].end if number else 0
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
    """(place, line) of the lines that begin between two places; the last may be torn, without its newline."""
    for base, segment in _segments(log, start, end):
        if isinstance(segment, Index):
            yield from _unpacked(segment, base, start, end)
            continue
        at = max(start, base)
        if at > base:
            segment.file.seek(at - base - 1)
            at += len(segment.file.readline()) - 1  # the rest of a line that began before
        while at < end and (line := segment.file.readline()):
            yield at, line
            at += len(line)


def _unpacked(index: Index, base: int, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    for frame in range(index.find(max(0, start - base)), len(index.starts) - 1):
        at = base + index.starts[frame]
        if at >= end:
            return
        text = index.text(frame)
        place = max(0, start - at)
        if place:
            place = text.find(b"\n", place - 1) + 1  # behind the rest of a line that began before
        while place < len(text) and at + place < end:
            behind = text.find(b"\n", place) + 1
            yield at + place, text[place:behind]
            place = behind


def line_at(log: Path, at: int) -> bytes:
    """The line that begins at a place.

    Raises:
        InputError: no line begins there.
    """
    for place, line in lines(log, at, at + 1):
        if place == at:
            return line
    raise InputError(f"no line begins at byte {at}", where=str(log), fix="the log was replaced; run the stage again")


def blocks(log: Path, size: int = 1 << 20) -> Iterator[bytes]:
    """The log's text, in pieces."""
    for _, segment in _segments(log):
        if isinstance(segment, Index):
            yield from map(segment.text, range(len(segment.starts) - 1))
        else:
            while block := segment.file.read(size):
                yield block


def heads(log: Path) -> Iterator[tuple[int, sealed.Facts]]:
    """(place, facts) of each trace, from the indexes where they are sealed; a torn last line is skipped.

    Raises:
        InputError: a line is no trace.
    """
    for number, (base, segment) in enumerate(_segments(log)):
        if not isinstance(segment, Index):
            yield from _facts(log, base, segment.file)
        elif segment.stray is not None:
            raise _stray(log, base + segment.stray)
        else:
            yield from ((base + at, found) for at, found in sealed.heads(segment.file, _index(log, number)))


def _facts(log: Path, at: int, file: BinaryIO) -> Iterator[tuple[int, sealed.Facts]]:
    for line in file:
        if line.endswith(b"\n") and not line.isspace():
            found = sealed.facts(line)
            if found is None:
                raise _stray(log, at)
            yield at, found
        at += len(line)


def _stray(log: Path, at: int) -> InputError:
    return InputError(f"the line at byte {at} is no trace", where=str(log), fix="mend or remove that line")


def cuts(log: Path, size: int) -> Iterator[tuple[int, int]]:
    """Ranges of about `size` bytes that cover the log; where it is sealed they are whole frames."""
    start = 0
    for base, segment in _segments(log):
        if isinstance(segment, Index):
            for place in segment.starts[1:]:
                if base + place - start >= size or place == segment.size:
                    yield start, base + place
                    start = base + place
        else:
            end = base + os.fstat(segment.file.fileno()).st_size
            for start in range(base, end, size):
                yield start, min(start + size, end)
            start = end


def parts(log: Path) -> list[Path]:
    """The files that hold the log's text, in order; none if there is no such log."""
    found = [_unsealed(log, n) if _unsealed(log, n).exists() else _sealed(log, n) for n in range(len(finished(log)))]
    return [*found, log] if log.exists() else found


def size(log: Path) -> int:
    """Bytes of the log's text."""
    known = finished(log)
    before = known[-1].end if known else 0
    with contextlib.suppress(FileNotFoundError):  # between two steps of its writer
        return before + log.stat().st_size
    return before


def rotate(log: Path, number: int) -> None:
    """Make the active file, whose content is synced, the next finished part."""
    os.rename(log, _unsealed(log, number))
    _sync_folder(log.parent)


def seal(log: Path, number: int, stopped: Callable[[], bool] = lambda: False) -> bool:
    """Compress a part; False if it was stopped before the end, which leaves it as it was.

    Raises:
        RunError: it cannot be written, as on a full disk; the part stays as it was.
    """
    source, target, index = _unsealed(log, number), _sealed(log, number), _index(log, number)
    # a name of its own: a writer that was stopped for long must not publish what its successor has half written
    token = secrets.token_hex(4)
    partial, partial_index = (path.with_name(f"{path.name}.{token}.partial") for path in (target, index))
    try:
        with writing(target), source.open("rb") as file:
            if not sealed.pack(file, partial, partial_index, stopped):
                return False
            os.replace(partial_index, index)
            os.replace(partial, target)
            _sync_folder(log.parent)
            source.unlink()
            return True
    finally:
        for path in (partial, partial_index):
            path.unlink(missing_ok=True)


def recover(log: Path) -> list[int]:
    """Clear up behind a writer that died; returns the parts that wait to be sealed. For the lock's holder only."""
    ours = re.compile(re.escape(log.stem) + r"\.\d{5,}\..*\.partial")
    for entry in os.listdir(log.parent):
        if ours.fullmatch(entry):
            (log.parent / entry).unlink(missing_ok=True)
    waiting = []
    for number in range(len(finished(log))):
        left = _unsealed(log, number)
        if left.exists():
            if _sealed(log, number).exists() and _load(log, number).size == left.stat().st_size:
                left.unlink()  # only this step of its sealing was missing
            else:
                waiting.append(number)
    return waiting


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every file system can
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
