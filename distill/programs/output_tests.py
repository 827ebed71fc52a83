"""Programs judged by what they print for what they read: run in portions in the sandbox, compared here."""

from __future__ import annotations

import json
from pathlib import Path

from distill.answers.plain import RIGHT
from distill.programs.gold import Pairs, same_output
from distill.sandbox import Limits, Sandbox
from distill.sandbox.inside import batch
from distill.types import Outcome

_MIB = 1 << 20
_MAX_TESTS = 20
"""Tests in one launch of the sandbox."""
_MAX_INPUT = 16 * _MIB
"""Characters of input in one launch of the sandbox."""
_START_SECONDS = 5.0
"""Seconds that a launch may take besides its tests."""
_REASON_OF_EXCEPTION = {
    "MemoryError": "memory",
    "SyntaxError": "syntax_error",
    "IndentationError": "syntax_error",
    "TabError": "syntax_error",
}


def outcome(sandbox: Sandbox, code: str, tests: Pairs, limits: Limits, tolerance: float | None) -> Outcome:
    """Run a program on all inputs, up to one on which it passes a limit; what was not run counts as failed.

    Args:
        limits: those of one test.

    Raises:
        BackendError: the sandbox failed.
    """
    right_count = 0
    reason = ""
    detail = ""
    judged = 0
    while judged < len(tests.inputs):
        results, goes_on = _run(sandbox, code, _portion(tests.inputs[judged:]), limits)
        for index, result in enumerate(results, judged):
            failure, explanation = _judge(result, tests.outputs[index], tolerance)
            right_count += not failure
            if failure and not reason:
                reason = failure
                detail = f"test {index + 1}: {explanation}"[:200]
        judged += len(results)
        if not goes_on or results[-1].get("status") in ("timeout", "memory", "output"):
            break
    if right_count == len(tests.inputs):
        return RIGHT
    return Outcome(passed=False, reason=reason, score=right_count / len(tests.inputs), detail=detail)


def _portion(inputs: list[str]) -> list[str]:
    """The first of these inputs, as many as fit one launch."""
    room = _MAX_INPUT
    for index, text in enumerate(inputs[:_MAX_TESTS]):
        room -= len(text)
        if index and room < 0:
            return inputs[:index]
    return inputs[:_MAX_TESTS]


def _run(sandbox: Sandbox, code: str, inputs: list[str], limits: Limits) -> tuple[list[dict[str, object]], bool]:
    """At least one result, for the first inputs in order, and whether it makes sense to run those that remain."""
    task = json.dumps({"inputs": inputs, "seconds": limits.seconds, "output": limits.output * _MIB})
    files: dict[str, str | bytes] = {"batch.py": Path(batch.__file__).read_bytes(), "program.py": code}
    launch = sandbox.run(
        files,
        ["python", "-I", "batch.py", "program.py"],
        task,
        limits.model_copy(
            update={
                "seconds": limits.seconds * len(inputs) + _START_SECONDS,
                "output": 2 * limits.output * len(inputs) + 1,
            }
        ),
    )
    results = _read(launch.stdout)[: len(inputs)]
    launch_too_large = bool(results) and launch.status == "output"  # too much for one launch, not for one test
    if len(results) == len(inputs) or launch_too_large:
        return results, True
    status = "killed" if launch.status == "ok" else launch.status
    return [*results, {"status": status, "code": launch.exit_code, "stderr": launch.stderr}], False


def _read(stdout: str) -> list[dict[str, object]]:
    """The lines of a batch, up to one that is torn."""
    results: list[dict[str, object]] = []
    for line in stdout.split("\n"):
        try:
            result = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(result, dict):
            break
        results.append(result)
    return results


def _judge(result: dict[str, object], expected: str, tolerance: float | None) -> tuple[str, str]:
    """Reason and detail; no reason where the test passed."""
    status = result.get("status")
    stderr = str(result.get("stderr", "")).strip()
    if status == "ok":
        actual = str(result.get("stdout", ""))
        if same_output(expected, actual, tolerance):
            return "", ""
        return "wrong_output", f"{actual.strip()[:80]!r}, not {expected.strip()[:80]!r}"
    if status in ("timeout", "memory"):
        return str(status), stderr[-120:]
    if status == "output":
        return "output_limit", ""
    last_line = stderr.rsplit("\n", 1)[-1][:150]
    reason = _REASON_OF_EXCEPTION.get(last_line.partition(":")[0], "runtime_error")
    return reason, last_line or f"exit code {result.get('code')}"
