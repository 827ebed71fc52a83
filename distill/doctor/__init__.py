"""What this machine can do for distill: a finding for each thing that a command may need, with its remedy.

No probe takes another down: each has a thread and a time limit of its own, and what it raises is its finding. What is
heavy to import, may crash the interpreter or waits for a network is tried in a child process (`child.py`).
"""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from distill.doctor.finding import Finding, Findings, first_line

PROBES = (
    ("packages", "packages.probe", 20),
    ("cores", "machine.cores", 10),
    ("memory", "machine.memory", 10),
    ("disk", "machine.disk", 20),
    ("file locks", "machine.locks", 20),
    ("terminal", "machine.terminal", 10),
    ("compilers", "machine.compilers", 10),
    ("slurm", "machine.slurm", 20),
    ("Hub", "access.hub", 30),
    ("sandbox", "access.sandbox", 40),
    ("engines", "engines.probe", 180),
)
"""Name of each probe, the function of a module of this folder that it calls, and its time limit in seconds."""


def tiny_should_work(findings: Findings) -> bool:
    """Whether `distill run tiny` should work here."""
    return all(finding.status == "ok" or not finding.needed for finding in findings)


def examine(folder: Path) -> Iterator[Finding]:
    """Give all findings in a stable order, each as soon as it and those before it are known.

    Args:
        folder: of runs, or the run folder that is meant; need not exist.
    """
    probes = [_RunningProbe(name, _lazy_probe(location), folder, seconds) for name, location, seconds in PROBES]
    for probe in probes:
        yield from probe.findings()


def _lazy_probe(location: str) -> Callable[[Path], Findings]:
    """A probe that is imported when it is called: a package that is missing is its own finding, not all of them."""

    def probe(folder: Path) -> Findings:
        module, _, function = location.partition(".")
        findings: Findings = getattr(importlib.import_module(f"distill.doctor.{module}"), function)(folder)
        return findings

    return probe


class _RunningProbe(threading.Thread):
    """One probe under way. A daemon: a file system that hangs shall not keep the command from ending."""

    def __init__(self, name: str, probe: Callable[[Path], Findings], folder: Path, seconds: float) -> None:
        super().__init__(name=name, daemon=True)
        self._probe = probe
        self._folder = folder
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._findings: list[Finding] | None = None
        self.start()

    def run(self) -> None:
        try:
            self._findings = list(self._probe(self._folder))
        except Exception as error:  # noqa: BLE001  the boundary: whatever a package does, the others are told
            self._findings = [Finding(name=self.name, status="broken", message=first_line(error))]

    def findings(self) -> list[Finding]:
        self.join(max(0.0, self._deadline - time.monotonic()))
        if self._findings is None:
            return [Finding(name=self.name, status="broken", message=f"gave no answer in {self._seconds:g} s")]
        return self._findings
