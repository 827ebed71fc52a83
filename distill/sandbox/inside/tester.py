"""Runs inside a sandbox of its own: assert tests, whose calls of the program under test go out over a pipe.

Each line on standard input is a set of tests; a forked child runs it and writes `>` lines (calls, answered by one line
each) and at last one `=` line, the report. The program under test is in another sandbox and reaches none of this.
"""

from __future__ import annotations

import ast
import builtins
import json
import os
import sys
from collections.abc import Callable
from typing import TypedDict

from distill.sandbox.inside import wire


class ExamJob(TypedDict):
    """A set of tests; `prompt` is code that they may use, `entry_point` the function for their `check`, or empty."""

    tests: str
    prompt: str
    entry_point: str


class ExamReport(TypedDict):
    """What a set of tests came to: `right` of `total` asserts held; `reason` is a short code, empty when passed."""

    passed: bool
    right: int
    total: int
    reason: str
    detail: str


class Gone(BaseException):
    """The program under test is over; no test code can catch this by accident."""


class Remote(Exception):
    """The program raised something that is no builtin exception."""


class Unsupported(BaseException):
    """The tests do what cannot be done across a pipe, such as passing a function or making an object."""


class Exam:
    def __init__(self, replies_fd: int, calls_fd: int) -> None:
        self._replies_fd = replies_fd
        self._calls_fd = calls_fd
        self.right = 0
        self.failed = 0
        self.finished = False
        self.reason = ""
        self.detail = ""

    def run(self, job: ExamJob) -> ExamReport:
        tree = ast.parse(job["tests"])
        assert_count = sum(isinstance(node, ast.Assert) for node in ast.walk(tree))
        counting = Counting()
        namespace: dict[str, object] = {"__name__": "tests", "__tally__": self._tally}
        entry = job["entry_point"]
        try:
            exec(job["prompt"], namespace)  # noqa: S102  the gold's own code, in a sandbox
            names = _undefined_names(tree, namespace)
            if entry:
                names.add(entry)
            self._bind(names, entry, namespace)
            exec(compile(ast.fix_missing_locations(counting.visit(tree)), "tests.py", "exec"), namespace)  # noqa: S102
            check = namespace.get("check")
            if entry and callable(check):
                check(namespace[entry])
            self.finished = True
        except Gone:
            self._blame("gone", "")
        except Unsupported as error:
            self._blame("unsupported_tests", str(error))
        except Exception as error:  # noqa: BLE001  a named boundary: whatever the tests raise, they fail
            self._fail(error)
        reached = self.right + self.failed
        if self.finished and not reached and not counting.has_caught_asserts:
            self.finished = False
            self._blame("unsupported_tests", "no assert was reached")
        return {
            "passed": self.finished and not self.failed,
            "right": self.right,
            "total": max(assert_count, reached),
            "reason": self.reason,
            "detail": self.detail[:200],
        }

    def _bind(self, names: set[str], entry: str, namespace: dict[str, object]) -> None:
        for name in sorted(names):
            reply = self._ask({"get": name})
            if "function" in reply or "class" in reply:
                namespace[name] = self._stub(name, "class" in reply)
            elif "value" in reply:
                namespace[name] = wire.decode(reply["value"])
            elif name == entry:
                raise NameError(f"the program does not define {name}")

    def _stub(self, name: str, makes_objects: bool) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            request = {"call": name, "args": wire.encode(args), "kwargs": wire.encode(kwargs)}
            if _holds_opaque(request["args"]) or _holds_opaque(request["kwargs"]):
                raise Unsupported(f"{name} is called with more than plain data")
            reply = self._ask(request)
            if "raise" in reply:
                raise _exception(str(reply["raise"]), str(reply.get("text", "")))
            if "left" in reply:
                left_args, left_kwargs = wire.decode(reply["left"])
                for argument, left_argument in zip(args, left_args, strict=False):
                    wire.restore(argument, left_argument)
                for key, argument in kwargs.items():
                    wire.restore(argument, left_kwargs.get(key))
            if makes_objects and _holds_opaque(reply["value"]):
                raise Unsupported(f"the tests make objects of the class {name}")
            return wire.decode(reply["value"])

        call.__name__ = name
        return call

    def _ask(self, request: dict[str, object]) -> dict[str, object]:
        wire.write_line(self._calls_fd, b">" + json.dumps(request).encode())
        line = wire.read_line(self._replies_fd)
        if not line.strip():
            raise Gone
        reply = json.loads(line)
        if not isinstance(reply, dict):
            raise ValueError("not a reply")
        if "broken" in reply:
            self._blame(str(reply["broken"]), str(reply.get("text", "")))
            raise Gone
        return reply

    def _tally(self, passed: bool, test_text: str, error: Exception | None = None) -> None:
        if passed:
            self.right += 1
        elif error is not None:
            self._fail(error)
        else:
            self.failed += 1
            self._blame("wrong_output", f"failed: {test_text}")

    def _fail(self, error: Exception) -> None:
        self.failed += 1
        if isinstance(error, MemoryError):
            reason = "memory"
        elif hasattr(error, "remote") or isinstance(error, NameError):
            reason = "runtime_error"
        else:
            reason = "wrong_output"
        self._blame(reason, f"{type(error).__name__}: {error}")

    def _blame(self, reason: str, detail: str) -> None:
        if not self.reason:
            self.reason = reason
            self.detail = detail


