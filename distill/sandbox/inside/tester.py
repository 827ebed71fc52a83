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
from typing import Any

from distill.sandbox.inside import wire


class Gone(BaseException):
    """The program under test is over; no test code can catch this by accident."""


class Remote(Exception):
    """The program raised something that is no builtin exception."""


class Unsupported(BaseException):
    """The tests do what cannot be done across a pipe, such as passing a function or making an object."""


class Exam:
    def __init__(self, asked: int, told: int) -> None:
        self._asked, self._told = asked, told
        self.right = self.failed = 0
        self.finished = False
        self.reason = self.detail = ""

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        tree = ast.parse(job["tests"])
        static = sum(isinstance(node, ast.Assert) for node in ast.walk(tree))
        counting = Counting()
        space: dict[str, Any] = {"__name__": "tests", "__tally__": self._tally}
        entry = job["entry_point"]
        try:
            exec(job["prompt"], space)  # noqa: S102  the gold's own code, in a sandbox
            self._bind(_free(tree, space) | ({entry} if entry else set()), entry, space)
            exec(compile(ast.fix_missing_locations(counting.visit(tree)), "tests.py", "exec"), space)  # noqa: S102
            if entry and callable(space.get("check")):
                space["check"](space[entry])
            self.finished = True
        except Gone:
            self._blame("gone", "")
        except Unsupported as error:
            self._blame("unsupported_tests", str(error))
        except Exception as error:  # noqa: BLE001  a named boundary: whatever the tests raise, they fail
            self._fail(error)
        ran = self.right + self.failed
        if self.finished and not ran and not counting.untold:
            self.finished = False
            self._blame("unsupported_tests", "no assert was reached")
        return {
            "passed": self.finished and not self.failed,
            "right": self.right,
            "total": max(static, ran),
            "reason": self.reason,
            "detail": self.detail[:200],
        }

    def _bind(self, names: set[str], entry: str, space: dict[str, Any]) -> None:
        for name in sorted(names):
            found = self._ask({"get": name})
            if "function" in found or "class" in found:
                space[name] = self._stub(name, "class" in found)
            elif "value" in found:
                space[name] = wire.decode(found["value"])
            elif name == entry:
                raise NameError(f"the program does not define {name}")

    def _stub(self, name: str, makes_objects: bool) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            sent = {"call": name, "args": wire.encode(args), "kwargs": wire.encode(kwargs)}
            if _opaque(sent["args"]) or _opaque(sent["kwargs"]):
                raise Unsupported(f"{name} is called with more than plain data")
            found = self._ask(sent)
            if "raise" in found:
                raise _exception(str(found["raise"]), str(found.get("text", "")))
            if "left" in found:
                left_args, left_kwargs = wire.decode(found["left"])
                for old, new in zip(args, left_args, strict=False):
                    wire.restore(old, new)
                for key, old in kwargs.items():
                    wire.restore(old, left_kwargs.get(key))
            if makes_objects and _opaque(found["value"]):
                raise Unsupported(f"the tests make objects of the class {name}")
            return wire.decode(found["value"])

        call.__name__ = name
        return call

    def _ask(self, wanted: dict[str, Any]) -> dict[str, Any]:
        wire.write_line(self._told, b">" + json.dumps(wanted).encode())
        line = wire.read_line(self._asked)
        if not line.strip():
            raise Gone
        found = json.loads(line)
        if not isinstance(found, dict):
            raise ValueError("not a reply")
        if "broken" in found:
            self._blame(str(found["broken"]), str(found.get("text", "")))
            raise Gone
        return found

    def _tally(self, passed: bool, place: str, error: Exception | None = None) -> None:
        if passed:
            self.right += 1
        elif error is not None:
            self._fail(error)
        else:
            self.failed += 1
            self._blame("wrong_output", f"failed: {place}")

    def _fail(self, error: Exception) -> None:
        self.failed += 1
        raised = hasattr(error, "remote") or isinstance(error, NameError)
        reason = "memory" if isinstance(error, MemoryError) else "runtime_error" if raised else "wrong_output"
        self._blame(reason, f"{type(error).__name__}: {error}")

    def _blame(self, reason: str, detail: str) -> None:
        if not self.reason:
            self.reason, self.detail = reason, detail


class Counting(ast.NodeTransformer):
    """Makes each assert count instead of ending the tests, except within `try`, where it may be meant to be caught."""

    def __init__(self) -> None:
        self.untold = False

    def visit_Try(self, node: ast.Try) -> ast.Try:
        self.untold |= any(isinstance(inner, ast.Assert) for inner in ast.walk(node))
        return node

    def visit_Assert(self, node: ast.Assert) -> ast.Try:
        place = ast.unparse(node.test)[:120]

        def tally(*words: str) -> list[ast.stmt]:
            return ast.parse(f"__tally__({', '.join((*words[:1], repr(place), *words[1:]))})").body

        caught = ast.ExceptHandler(ast.Name("Exception", ast.Load()), "__raised__", tally("False", "__raised__"))
        return ast.Try([ast.If(node.test, tally("True"), tally("False"))], [caught], [], [])


def _free(tree: ast.Module, space: dict[str, Any]) -> set[str]:
    """Names that the tests use and nobody defines: the program's, never a builtin's."""
    used: set[str] = set()
    own = set(space) | set(vars(builtins))
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else own).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.arg):
            own.add(node.arg)
        elif isinstance(node, ast.alias):
            own.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            own.add(node.name)
    return used - own


def _opaque(sent: Any) -> bool:
    return isinstance(sent, list) and (sent[:1] == ["o"] or any(map(_opaque, sent[1:])))


def _exception(name: str, text: str) -> Exception:
    kind = getattr(builtins, name, None)
    fits = (
        isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, UnicodeError | ExceptionGroup)
    )
    error: Exception = kind(text) if fits and kind is not None else Remote(f"{name}: {text}")
    error.remote = True  # type: ignore[attr-defined]
    return error


def main() -> None:
    asked, told = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1):
        os.dup2(nowhere, fd)
    while line := wire.read_line(asked):
        if (child := os.fork()) == 0:
            try:
                report = Exam(asked, told).run(json.loads(line))
                wire.write_line(told, b"=" + json.dumps(report).encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    sys.setrecursionlimit(3000)
    main()
