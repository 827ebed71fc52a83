"""A sealed file: independent zstd frames of whole lines, and beside it an index of where each begins and what it holds.

The index is JSON lines: first where the frames begin, in the file and in the text; then the head of each line (place in
the text, id, problem_id, sample, finish, completion tokens, segments), so that a log is known without being read. It
holds nothing that the file does not: one that is missing, cut or another file's is made anew.
"""

from __future__ import annotations

import bisect
import contextlib
import hashlib
import io
import os
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, TypedDict

import orjson

from distill.errors import InputError, RunError
from distill.store.replacing import replacing_path
from distill.types import Finish

FRAME = 1 << 20
"""Bytes of text in a frame, about: what is unpacked to read one line."""
_LEVEL = 3
"""zstd's default; the next ones take twice the time for a few per cent."""
_VERSION = 1

Facts = tuple[str, str, int, Finish, int, int]
"""What the index keeps of a trace: id, problem_id, sample, finish, completion tokens, number of segments."""


def facts(line: bytes) -> Facts | None:
    """The facts of a trace's line; None if the line is no trace."""
    try:
        row = orjson.loads(line)
        tokens = row["usage"]["reasoning"] + row["usage"]["answer"]
        return row["id"], row["problem_id"], row["sample"], row["finish"], tokens, len(row["segments"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None


@dataclass(frozen=True, slots=True)
class Index:
    """Frame n holds the text from `starts[n]` to `starts[n + 1]`, packed from `offsets[n]` to `offsets[n + 1]`."""

    file: Path
    identity: tuple[int, int]
    """Inode and time of the file, so that nothing is remembered of another that takes its name."""
    offsets: array[int]
    starts: array[int]
    stray: int | None
    """Offset of the first line that is no trace, in which case there are no heads; None if all are traces."""

    @property
    def size(self) -> int:
        """Bytes of text."""
        return self.starts[-1]

    def text(self, frame: int) -> bytes:
        return _text(self.file, self.identity, self.offsets[frame], self.offsets[frame + 1])

    def frame_at(self, offset: int) -> int:
        """The number of the frame that holds a byte of the text."""
        return bisect.bisect_right(self.starts, offset) - 1


class _FirstLine(TypedDict):
    """The first line of an index; behind it come the heads."""

    version: int
    offsets: list[int]
    starts: list[int]
    stray: int | None
    hash: str
    """Of the heads."""


@lru_cache(maxsize=8)
def _text(file: Path, _identity: tuple[int, int], start: int, end: int) -> bytes:
    import zstandard

    with file.open("rb") as packed:
        packed.seek(start)
        try:
            return zstandard.ZstdDecompressor().decompress(packed.read(end - start))
        except zstandard.ZstdError as error:
            raise _damaged(file, error) from error


def _damaged(file: Path, error: Exception) -> InputError:
    return InputError(f"is damaged: {error}", where=str(file), fix="restore it from a copy; no other part is affected")


class _Indexer:
    """Builds an index from a file's frames, added one after another."""

    def __init__(self) -> None:
        self._offsets = array("Q", [0])
        self._starts = array("Q", [0])
        self._heads: list[bytes] = []
        self._stray: int | None = None

    def add(self, packed_length: int, text: bytes) -> None:
        """Add a frame: its length in the file, and its text."""
        offset = self._starts[-1]
        self._offsets.append(self._offsets[-1] + packed_length)
        self._starts.append(offset + len(text))
        for line in io.BytesIO(text):
            if self._stray is not None:
                break
            if not line.isspace():
                head = facts(line)
                if head is None:
                    self._stray = offset
                    self._heads.clear()
                else:
                    self._heads.append(orjson.dumps([offset, *head]) + b"\n")
            offset += len(line)

    def encode(self) -> bytes:
        heads = b"".join(self._heads)
        first_line: _FirstLine = {
            "version": _VERSION,
            "offsets": self._offsets.tolist(),
            "starts": self._starts.tolist(),
            "stray": self._stray,
            "hash": _hash(heads),
        }
        return orjson.dumps(first_line) + b"\n" + heads


def _hash(heads: bytes) -> str:
    return hashlib.blake2b(heads, digest_size=10).hexdigest()


def pack(source: BinaryIO, file: Path, index: Path, stopped: Callable[[], bool]) -> bool:
    """Compress whole lines into `file` and write its index, both synced; False if stopped before the end."""
    import zstandard

    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
    indexer = _Indexer()

    def packed_frames() -> Iterator[bytes]:
        while not stopped() and (text := source.read(FRAME)):
            if not text.endswith(b"\n"):
                text += source.readline()
            frame = compressor.compress(text)
            indexer.add(len(frame), text)
            yield frame

    _store(file, packed_frames())
    if source.read(1):
        return False
    _store(index, [indexer.encode()])
    return True


def _store(path: Path, blocks: Iterable[bytes]) -> None:
    with path.open("wb") as file:
        for block in blocks:
            file.write(block)
        file.flush()
        os.fsync(file.fileno())


def load(file: Path, index: Path) -> Index:
    """The index of a sealed file.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: there is no index, and the file is damaged.
    """
    status = file.stat()
    return _load(file, index, status.st_size, (status.st_ino, status.st_mtime_ns))


@lru_cache(maxsize=4096)
def _load(file: Path, index: Path, size: int, identity: tuple[int, int]) -> Index:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, IndexError):
        with index.open("rb") as stored:
            loaded = _decode(file, identity, stored.readline())
        if loaded.offsets[-1] == size:
            return loaded
    return _decode(file, identity, _rebuild(file, index).partition(b"\n")[0])


def _decode(file: Path, identity: tuple[int, int], first_line: bytes) -> Index:
    row: _FirstLine = orjson.loads(first_line)
    if row["version"] != _VERSION:
        raise ValueError("of another version")
    return Index(file, identity, array("Q", row["offsets"]), array("Q", row["starts"]), row["stray"])


def heads(file: Path, index: Path) -> Iterator[tuple[int, Facts]]:
    """Yield (offset in the text, facts) of each line of a sealed file without strays."""
    size = load(file, index).size
    rows = b""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, IndexError):
        first_line, _, stored = index.read_bytes().partition(b"\n")
        row: _FirstLine = orjson.loads(first_line)
        if row["hash"] == _hash(stored) and row["starts"][-1] == size:
            rows = stored
    if not rows:
        rows = _rebuild(file, index).partition(b"\n")[2]
    for line in io.BytesIO(rows):
        offset, *fields = orjson.loads(line)
        yield offset, tuple(fields)


def _rebuild(file: Path, index: Path) -> bytes:
    """Make the index from the file itself; stored where that is possible, since readers may not write there."""
    indexer = _Indexer()
    for packed_length, text in _frames(file):
        indexer.add(packed_length, text)
    encoded = indexer.encode()
    own_partial = index.with_name(f"{index.name}.{os.getpid()}.partial")
    with contextlib.suppress(RunError), replacing_path(index, partial=own_partial) as partial:
        partial.write_bytes(encoded)
    return encoded


def _frames(file: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (packed length, text) of each frame, found without an index."""
    import zstandard

    with file.open("rb") as packed:
        unread = b""
        length = 0
        text = b""
        unpacker = zstandard.ZstdDecompressor().decompressobj()
        while block := unread or packed.read(FRAME):
            try:
                text += unpacker.decompress(block)
            except zstandard.ZstdError as error:
                raise _damaged(file, error) from error
            unread = unpacker.unused_data
            length += len(block) - len(unread)
            if unpacker.eof:
                yield length, text
                length = 0
                text = b""
                unpacker = zstandard.ZstdDecompressor().decompressobj()
        if length:
            raise _damaged(file, EOFError("its last frame is cut"))
