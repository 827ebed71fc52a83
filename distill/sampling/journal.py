"""Raw replies on disk before anything tries to read them: tokens that were paid for are never lost to a parser."""

from __future__ import annotations

from pathlib import Path

import orjson

from distill.errors import writing
from distill.progress import LOG

LARGE = 64 << 20
"""Bytes after which the file is written anew with only the replies that are still unread."""


class Journal:
    """Holds what an engine replied until the trace is in its log; use as a context manager.

    Replies that no one could read go to `<name>.unread` beside it, and so does what a crash left behind.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unread_path = path.with_name(path.name + ".unread")
        self._unsettled: dict[str, bytes] = {}
        self._bytes_written = 0

    def __enter__(self) -> Journal:
        with writing(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._path.exists() and self._path.stat().st_size:
                LOG.warning("replies that the last run had no time to read are kept in %s", self._unread_path)
                self._put_aside(self._path.read_bytes())
            self._file = self._path.open("wb", buffering=0)
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        # no one could read these, and their samples were given up or are no longer needed
        self._put_aside(b"".join(self._unsettled.values()))
        self._path.unlink(missing_ok=True)

    def keep(self, id: str, raw: bytes) -> None:
        """Write a reply down."""
        line = orjson.dumps([id, raw.decode(errors="replace")], option=orjson.OPT_APPEND_NEWLINE)
        with writing(self._path):
            if self._bytes_written > LARGE:
                self._file.seek(0)
                self._file.truncate()
                self._bytes_written = self._file.write(b"".join(self._unsettled.values())) or 0
            self._put_aside(self._unsettled.get(id, b""))  # asked again, so what came before could not be read
            self._unsettled[id] = line
            self._file.write(line)
            self._bytes_written += len(line)

    def settle(self, id: str) -> None:
        """Let go of a reply: its trace is in the log."""
        self._unsettled.pop(id, None)

    def _put_aside(self, lines: bytes) -> None:
        if lines:
            with writing(self._unread_path), self._unread_path.open("ab") as unread:
                unread.write(lines)
