"""How a child process of ours is started and ended; which kind of child is right when, the room's door says.

A child runs this interpreter and ends with the process it works for, killed by signal 9 or not: the child of
`function_command` because the handles it was given close, every other because it calls `end_with_parent`. (Linux's
PR_SET_PDEATHSIG would not do: it fires when the starting *thread* ends.) Ctrl-C is the owner's affair: a child that may
outlast it ignores it or has a session of its own.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import NamedTuple

_ENTER = (
    "import gc, importlib, json, signal, sys; "
    "gc.disable(); "  # imports leave no garbage, and being searched for it makes a third of what they cost
    "signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "sys.path[:] = json.loads(sys.argv[1]); "
    "getattr(importlib.import_module(sys.argv[2]), sys.argv[3])(*sys.argv[4:])"
)
_LAST_WORDS = 1 << 16  # bytes of what a child said at its end that are kept


def module_command(module: str, *arguments: str) -> list[str]:
    """The command line that runs a module as a program in this interpreter."""
    return [sys.executable, "-m", module, *arguments]


def function_command(function: Callable[..., None], *arguments: str) -> list[str]:
    """The command line that calls a function of a module in this interpreter, with this process's import path.

    Python looks for garbage again once the function has called `gc.enable`.
    """
    import_path = json.dumps(sys.path)
    return [sys.executable, "-P", "-c", _ENTER, import_path, function.__module__, function.__name__, *arguments]


class Answer(NamedTuple):
    """What came of a child that ran to its end or to the end of its time."""

    status: int | None
    """Its exit status; null if it was still at work when the time was over, and killed."""
    output: str
    last_words: str
    """The end of its stderr."""


def run_module(module: str, *arguments: str, seconds: float) -> Answer:
    """Run a module that calls `end_with_parent` as a program, and wait for its end."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        status = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = subprocess.run(
                module_command(module, *arguments),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                timeout=seconds,
                check=False,
            ).returncode
        output.seek(0)
        errors.seek(max(0, errors.seek(0, os.SEEK_END) - _LAST_WORDS))
        return Answer(status, output.read().decode("utf-8", "replace"), errors.read().decode("utf-8", "replace"))


SPAWN: SpawnContext = multiprocessing.get_context("spawn")
"""A fork would copy the threads and locks of whatever this process has loaded."""


def spawned(function: Callable[..., None], *arguments: object, name: str) -> SpawnProcess:
    """A started process that calls a function of a module with pickled arguments."""
    process = SPAWN.Process(target=_call, args=(function, arguments), name=name)
    process.start()
    return process


def _call(function: Callable[..., None], arguments: Sequence[object]) -> None:
    end_with_parent()
    function(*arguments)


def end_with_parent() -> None:
    """End this process, a child of ours, as soon as its parent is gone; elsewhere than on Linux only a spawned one.

    A pool's worker waits for tasks at a pipe of which it holds the writing end too, so when the parent is killed by
    signal 9 nothing ever tells it.
    """
    parent = multiprocessing.parent_process()
    sentinel = parent.sentinel if parent else _process_handle(os.getppid())
    if sentinel is None:
        return

    def watch() -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _process_handle(pid: int) -> int | None:
    """A handle that is readable once a process has ended, where the kernel has such handles."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            return os.pidfd_open(pid)
    return None


def end_group(process: subprocess.Popen[bytes], seconds: float) -> None:
    """TERM to a child in a session of its own and to all that it started; KILL to what is left after some seconds."""
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, signal_number)
            process.wait(seconds)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait()
