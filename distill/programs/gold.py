"""What code is judged by, and what is judged: the forms of a gold, the program in an answer, equality of outputs."""

from __future__ import annotations

import ast
import math
import re
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from distill.errors import InputError, from_validation
from distill.models.chat import final_answer, tagged

_FENCE = re.compile(r"^[ \t]*```+[ \t]*([\w+#.-]*)[^\n]*\n(.*?)(?:^[ \t]*```+[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
_PYTHON = {"python", "python3", "py", "py3", "pypy", "pypy3"}


class Pairs(BaseModel):
    """What goes in and what must come out, test by test."""

    model_config = ConfigDict(strict=True)
    inputs: list[str]
    outputs: list[str]


class Asserts(BaseModel):
    """Python with `assert` statements, or a function `check(candidate)` of them."""

    model_config = ConfigDict(strict=True)
    tests: str
    entry_point: str = ""
    """The function that `check` takes."""
    prompt: str = ""
    """Python that the program continues or stands below, such as its imports; its helpers are the tests' own, too."""


def gold(given: Any) -> Pairs | Asserts:
    """Read a gold in any of its forms.

    Raises:
        InputError: it is none of them, or holds no test.
    """
    try:
        return _filled(_form(given))
    except ValidationError as error:
        raise from_validation(error, "gold of `code`") from error
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(
            f"not a gold of `code`: {error}: {given!r:.100}",
            fix='write {"inputs": [...], "outputs": [...]}, {"tests": "...", "entry_point": ...} or a list of asserts',
        ) from error


def _form(given: Any) -> Pairs | Asserts:
    if isinstance(given, list | tuple):
        return Asserts(tests="\n".join(given) if all(isinstance(line, str) for line in given) else "")
    if not isinstance(given, dict):
        raise ValueError("neither tests nor pairs")
    tests = given.get("tests", given.get("test"))
    if isinstance(tests, dict):
        return Pairs.model_validate(tests)
    if tests is None:
        return Pairs.model_validate(given)
    if isinstance(tests, list | tuple):
        tests = _form(tests).tests  # type: ignore[union-attr]
    return Asserts.model_validate({k: given[k] for k in ("entry_point", "prompt") if k in given} | {"tests": tests})


def _filled(read: Pairs | Asserts) -> Pairs | Asserts:
    if isinstance(read, Pairs):
        if not read.inputs or len(read.inputs) != len(read.outputs):
            raise ValueError(f"{len(read.inputs)} inputs and {len(read.outputs)} outputs")
    elif not any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(read.tests))):
        raise ValueError("no assert in the tests")
    return read


def program(text: str) -> str:
    """The last Python block of an answer, else its last block, else the whole text; empty where there is none.

    A text in <answer> tags and no block is taken from them; a block that was never closed reaches to the end.
    """
    blocks = [(match[1].lower(), match[2]) for match in _FENCE.finditer(text)]
    for kinds in (_PYTHON, {""}, {kind for kind, _ in blocks}):
        found = [code for kind, code in blocks if kind in kinds]
        if found:
            return found[-1] if found[-1].strip() else ""
    bare = (final_answer(text) or "") if tagged(text) else text
    return bare if bare.strip() else ""


def normal(code: str) -> str:
    """A program without blank lines and trailing blanks, so that spacing alone makes no two programs of one."""
    return "\n".join(line.rstrip() for line in code.splitlines() if line.strip())


def same_output(expected: str, actual: str, tolerance: float | None) -> bool:
    """Equal apart from blanks at the ends of lines and empty lines at the end.

    Args:
        tolerance: when given, words that are numbers may differ so far, absolutely or relatively; blanks then separate.
    """
    left, right = _lines(expected), _lines(actual)
    if left == right or tolerance is None:
        return left == right
    words = [line.split() for line in left], [line.split() for line in right]
    return [*map(len, words[0])] == [*map(len, words[1])] and all(
        one == other or _near(one, other, tolerance)
        for ours, theirs in zip(*words, strict=True)
        for one, other in zip(ours, theirs, strict=True)
    )


def _lines(text: str) -> list[str]:
    lines = [line.rstrip() for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _near(one: str, other: str, tolerance: float) -> bool:
    try:
        left, right = float(one), float(other)
    except ValueError:
        return False
    return math.isfinite(left) and math.isclose(left, right, rel_tol=tolerance, abs_tol=tolerance)
