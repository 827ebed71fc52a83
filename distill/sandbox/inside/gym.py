"""Runs inside a sandbox: reasoning-gym's scorers, one JSON line in and one out, each answer in a fork.

Some scorers evaluate the answer as Python. The sandbox keeps that from doing harm; so that it cannot score itself
either, those scorers only get answers that cannot call anything but mathematical functions.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import inspect
import json
import os
import re
import resource
import sys
from collections.abc import Callable
from typing import TypedDict

Scorer = Callable[[object, dict[str, object]], float]
"""(answer, entry of the task) to a score."""
_EVALUATES = re.compile(r"(?<![\w.])eval\(")
_PARSES = re.compile(r"(?:\bsympy\.|\bsp\.|(?<![\w.]))(?:parse_expr|sympify)\(")
_OWN_PARSER = "def parse_expr("
_REACHES = re.compile(r"__|['\"\\@`]|\.\s*[A-Za-z_]")
"""What an expression needs to reach an object's insides, or to hold text that is evaluated later."""
_HARMLESS = {"sqrt", "cbrt", "root", "Rational", "Integer", "Float", "abs", "min", "max", "Min", "Max", "round", "pow"}
_TUPLES = {"arc_agi", "rearc"}
"""Tasks that compare with tuples, which JSON has turned into lists."""


class ScoringRequest(TypedDict):
    """One line in: an answer to an entry of a task, and the seconds of CPU time that its scorer may take."""

    task: str
    entry: dict[str, object]
    answer: str
    seconds: int


def why_refused(source: str, answer: str) -> str:
    """Why an answer is kept from a scorer with this source; empty if it may be scored."""
    if _EVALUATES.search(source):
        with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
            ast.literal_eval(answer.strip())
            return ""
        if "(" in answer:
            return "more than plain data, for a scorer that evaluates it"
    elif _PARSES.search(source) and _OWN_PARSER not in source:
        if _REACHES.search(answer):
            return "more than a formula, for a scorer that evaluates it"
        for name in set(re.findall(r"[^\W\d]\w*", answer)) - _HARMLESS:
            if not _is_mathematics(name):
                return f"{name!r} in a formula, for a scorer that evaluates it"
    return ""


def _is_mathematics(name: str) -> bool:
    import sympy  # type: ignore[import-untyped,unused-ignore]

    symbol = getattr(sympy, name, getattr(builtins, name, None))
    return symbol is None or isinstance(symbol, sympy.FunctionClass | sympy.Basic)


def _tuples(value: object) -> object:
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    if isinstance(value, list):
        return tuple(map(_tuples, value))
    return value


def _score(scorer: Scorer, request: ScoringRequest) -> dict[str, object]:
    entry = request["entry"]
    if request["task"] in _TUPLES:
        entry = {key: _tuples(item) for key, item in entry.items()}
    try:
        return {"score": float(scorer(request["answer"], entry))}
    except Exception as error:  # noqa: BLE001  a named boundary: scorers raise nearly anything on odd answers
        message = f"{type(error).__name__}: {error}"[:200]
    try:
        scorer(entry["answer"], entry)
    except Exception:  # noqa: BLE001  as above
        return {"error": message}
    return {"unreadable": message}  # it can score the gold, so it is the answer that it could not read


def _forked(replies_fd: int, scorer: Scorer, request: ScoringRequest) -> None:
    child = os.fork()
    if child == 0:
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (request["seconds"], request["seconds"] + 1))
            os.write(replies_fd, json.dumps(_score(scorer, request)).encode() + b"\n")
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if status:
        os.write(replies_fd, json.dumps({"died": os.waitstatus_to_exitcode(status)}).encode() + b"\n")


def main() -> None:
    replies_fd = os.dup(1)
    null_fd = os.open(os.devnull, os.O_RDWR)
    os.dup2(null_fd, 1)
    import reasoning_gym

    scorers: dict[str, tuple[Scorer, str]] = {}
    for request_line in sys.stdin:
        request: ScoringRequest = json.loads(request_line)
        task = request["task"]
        reply: dict[str, object] = {}
        try:
            if task not in scorers:
                scorer = reasoning_gym.get_score_answer_fn(task)
                scorers[task] = scorer, inspect.getsource(inspect.getmodule(scorer) or scorer)
        except Exception as error:  # noqa: BLE001  a named boundary: whatever it raises, there is no such scorer
            reply = {"unknown": f"{error}"[:200]}
        else:
            refusal = why_refused(scorers[task][1], request["answer"])
            if refusal:
                reply = {"refused": refusal}
        if reply:
            os.write(replies_fd, json.dumps(reply).encode() + b"\n")
        else:
            _forked(replies_fd, scorers[task][0], request)


if __name__ == "__main__":
    sys.path.extend(sys.argv[1:])
    main()
