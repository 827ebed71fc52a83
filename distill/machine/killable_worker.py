"""The far end of `killable`: a process that answers one call after another and may be killed at any moment."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path


def serve(handle: str, settings: str) -> None:
    """The worker's life: answer calls until the owner is gone."""
    pipe: Connection[object, object] = Connection(int(handle))
    setup = json.loads(settings)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    with contextlib.suppress(EOFError, OSError):
        pipe.send_bytes(_result(_prepare, [setup["warm"], setup["memory"]]))
        while True:
            module, name, args = json.loads(pipe.recv_bytes())
            signal.setitimer(signal.ITIMER_PROF, setup["seconds"])
            reply = _result(getattr(importlib.import_module(module), name), args)
            signal.setitimer(signal.ITIMER_PROF, 0)
            pipe.send_bytes(reply)


def _prepare(warm: list[str], memory: int) -> None:
    for module in warm:
        importlib.import_module(module)
    gc.freeze()  # what the imports left behind need not be searched again
    gc.enable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, ValueError):  # not everywhere, and never above a limit that we were given
        used_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used_bytes + (memory << 20),) * 2)


def _result(function: Callable[..., object], args: list[object]) -> bytes:
    try:
        return json.dumps({"result": function(*args)}).encode()
    except MemoryError:
        os._exit(1)  # what is left of the heap is of no use to the next call
    except Exception as error:  # noqa: BLE001  a named boundary: what a library raises is the caller's to judge
        return json.dumps({"error": f"{type(error).__name__}: {error}"[:500]}).encode()
