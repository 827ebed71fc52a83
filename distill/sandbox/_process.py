"""One bubblewrapped program from the outside: its pipes, read with a bound; its clock; the end of all its processes."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
import weakref
from pathlib import Path

from distill.errors import BackendError
from distill.sandbox import Ended, Limits, Status

_ROUND_SECONDS = 0.05
"""Seconds between looks at the memory."""
_KEPT_STDERR = 64_000
"""Bytes of standard error that are kept."""
_KILL_GRACE = 5.0
"""Seconds that killed processes get to vanish."""
_MIB = 1 << 20


class Process:
    """Drives a started bwrap.

    `status_fd` is the read end of its --json-status-fd: it tells the pid of the first process inside, whose death the
    kernel makes the death of all others, and an exit code only if the program was started at all.
    """

    def __init__(self, popen: subprocess.Popen[bytes], status_fd: int, limits: Limits) -> None:
        self._popen = popen
        self._limits = limits
        self._started = time.monotonic()
        self._init_pidfd: int | None = None
        self._init_pid = 0
        self._status_buffer = b""
        self._unsent = b""
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.end_status: Status | None = None
        self.exit_code: int | None = None
        self._never_started = False
        self._selector = selectors.PollSelector()
        self._status_fd = status_fd
        assert popen.stdout is not None
        assert popen.stderr is not None
        for fd, channel in ((status_fd, "status"), (popen.stdout.fileno(), "output"), (popen.stderr.fileno(), "error")):
            os.set_blocking(fd, False)
            self._selector.register(fd, selectors.EVENT_READ, channel)
        _open_processes.add(self)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def wait(self) -> None:
        """Run until the program has ended, for whatever reason."""
        while self.end_status is None:
            self._poll_once(self._started + self._limits.seconds)
        self.close()

    def ask(self, line: bytes, seconds: float) -> bytes:
        deadline = min(time.monotonic() + seconds, self._started + self._limits.seconds)
        self._queue_input(line)
        while (newline := self.stdout.find(b"\n")) < 0 and self.end_status is None:
            self._poll_once(deadline)
        if newline < 0:
            self.close()
            raise Ended(self.end_status or "killed", self.error_text())
        answer = bytes(self.stdout[: newline + 1])
        del self.stdout[: newline + 1]
        return answer

    @property
    def alive(self) -> bool:
        return self.end_status is None and self._popen.poll() is None

    def error_text(self) -> str:
        return self.stderr.decode("utf-8", "replace")

    def close(self) -> None:
        """Kill everything inside, wait until it is gone, read what is left in the pipes, free them.

        Raises:
            BackendError: bwrap never started the program, or its processes do not die.
        """
        if self._status_fd < 0:
            return
        self._end_as(self.end_status or "killed")
        if self._init_pidfd is None:
            self._popen.kill()
        else:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._init_pidfd, signal.SIGKILL)
        try:
            all_dead = self._init_pidfd is None or _wait_readable(self._init_pidfd, _KILL_GRACE)
            self._popen.wait(_KILL_GRACE if all_dead else 0.1)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            all_dead = False
        for key in [*self._selector.get_map().values()]:
            if key.data in ("output", "error"):
                self._handle_ready(key)
        self._selector.close()
        for fd in (self._status_fd, self._init_pidfd):
            if fd is not None:
                os.close(fd)
        self._status_fd = -1
        for stream in (self._popen.stdin, self._popen.stdout, self._popen.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        if not all_dead:
            raise BackendError("the sandbox's processes do not die", fix="look for a hung disk or kernel in dmesg")
        if self._never_started:
            raise BackendError(f"the sandbox did not start: {self.error_text().strip()[-500:]}")

    def __del__(self) -> None:
        if self._status_fd >= 0:
            with contextlib.suppress(BackendError, OSError):
                self.close()

    def _poll_once(self, deadline: float) -> None:
        seconds_left = deadline - time.monotonic()
        for key, _ in self._selector.select(max(0.0, min(seconds_left, _ROUND_SECONDS))):
            self._handle_ready(key)
        if self.end_status is not None:
            return
        if seconds_left <= 0:
            self._end_as("timeout")
        elif len(self.stdout) > self._limits.output * _MIB:
            self._end_as("output")
        elif self._exceeds_memory():
            self._end_as("memory")

    def _exceeds_memory(self) -> bool:
        if self._init_pidfd is None or self.seconds <= _ROUND_SECONDS:
            return False
        return _memory_of(self._init_pid) > self._limits.memory * _MIB

    def _handle_ready(self, key: selectors.SelectorKey) -> None:
        handlers = {
            "status": self._read_status,
            "output": self._take_output,
            "error": self._take_error,
            "input": self._write_input,
        }
        handlers[key.data](key.fd)

    def _end_as(self, status: Status) -> None:
        self.end_status = self.end_status or status

    def _read_status(self, fd: int) -> None:
        data = os.read(fd, 4096)
        self._status_buffer += data
        *lines, self._status_buffer = self._status_buffer.split(b"\n")
        for event in map(json.loads, lines):
            if pid := event.get("child-pid"):
                with contextlib.suppress(ProcessLookupError):  # already over: its exit code follows
                    self._init_pidfd = os.pidfd_open(pid)
                    self._init_pid = pid
            if "exit-code" in event:
                self.exit_code = event["exit-code"]
                self._end_as(_status_of(event["exit-code"], self.stderr))
        if not data:
            self._selector.unregister(fd)
            self._never_started = self.exit_code is None and self.end_status is None
            self._end_as("killed")

    def _take_output(self, fd: int) -> None:
        room = self._limits.output * _MIB + 1
        while len(self.stdout) < room and (data := _read_available(fd)) is not None:
            if not data:
                self._selector.unregister(fd)
                return
            self.stdout += data[: room - len(self.stdout)]

    def _take_error(self, fd: int) -> None:
        for _ in range(16):  # a program that writes without end must not hold this loop for ever
            data = _read_available(fd)
            if data is None:
                return
            if not data:
                self._selector.unregister(fd)
                return
            self.stderr += data
            del self.stderr[:-_KEPT_STDERR]

    def _queue_input(self, line: bytes) -> None:
        assert self._popen.stdin is not None
        self._unsent += line
        fd = self._popen.stdin.fileno()
        os.set_blocking(fd, False)
        if fd not in self._selector.get_map():
            self._selector.register(fd, selectors.EVENT_WRITE, "input")

    def _write_input(self, fd: int) -> None:
        try:
            self._unsent = self._unsent[os.write(fd, self._unsent[:_MIB]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # it closed its input: its answer, or its end, will tell
            self._unsent = b""
        if not self._unsent:
            self._selector.unregister(fd)


_open_processes: weakref.WeakSet[Process] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for process in [*_open_processes]:
        with contextlib.suppress(BackendError, OSError):
            process.close()


def _status_of(code: int, stderr: bytearray) -> Status:
    if code == 0:
        return "ok"
    if code == 128 + signal.SIGXCPU:
        return "timeout"
    if b"MemoryError" in stderr[-2000:]:
        return "memory"
    return "killed" if code > 128 else "error"


def _read_available(fd: int) -> bytes | None:
    """The bytes that can be read now; empty at the end of the stream, None when there are none yet."""
    try:
        return os.read(fd, _MIB)
    except BlockingIOError:
        return None


def _wait_readable(fd: int, seconds: float) -> bool:
    with selectors.PollSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        return bool(selector.select(seconds))


def _memory_of(pid: int) -> int:
    """Bytes of anonymous and shared memory of a process and its descendants; pages shared since a fork count each time.

    0 where the kernel does not tell: the limit of each process, set inside, holds all the same.
    """
    total = 0
    folder = Path("/proc") / str(pid)
    with contextlib.suppress(OSError, ValueError):
        for line in (folder / "status").read_text().splitlines():
            if line.startswith(("RssAnon:", "RssShmem:")):
                total += int(line.split()[1]) * 1024
        for task in (folder / "task").iterdir():
            total += sum(_memory_of(int(child)) for child in (task / "children").read_text().split())
    return total
