"""Calls that may hang, grow without bound or crash run in a child process; it is killed, and only that call is lost.

Each process has one worker of its own, started at the first call. It is a plain child on a pipe: `multiprocessing`
(and pebble, built on it) refuses children to daemonic processes, which the workers of its own pools are, and runs the
caller's main module again. The kernel ends a call by itself, whatever holds the interpreter lock, once it has used its
processor time (not the clock's, so that a busy machine gives the same verdicts) or memory. The worker ends with its
owner, killed or not: the pipe closes, and a running call ends at its limit.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import threading
import weakref
from collections.abc import Callable
from functools import cache
from multiprocessing.connection import Connection, Pipe
from typing import TypedDict, TypeVar, cast

from distill.errors import RunError
from distill.machine import children, killable_worker

_CALLS_PER_WORKER = 20_000  # that one worker answers: a library's caches grow, and each call should find as much memory
_MAX_REPLY = 1 << 16  # bytes; more than that is no answer of ours
_START_SECONDS = 300.0  # by the clock, on a machine where many others are starting
_CLOCK_PER_CPU_SECOND = 20.0  # how much longer a call may take by the clock, if it waits for the processor


R = TypeVar("R")


class _WorkerReply(TypedDict, total=False):
    """A reply of the worker: the result, or what was raised."""

    result: object
    error: str


class Lost(Exception):
    """The call gave no result; the next one gets a new worker."""


class Timeout(Lost):
    pass


class Died(Lost):
    """Out of memory, or a crash."""


class Failed(Exception):
    """The function raised; the message names what."""


class Worker:
    """One child process, started when first needed and again after it was lost. Threads take turns.

    Args:
        warm: modules to import before the first call, outside its limits.
        seconds: processor time that one call may use.
        memory: MiB of address space that the worker may have on top of what the imports took.
    """

    def __init__(self, warm: tuple[str, ...] = (), seconds: float = 3.0, memory: int = 512) -> None:
        self._setup = json.dumps({"warm": warm, "seconds": seconds, "memory": memory})
        self._patience = seconds * _CLOCK_PER_CPU_SECOND
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._pipe: Connection[object, object] | None = None
        self._calls_left = 0
        _workers.add(self)

    def call(self, function: Callable[..., R], *args: object) -> R:
        """`function(*args)`, a function of a module; arguments and result are JSON, which makes lists of tuples.

        Raises:
            Timeout, Died: the call is lost.
            Failed: the function raised.
            RunError: no worker can be started.
        """
        task = json.dumps([function.__module__, function.__qualname__, args]).encode()
        with self._lock:
            if self._calls_left <= 0 or (self._child and self._child.poll() is not None):  # it was killed
                self._end()
            pipe = self._pipe or self._start()
            self._calls_left -= 1
            reply = self._ask(pipe, task, self._patience)
        if "error" in reply:
            raise Failed(reply["error"])
        return cast(R, reply["result"])

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    def close(self) -> None:
        with self._lock:
            self._end()

    def _start(self) -> Connection[object, object]:
        self._pipe, child_end = Pipe()
        try:
            self._child = subprocess.Popen(
                children.function_command(killable_worker.serve, str(child_end.fileno()), self._setup),
                pass_fds=[child_end.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            child_end.close()
            ready = self._ask(self._pipe, b"", _START_SECONDS)
        except (OSError, Lost) as error:
            self._end()
            raise RunError(f"cannot start a verifying process: {error!r}", fix="is there memory left?") from error
        if "error" in ready:
            self._end()
            raise RunError(f"a verifying process cannot start: {ready['error']}", fix="reinstall distill")
        self._calls_left = _CALLS_PER_WORKER
        return self._pipe

    def _ask(self, pipe: Connection[object, object], task: bytes, patience: float) -> _WorkerReply:
        try:
            if task:
                pipe.send_bytes(task)
            if not pipe.poll(patience):
                raise Timeout
            reply: _WorkerReply = json.loads(pipe.recv_bytes(_MAX_REPLY))
            return reply
        except Timeout:
            self._end()
            raise
        except (OSError, EOFError, ValueError) as error:  # it is gone, or says what we never would
            status = self._end()
            raise (Timeout() if status == -signal.SIGPROF else Died(f"exit status {status}")) from error

    def _end(self) -> int | None:
        """Kill the child if it lives, and return how it ended."""
        child = self._child
        self._child = None
        if self._pipe:
            self._pipe.close()
            self._pipe = None
        if child is None:
            return None
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(timeout=0.2)  # idle ones end when the pipe closes; dead ones have their reason
        child.kill()
        return child.wait()

    def forget(self) -> None:
        """In a forked process: let go of the parent's worker, whose pipe would else outlive the parent."""
        if self._pipe:
            os.close(self._pipe.fileno())
        if self._child:
            self._child.returncode = 0  # not our child, so there is nothing to wait for
        self._child = None
        self._pipe = None
        self._lock = threading.Lock()


_workers: weakref.WeakSet[Worker] = weakref.WeakSet()


def _forget_all() -> None:
    for worker in list(_workers):
        worker.forget()


def _close_all() -> None:
    for worker in list(_workers):
        worker.close()


os.register_at_fork(after_in_child=_forget_all)
atexit.register(_close_all)


@cache
def shared() -> Worker:
    """This process's worker for algebra."""
    return Worker(warm=("math_verify",))
