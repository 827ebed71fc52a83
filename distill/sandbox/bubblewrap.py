"""Bubblewrap: programs run on this machine in namespaces of their own, as nobody, without network or files.

Needs bwrap 0.8 or newer and user namespaces; a first run proves that both isolate, else nothing is run. A program
sees the system's folders and its interpreter, read-only, and a /tmp of its own; it has no /proc, no network and none
of the system calls in `_seccomp`. Each process may have `memory`, and all are stopped within about 50 ms of passing
it together; what they can reach meanwhile is bounded by processes x memory. Files, which are memory too, count
against `disk`. A program ends with the process that runs it, unless that is killed in the very milliseconds in which
bwrap sets up.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from distill.sandbox import Limits, SandboxResult, _launch, _selftest
from distill.sandbox._process import Process
from distill.types import Record


class Config(Record):
    python: str | None = None
    """Interpreter of the programs, such as one with numpy; None takes the one that runs distill, without its
    packages."""
    mounts: tuple[str, ...] = ()
    """Folders that programs may read besides the system's."""


class Bubblewrap:
    def __init__(self, launch: _launch.BwrapLaunch) -> None:
        self._launch = launch

    def run(
        self, files: Mapping[str, str | bytes], command: list[str], stdin: str = "", limits: Limits | None = None
    ) -> SandboxResult:
        limits = limits or Limits()
        with self._launch.start(files, command, limits, stdin.encode("utf-8", "replace")) as (popen, status):
            process = Process(popen, status, limits)
        process.wait()
        return SandboxResult(
            status=process.end_status or "killed",
            exit_code=process.exit_code,
            stdout=process.stdout.decode("utf-8", "replace"),
            stderr=process.error_text(),
            seconds=process.seconds,
        )

    def open(self, files: Mapping[str, str | bytes], command: list[str], limits: Limits | None = None) -> Process:
        """Start a program to talk to. It ends with the thread that opened it."""
        limits = limits or Limits()
        with self._launch.start(files, command, limits, None) as (popen, status):
            return Process(popen, status, limits)


@cache
def build(config: Config) -> Bubblewrap:
    """The sandbox, proven once per process.

    Raises:
        BackendError: it cannot be started, or lets something through; says what to do.
    """
    _selftest.require()
    sandbox = Bubblewrap(_launch.plan(config.python, config.mounts))
    _selftest.prove(sandbox)
    return sandbox