class Counting(ast.NodeTransformer):
    """Makes each assert count instead of ending the tests, except within `try`, where it may be meant to be caught."""

    def __init__(self) -> None:
        self.has_caught_asserts = False

    def visit_Try(self, node: ast.Try) -> ast.Try:
        self.has_caught_asserts |= any(isinstance(inner, ast.Assert) for inner in ast.walk(node))
        return node

    def visit_Assert(self, node: ast.Assert) -> ast.Try:
        test_text = ast.unparse(node.test)[:120]

        def tally(*arguments: str) -> list[ast.stmt]:
            return ast.parse(f"__tally__({', '.join((*arguments[:1], repr(test_text), *arguments[1:]))})").body

        handler = ast.ExceptHandler(ast.Name("Exception", ast.Load()), "__raised__", tally("False", "__raised__"))
        return ast.Try([ast.If(node.test, tally("True"), tally("False"))], [handler], [], [])


def _undefined_names(tree: ast.Module, namespace: dict[str, object]) -> set[str]:
    """Names that the tests use and nobody defines: the program's, never a builtin's."""
    used: set[str] = set()
    defined = set(namespace) | set(vars(builtins))
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            names = used if isinstance(node.ctx, ast.Load) else defined
            names.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.arg):
            defined.add(node.arg)
        elif isinstance(node, ast.alias):
            defined.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            defined.add(node.name)
    return used - defined


def _holds_opaque(encoded: object) -> bool:
    return isinstance(encoded, list) and (encoded[:1] == ["o"] or any(map(_holds_opaque, encoded[1:])))


def _exception(name: str, text: str) -> Exception:
    error_class = getattr(builtins, name, None)
    error: Exception = Remote(f"{name}: {text}")
    is_exception = isinstance(error_class, type) and issubclass(error_class, Exception)
    if error_class and is_exception and not issubclass(error_class, UnicodeError | ExceptionGroup):
        error = error_class(text)
    error.remote = True  # type: ignore[attr-defined]
    return error


def main() -> None:
    replies_fd = os.dup(0)
    calls_fd = os.dup(1)
    devnull = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1):
        os.dup2(devnull, fd)
    while line := wire.read_line(replies_fd):
        child = os.fork()
        if child == 0:
            try:
                report = Exam(replies_fd, calls_fd).run(json.loads(line))
                wire.write_line(calls_fd, b"=" + json.dumps(report).encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    sys.setrecursionlimit(3000)
    main()
