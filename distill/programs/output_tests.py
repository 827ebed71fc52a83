"""Programs judged by what they print for what they read: run in portions in the sandbox, compared here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from distill.answers.plain import RIGHT
from distill.programs.gold import Pairs, same_output
from distill.sandbox import Limits, Sandbox
from distill.sandbox.inside import batch
from distill.types import Outcome

_MIB = 1 << 20
_TESTS, _INPUT = 20, 16 * _MIB
"""Most tests, and characters of input, in one launch of the sandbox."""
_START = 5.0
"""Seconds that a launch may take besides its tests."""
_RAISED = {
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
    right = 0
    reason = detail = ""
    done = 0
    while done < len(tests.inputs):
        results, more = _run(sandbox, code, _portion(tests.inputs[done:]), limits)
        for number, result in enumerate(results, done):
            failed, why = _judge(result, tests.outputs[number], tolerance)
            right += not failed
            if failed and not reason:
                reason, detail = failed, f"test {number + 1}: {why}"[:200]
        done += len(results)
        if not more or results[-1].get("status") in ("timeout", "memory", "output"):
            break
    if right == len(tests.inputs):
        return RIGHT
    return Outcome(passed=False, reason=reason, score=right / len(tests.inputs), detail=detail)


def _portion(inputs: list[str]) -> list[str]:
    """The first of these inputs, as many as fit one launch."""
    room = _INPUT
    for number, text in enumerate(inputs[:_TESTS]):
        room -= len(text)
        if number and room < 0:
            return inputs[:number]
    return inputs[:_TESTS]


def _run(sandbox: Sandbox, code: str, inputs: list[str], limits: Limits) -> tuple[list[dict[str, Any]], bool]:
    """At least one result, for the first inputs in order, and whether it makes sense to go on with the rest."""
    told = json.dumps({"inputs": inputs, "seconds": limits.seconds, "output": limits.output * _MIB})
    files: dict[str, str | bytes] = {"batch.py": Path(batch.__file__).read_bytes(), "program.py": code}
    whole = sandbox.run(
        files,
        ["python", "-I", "batch.py", "program.py"],
        told,
        limits.model_copy(
            update={"seconds": limits.seconds * len(inputs) + _START, "output": 2 * limits.output * len(inputs) + 1}
        ),
    )
    results = _read(whole.stdout)[: len(inputs)]
    if len(results) == len(inputs) or (
        results and whole.status == "output"
    ):  # too much for one launch, not for one test
        return results, True
    status = "killed" if whole.status == "ok" else whole.status
    return [*results, {"status": status, "code": whole.exit_code, "stderr": whole.stderr}], False


def _read(stdout: str) -> list[dict[str, Any]]:
    """The lines of a batch, up to one that is torn."""
    results: list[dict[str, Any]] = []
    for line in stdout.split("\n"):
        try:
            result = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(result, dict):
            break
        results.append(result)
    return results


def _judge(result: dict[str, Any], expected: str, tolerance: float | None) -> tuple[str, str]:
    """Reason and detail; no reason where the test passed."""
    status, stderr = result.get("status"), str(result.get("stderr", "")).strip()
    if status == "ok":
        actual = str(result.get("stdout", ""))
        if same_output(expected, actual, tolerance):
            return "", ""
        return "wrong_output", f"{actual.strip()[:80]!r}, not {expected.strip()[:80]!r}"
    if status in ("timeout", "memory"):
        return str(status), stderr[-120:]
    if status == "output":
        return "output_limit", ""
    last = stderr.rsplit("\n", 1)[-1][:150]
    return _RAISED.get(last.partition(":")[0], "runtime_error"), last or f"exit code {result.get('code')}"
