"""Rows packed for a page: chunks of lines, compressed, in script elements that no browser runs.

A line is the row's texts, a JSON array of nothing but strings, a tab, and the rest of it as JSON (which writes no tab):
so that most of a search through the texts needs no parsing.

A chunk is zlib's format in base64, which the browser's own `DecompressionStream("deflate")` opens. Base64 knows no `<`,
so nothing in a row can end its element.
"""

from __future__ import annotations

import base64
import tempfile
import weakref
import zlib
from collections.abc import Iterator

import orjson

CHUNK_BYTES = 1 << 20
"""Bytes of text in a chunk, roughly: what is unpacked to show one row."""
_LEVEL = 6
_PIECE_CHARACTERS = 1 << 20


class Packed:
    """Takes rows one by one and keeps the packed ones in a temporary file; iterating gives the page's text in pieces.

    Args:
        name: the chunks' elements are `<name>-0`, `<name>-1`, …
    """

    def __init__(self, name: str, chunk_bytes: int = CHUNK_BYTES) -> None:
        self.starts: list[int] = []
        """Number of the first row of each chunk."""
        self.size = 0
        """Characters that the elements take in the page."""
        self._name = name
        self._max_chunk_bytes = chunk_bytes
        self._pending_lines: list[bytes] = []
        self._pending_bytes = 0
        self._packed_rows = 0
        self._file = tempfile.TemporaryFile("w+", encoding="ascii", newline="")  # noqa: SIM115 - closed with the object
        weakref.finalize(self, self._file.close)

    def add(self, texts: list[str], extras: list[object]) -> None:
        line = orjson.dumps(texts) + b"\t" + orjson.dumps(extras)
        if self._pending_lines and self._pending_bytes + len(line) > self._max_chunk_bytes:
            self._flush()
        self._pending_lines.append(line)
        self._pending_bytes += len(line)

    def end(self) -> list[int]:
        """Pack the last rows; returns `starts`."""
        if self._pending_lines:
            self._flush()
        return self.starts

    def _flush(self) -> None:
        text = script_element(f"{self._name}-{len(self.starts)}", b"\n".join(self._pending_lines))
        self.starts.append(self._packed_rows)
        self._packed_rows += len(self._pending_lines)
        self.size += self._file.write(text)
        self._pending_lines = []
        self._pending_bytes = 0

    def __iter__(self) -> Iterator[str]:
        self._file.seek(0)
        while piece := self._file.read(_PIECE_CHARACTERS):
            yield piece


def script_element(id: str, content: bytes) -> str:
    """A script element that holds some bytes, packed."""
    packed = base64.b64encode(zlib.compress(content, _LEVEL)).decode()
    return f'<script type="application/octet-stream" id="{id}">{packed}</script>\n'
