"""SIGTERM, as a scheduler sends it before the walltime, ends an event loop's task cleanly."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from distill.errors import Stopped


@contextmanager
def until_terminated() -> Iterator[None]:
    """Cancels the current task at SIGTERM.

    Raises:
        Stopped: SIGTERM came.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    if task is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    sigterm_received = False

    def terminate() -> None:
        nonlocal sigterm_received
        sigterm_received = True
        task.cancel()

    loop.add_signal_handler(signal.SIGTERM, terminate)
    try:
        yield
    except asyncio.CancelledError:
        if not sigterm_received:
            raise
        raise Stopped("stopped by SIGTERM; what is finished is saved, the same command goes on from there") from None
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
