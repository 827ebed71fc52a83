"""Assert tests of a program, each side in a sandbox of its own; only lines of plain data pass between them.

The tests run where the program cannot reach: it does not see them, cannot end them, and what it returns is rebuilt from
plain data before it is compared. The report comes over a pipe that the program's sandbox has never held.
"""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

from distill.errors import BackendError
from distill.sandbox import Ended, Interactive, Limits, Session, inside

_FOREVER = 1e7
"""Seconds that the tester's session may last; each exam has a limit of its own."""
_GRACE = 2.0
"""Seconds beyond the program's limit that the tests may take to report."""
_STATUS = {"timeout": "timeout", "memory": "memory", "output": "output_limit"}
REASONS = {"wrong_output", "runtime_error", "syntax_error", "memory", "unsupported_tests", "timeout", "output_limit"}


def _files(*names: str) -> dict[str, str | bytes]:
    """Modules of `sandbox/inside` as they lie in a sandbox, where nothing else of distill exists."""
    folder = Path(inside.__file__).parent
    modules = {f"distill/sandbox/inside/{name}.py": (folder / f"{name}.py").read_bytes() for name in (*names, "wire")}
    packages = dict.fromkeys(("distill", "distill/sandbox", "distill/sandbox/inside"), b"")
    return {**{f"{package}/__init__.py": text for package, text in packages.items()}, **modules}


class Examiner:
    """Keeps one process that runs tests, each set in a fork of it; every program gets a fresh sandbox."""

    def __init__(self, sandbox: Interactive) -> None:
        self._sandbox = sandbox
        self._tester: Session | None = None
        self._lock = threading.Lock()

    def examine(self, program: str, job: dict[str, Any], limits: Limits) -> dict[str, Any]:
        """Run the tests of `job` (`tests`, `prompt`, `entry_point`) on a program.

        Returns:
            `passed`, `right` of `total` asserts, `reason` (one of REASONS; empty when passed), `detail`.

        Raises:
            BackendError: a sandbox failed; says nothing of the program.
        """
        files = {**_files("candidate"), "program.py": program}
        command = ["python", "-E", "-s", "-m", "distill.sandbox.inside.candidate", "program.py"]
        with self._lock:
            candidate = self._sandbox.open(files, command, limits)
            try:
                return self._dialogue(candidate, json.dumps(job).encode() + b"\n", limits.seconds)
            finally:
                candidate.close()

    def _dialogue(self, candidate: Session, line: bytes, seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        end: Ended | None = None
        try:
            told = self._running().ask(line, seconds + _GRACE)
            while told.startswith(b">"):
                answer = b"\n"
                if end is None:
                    try:
                        answer = candidate.ask(told[1:], max(0.0, deadline - time.monotonic()))
                    except Ended as ended:
                        end = ended
                told = self._running().ask(answer, max(0.0, deadline - time.monotonic()) + _GRACE)
        except Ended as ended:
            return self._unfinished(ended)
        report: dict[str, Any] = json.loads(told[1:])
        if end is not None:
            report |= {"passed": False, "reason": _STATUS.get(end.status, "runtime_error")}
            report["detail"] = f"the program ended ({end.status}) {end.stderr.strip()[-150:]}"
        if not report["passed"] and report["reason"] not in REASONS:
            report["reason"] = "runtime_error"
        return report

    def _unfinished(self, ended: Ended) -> dict[str, Any]:
        """The tests themselves were stopped: by what the program made them do, unless their sandbox failed."""
        if ended.status not in _STATUS:
            raise BackendError(f"the tests' sandbox ended ({ended.status}): {ended.stderr.strip()[-300:]}")
        return {"passed": False, "right": 0, "total": 1, "reason": _STATUS[ended.status], "detail": "in the tests"}

    def _running(self) -> Session:
        if self._tester is None or not self._tester.alive:
            command = ["python", "-E", "-s", "-m", "distill.sandbox.inside.tester"]
            limits = Limits(seconds=_FOREVER, memory=1024, output=64)
            self._tester = self._sandbox.open(_files("tester"), command, limits)
        return self._tester
