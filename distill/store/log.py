"""The writer of a log.

What `append` promises: the row has reached the kernel before it returns, so `kill -9` loses nothing that was appended.
A thread syncs to disk every `FSYNC_SECONDS` while rows come, and `close` does: power loss costs the rows of the last
seconds, the last perhaps torn. Where syncing fails (over NFS a full quota shows only then) the next append says so. A
torn last line is cut off, and kept in `<name>.torn`, when the log is opened for writing; readers skip it. On a full
disk `append` raises, what was written of the row is taken back, and the log is good for more once there is space.

When the active file has grown to `SEAL` bytes it becomes a part of its own, which a thread compresses while appending
goes on (log_parts.py). Logs that stay smaller are one plain file.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import weakref
from pathlib import Path
from types import TracebackType

import orjson

from distill.errors import DistillError, writing
from distill.progress import LOG
from distill.store import log_parts
from distill.store.lock import WriterLock
from distill.types import Record

FSYNC_SECONDS = 5.0
SEAL = 256 << 20
"""Bytes of the active file that make it a part to be sealed."""
_TAIL = 1 << 20


class Log:
    """Opens the log at `path` for appending; use as a context manager. Appending is safe from several threads.

    Args:
        seal: see `SEAL`.

    Raises:
        RunError: another process writes it (named), or it cannot be written.
    """

    def __init__(self, path: Path, seal: int = SEAL) -> None:
        self.path = path
        self._seal_size = seal
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = WriterLock(path)
        try:
            with writing(path):
                unsealed = log_parts.recover(path)
                parts = log_parts.finished(path)
                self._part_number = len(parts)
                self._part_start = parts[-1].end if parts else 0
                self._file = path.open("ab", buffering=0)
                self.torn_bytes = _cut_torn_tail(path)
                self._size = path.stat().st_size
        except BaseException:
            self._lock.release()
            raise
        self._mutex = threading.Lock()
        self._unsynced = False
        self._sync_error: OSError | None = None
        self._closed = threading.Event()
        threading.Thread(target=_keep_synced, args=(weakref.ref(self), self._closed), daemon=True).start()
        self._sealer = _Sealer(path)
        for number in unsealed:
            self._sealer.add(number)

    def append(self, record: Record) -> int:
        """Write a row; returns its offset, which with the path is its address.

        Raises:
            RunError: the disk is full, or another process took the log over.
        """
        return self.append_bytes(orjson.dumps(record.model_dump(mode="json"), option=orjson.OPT_APPEND_NEWLINE))

    def append_bytes(self, line: bytes) -> int:
        """Append a row that is JSON already: one line with its newline; returns its offset."""
        if line.find(b"\n") != len(line) - 1:
            raise ValueError("one line, ended by a newline")
        self._lock.check()
        with self._mutex, writing(self.path):
            if self._sync_error:
                raise self._sync_error
            if self._size >= self._seal_size or self._file.closed:
                self._rotate()
            offset = self._part_start + self._size
            try:
                self._write(line)
            except OSError:
                with contextlib.suppress(OSError):  # a line begun would spoil the one after it
                    os.ftruncate(self._file.fileno(), self._size)
                raise
            self._size += len(line)
            self._unsynced = True
        return offset

    def _write(self, line: bytes) -> None:
        remaining = memoryview(line)
        while remaining:  # a nearly full disk takes part of a line
            remaining = remaining[self._file.write(remaining) :]

    def _rotate(self) -> None:
        """Begin a new active file; what a failing step leaves undone, the next append does."""
        if not self._file.closed:
            os.fsync(self._file.fileno())
            log_parts.rotate(self.path, self._part_number)
            self._file.close()
            self._sealer.add(self._part_number)
            self._part_number += 1
            self._part_start += self._size
            self._size = 0
        self._file = self.path.open("ab", buffering=0)

    def sync(self) -> None:
        """Bring the appended rows to the disk; appending goes on meanwhile."""
        with self._mutex:
            if not self._unsynced or self._file.closed:
                return
            self._unsynced = False
            handle = os.dup(self._file.fileno())
        try:
            os.fsync(handle)
        except OSError as error:  # what did not reach the disk is not known: no more may be built on it
            self._sync_error = error
        finally:
            os.close(handle)

    def close(self) -> None:
        """Wait for the sealing under way, sync, and let others write.

        Raises:
            RunError: appended rows could not be brought to the disk.
        """
        self._end(wait=True)
        with writing(self.path):
            if self._sync_error:
                raise self._sync_error

    def _end(self, wait: bool) -> None:
        self._closed.set()
        try:
            self._sealer.end(wait)
        finally:
            self.sync()
            self._file.close()
            self._lock.release()

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._end(wait=False)  # a failing sync would hide the error under way; parts are sealed another time


def _keep_synced(log: weakref.ref[Log], closed: threading.Event) -> None:
    """Sync a log until it is closed; holds no reference, so that one dropped without closing gives its lock back."""
    while not closed.wait(FSYNC_SECONDS):
        live_log = log()
        if live_log is None:
            return
        live_log.sync()
        del live_log


class _Sealer:
    """A thread that seals parts one after another, from the first on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parts: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, number: int) -> None:
        self._parts.put(number)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while (number := self._parts.get()) is not None:
            try:
                log_parts.seal(self._path, number, self._stop.is_set)
            except (DistillError, OSError) as error:  # the part is as good unsealed; the next writer tries again
                LOG.warning("a part of the log stays uncompressed: %s", error)

    def end(self, wait: bool) -> None:
        """Seal what waits and end; without `wait` stop within a frame."""
        if self._thread is None:
            return
        if not wait:
            self._stop.set()
        self._parts.put(None)
        try:
            self._thread.join()
        except BaseException:  # Ctrl-C: the lock must not go before the thread has ended
            self._stop.set()
            self._thread.join()
            raise


def _cut_torn_tail(path: Path) -> int:
    """Move bytes after the last newline into `<name>.torn`; returns how many."""
    size = path.stat().st_size
    if size == 0:
        return 0
    with path.open("r+b") as file:
        end = size
        while end > 0:
            start = max(0, end - _TAIL)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end == size:
            return 0
        file.seek(end)
        with path.with_name(path.name + ".torn").open("ab") as torn_file:
            torn_file.write(file.read() + b"\n")
        file.truncate(end)
    return size - end
