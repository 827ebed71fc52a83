"""Assert tests of a program, each side in a sandbox of its own; only lines of plain data pass between them.

The tests run where the program cannot reach: it does not see them, cannot end them, and what it returns is rebuilt from
plain data before it is compared. The report comes over a pipe that the program's sandbox has never held.
"""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from distill.errors import BackendError
from distill.sandbox import Ended, Interactive, Limits, Session, inside

if TYPE_CHECKING:
    from distill.sandbox.inside.tester import ExamReport

_TESTER_SECONDS = 1e7
"""Seconds that the tester's session may last; each exam has a limit of its own."""
_REPORT_GRACE = 2.0
"""Seconds beyond the program's limit that the tests may take to report."""
_REASON_OF_STATUS = {"timeout": "timeout", "memory": "memory", "output": "output_limit"}
REASONS = {"wrong_output", "runtime_error", "syntax_error", "memory", "unsupported_tests", "timeout", "output_limit"}


def _module_files(*names: str) -> dict[str, str | bytes]:
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

    def examine(self, program: str, job: dict[str, object], limits: Limits) -> ExamReport:
        """Run the tests of `job` (`tests`, `prompt`, `entry_point`) on a program.

        Returns:
            `passed`, `right` of `total` asserts, `reason` (one of REASONS; empty when passed), `detail`.

        Raises:
            BackendError: a sandbox failed; says nothing of the program.
        """
        files = {**_module_files("candidate"), "program.py": program}
        command = ["python", "-E", "-s", "-m", "distill.sandbox.inside.candidate", "program.py"]
        with self._lock:
            candidate = self._sandbox.open(files, command, limits)
            try:
                return self._dialogue(candidate, json.dumps(job).encode() + b"\n", limits.seconds)
            finally:
                candidate.close()

    def _dialogue(self, candidate: Session, job_line: bytes, seconds: float) -> ExamReport:
        deadline = time.monotonic() + seconds
        candidate_end: Ended | None = None
        try:
            message = self._running_tester().ask(job_line, seconds + _REPORT_GRACE)
            while message.startswith(b">"):
                answer = b"\n"
                if candidate_end is None:
                    try:
                        answer = candidate.ask(message[1:], max(0.0, deadline - time.monotonic()))
                    except Ended as ended:
                        candidate_end = ended
                message = self._running_tester().ask(answer, max(0.0, deadline - time.monotonic()) + _REPORT_GRACE)
        except Ended as ended:
            return self._unfinished_report(ended)
        report: ExamReport = json.loads(message[1:])
        if candidate_end is not None:
            report |= {"passed": False, "reason": _REASON_OF_STATUS.get(candidate_end.status, "runtime_error")}
            report["detail"] = f"the program ended ({candidate_end.status}) {candidate_end.stderr.strip()[-150:]}"
        if not report["passed"] and report["reason"] not in REASONS:
            report["reason"] = "runtime_error"
        return report

    def _unfinished_report(self, ended: Ended) -> ExamReport:
        """The tests themselves were stopped: by what the program made them do, unless their sandbox failed."""
        if ended.status not in _REASON_OF_STATUS:
            raise BackendError(f"the tests' sandbox ended ({ended.status}): {ended.stderr.strip()[-300:]}")
        return {
            "passed": False,
            "right": 0,
            "total": 1,
            "reason": _REASON_OF_STATUS[ended.status],
            "detail": "in the tests",
        }

    def _running_tester(self) -> Session:
        if self._tester is None or not self._tester.alive:
            command = ["python", "-E", "-s", "-m", "distill.sandbox.inside.tester"]
            limits = Limits(seconds=_TESTER_SECONDS, memory=1024, output=64)
            self._tester = self._sandbox.open(_module_files("tester"), command, limits)
        return self._tester
