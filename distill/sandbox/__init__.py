"""Sandboxes run programs that nobody vouches for. One file per kind.

A kind has a `Config` and `build(config) -> Sandbox`; building proves that it isolates, or raises. Every kind grants
no network, nothing of the user's files, bounded time, memory and output, and no process left when a run is over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol, runtime_checkable

from pydantic import Field

from distill import plugins
from distill.types import Record

Status = Literal["ok", "error", "timeout", "memory", "output", "killed"]
"""ok: exit code 0; error: another exit code; killed: ended by a signal; the rest name the limit that was passed."""


class Limits(Record):
    """What one launch may use, all of its processes together unless a field says otherwise."""

    seconds: float = Field(10.0, gt=0)
    """Wall time in seconds; of a session, from its start to its end."""
    cpu: int | None = Field(None, ge=1)
    """CPU seconds of each process."""
    memory: int = Field(512, ge=16)
    """MiB of memory."""
    processes: int = Field(16, ge=2)
    """Processes and threads, two of which the sandbox needs."""
    output: int = Field(8, ge=1)
    """MiB of standard output; of a session, in one line."""
    disk: int = Field(64, ge=1)
    """MiB of files, which live in memory and are gone afterwards."""
    files: int = Field(64, ge=16)
    """File descriptors of each process."""


class SandboxResult(Record):
    status: Status
    exit_code: int | None
    """128 + the signal's number where a signal ended it; None where it was stopped for passing a limit."""
    stdout: str
    stderr: str
    """The end of standard error, at most 64 kB."""
    seconds: float


class Ended(Exception):
    """A session's program is over; `status` says how, and "ok" means that it left of its own accord."""

    def __init__(self, status: Status, stderr: str) -> None:
        super().__init__(status)
        self.status = status
        self.stderr = stderr


class Session(Protocol):
    """A running program that answers lines with lines."""

    @property
    def alive(self) -> bool: ...

    def ask(self, line: bytes, seconds: float) -> bytes:
        """Send a line and wait for one, both with their newline.

        Raises:
            Ended: the program left, or was stopped for passing a limit (`timeout` after `seconds`).
            BackendError: the sandbox itself failed.
        """
        ...

    def close(self) -> None:
        """Kill all of its processes and wait until they are gone."""
        ...


@runtime_checkable
class Sandbox(Protocol):
    def run(
        self, files: Mapping[str, str | bytes], command: list[str], stdin: str = "", limits: Limits | None = None
    ) -> SandboxResult:
        """Run a program to its end.

        Args:
            files: relative path to content; they lie in the working directory.
            command: the program and its arguments; `python` stands for the sandbox's own interpreter.

        Raises:
            BackendError: the sandbox itself failed; says nothing of the program.
        """
        ...


@runtime_checkable
class Interactive(Protocol):
    """A sandbox in which a program can be talked to."""

    def open(self, files: Mapping[str, str | bytes], command: list[str], limits: Limits | None = None) -> Session: ...


class ChosenSandbox(plugins.Chosen):
    """A kind of sandbox and its settings."""

    family = "sandbox"
    contract = "distill.sandbox.Sandbox"

    def build(self) -> Sandbox:
        """The sandbox that these settings make.

        Raises:
            InputError: it cannot be used with them here, or a user's own file gives something else.
            BackendError: it does not isolate on this machine.
        """
        built = self._build()
        if not isinstance(built, Sandbox):
            raise self._misbuilt(built)
        return built
