"""What code is judged by, and what is judged: the forms of a gold, the program in an answer, equality of outputs."""

from __future__ import annotations

import ast
import math
import re

from pydantic import BaseModel, ConfigDict, ValidationError

from distill.answers.marked import final_answer, tagged_answers
from distill.errors import InputError, from_validation

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
    """Name of the function that `check` takes."""
    prompt: str = ""
    """Python that the program continues or stands below, such as its imports; the tests may use its helpers, too."""


def read_gold(raw_gold: object) -> Pairs | Asserts:
    """Read a gold in any of its forms.

    Raises:
        InputError: it is none of them, or holds no test.
    """
    try:
        return _nonempty(_parsed(raw_gold))
    except ValidationError as error:
        raise from_validation(error, "gold of `code`") from error
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(
            f"not a gold of `code`: {error}: {raw_gold!r:.100}",
            fix='write {"inputs": [...], "outputs": [...]}, {"tests": "...", "entry_point": ...} or a list of asserts',
        ) from error


def _parsed(raw_gold: object) -> Pairs | Asserts:
    if isinstance(raw_gold, list | tuple):
        lines = raw_gold if all(isinstance(line, str) for line in raw_gold) else []
        return Asserts(tests="\n".join(lines))
    if not isinstance(raw_gold, dict):
        raise ValueError("neither tests nor pairs")
    tests = raw_gold.get("tests", raw_gold.get("test"))
    if isinstance(tests, dict):
        return Pairs.model_validate(tests)
    if tests is None:
        return Pairs.model_validate(raw_gold)
    if isinstance(tests, list | tuple):
        tests = _parsed(tests).tests  # type: ignore[union-attr]
    return Asserts.model_validate(
        {k: raw_gold[k] for k in ("entry_point", "prompt") if k in raw_gold} | {"tests": tests}
    )


def _nonempty(tests: Pairs | Asserts) -> Pairs | Asserts:
    """The tests as they are.

    Raises:
        ValueError: there is none.
    """
    if isinstance(tests, Pairs):
        if not tests.inputs or len(tests.inputs) != len(tests.outputs):
            raise ValueError(f"{len(tests.inputs)} inputs and {len(tests.outputs)} outputs")
    elif not any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(tests.tests))):
        raise ValueError("no assert in the tests")
    return tests


def extract_program(text: str) -> str:
    """The last Python block of an answer, else its last block, else the whole text; empty where there is none.

    A text in <answer> tags and no block is taken from them; a block that was never closed reaches to the end.
    """
    blocks = [(match[1].lower(), match[2]) for match in _FENCE.finditer(text)]
    for kinds in (_PYTHON, {""}, {kind for kind, _ in blocks}):
        programs = [code for kind, code in blocks if kind in kinds]
        if programs:
            return programs[-1] if programs[-1].strip() else ""
    if tagged_answers(text):
        text = final_answer(text) or ""
    return text if text.strip() else ""


def without_blank_lines(code: str) -> str:
    """A program without blank lines and trailing blanks, so that spacing alone makes no two programs of one."""
    return "\n".join(line.rstrip() for line in code.splitlines() if line.strip())


def same_output(expected: str, actual: str, tolerance: float | None) -> bool:
    """Whether two outputs are equal apart from blanks at the ends of lines and empty lines at the end.

    Args:
        tolerance: when given, words that are numbers may differ so far, absolutely or relatively; blanks then separate.
    """
    expected_lines = _lines(expected)
    actual_lines = _lines(actual)
    if expected_lines == actual_lines or tolerance is None:
        return expected_lines == actual_lines
    expected_rows = [line.split() for line in expected_lines]
    actual_rows = [line.split() for line in actual_lines]
    if [*map(len, expected_rows)] != [*map(len, actual_rows)]:
        return False
    return all(
        expected_word == actual_word or _is_near(expected_word, actual_word, tolerance)
        for expected_row, actual_row in zip(expected_rows, actual_rows, strict=True)
        for expected_word, actual_word in zip(expected_row, actual_row, strict=True)
    )


def _lines(text: str) -> list[str]:
    lines = [line.rstrip() for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _is_near(expected: str, actual: str, tolerance: float) -> bool:
    try:
        expected_number = float(expected)
        actual_number = float(actual)
    except ValueError:
        return False
    return math.isfinite(expected_number) and math.isclose(
        expected_number, actual_number, rel_tol=tolerance, abs_tol=tolerance
    )
