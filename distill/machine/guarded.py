"""Foreign programs that start processes of their own, such as model servers, and must not outlive this process.

The program runs in its own session (Ctrl-C on the terminal stops distill, which then stops the program) under a small
guard, this file run as a module. The guard watches its parent: when that is gone, even by `kill -9`, it ends the whole
process group, so no engine is left holding the memory. (PR_SET_PDEATHSIG would reach the program alone, not the
processes that it started.)
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from distill.errors import writing
from distill.machine import children

_GRACE = 6.0  # seconds that a server may take to stop; with what follows, a command that started one ends within 10 s


class Guarded:
    """A running command; its output goes to `log`."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self.log = log
        guard = children.module_command("distill.machine.guarded", str(os.getpid()), *command)
        with writing(log):
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("wb") as log_file:
                self._process = subprocess.Popen(
                    guard,
                    stdin=subprocess.DEVNULL,
                    stdout=log_file,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **env},
                    start_new_session=True,
                )

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        """TERM to the group, KILL to what is left of it; blocks until it is gone."""
        children.end_group(self._process, _GRACE + 2)


def _guard(parent: int, command: Sequence[str]) -> None:
    terminated = False

    def on_terminate(*_: object) -> None:  # the group is told to stop: the guard waits for the server
        nonlocal terminated
        terminated = True

    server = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, on_terminate)
    while server.poll() is None and os.getppid() == parent:
        time.sleep(0.2)
    if server.poll() is None:
        os.killpg(0, signal.SIGTERM)
        try:
            server.wait(_GRACE)
        except subprocess.TimeoutExpired:
            print(f"guard: the server did not stop within {_GRACE:g} s and is killed", flush=True)  # noqa: T201
    elif server.returncode < 0 and not terminated:
        # killed: the kernel's answer to a lack of memory, and no server logs that
        name = signal.Signals(-server.returncode).name
        print(f"guard: error: the server was killed by {name}", flush=True)  # noqa: T201
    os.killpg(0, signal.SIGKILL)  # whatever the server left behind, and this guard


if __name__ == "__main__":
    _guard(int(sys.argv[1]), sys.argv[2:])
