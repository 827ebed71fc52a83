"""Rows of LiveCodeBench's `code_generation_lite`: what to ask, and its tests in the forms that verifier `code` reads.

Private tests are JSON, or base64 of zlib of a pickled JSON text. A problem with starter code wants a method of a class
`Solution`, called with one JSON value a line; any other wants a program that reads standard input. Layout: the
benchmark's own runner, `lcb_runner/benchmarks/code_generation.py` of LiveCodeBench/LiveCodeBench.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import pickle
import zlib
from collections.abc import Mapping
from typing import Any, NoReturn, TypedDict

_STDIN_TASK = (
    "Write a Python program that reads from standard input and prints the answer to standard output. Put the whole "
    "program into one ```python block."
)
_METHOD_TASK = (
    "Complete this class. Put the whole of it into one ```python block; it is imported and its method is called, so "
    "print nothing.\n\n```python\n{starter}\n```"
)
# the starter code uses these without importing them, as the site that the problems are from does
_IMPORTS = "\n".join(
    f"from {name} import *" for name in ("typing", "collections", "itertools", "functools", "heapq", "bisect", "math")
)
# the tests call a function, which looks the class up when it is called: the program stands below it
_CALL = """
def call_solution(*arguments):
    found = Solution().{name}(*arguments)
    return list(found) if isinstance(found, tuple) else found
"""


class _Test(TypedDict):
    """What goes in and what must come out, both as text."""

    input: str
    output: str


def parse_row(raw_row: Mapping[str, Any]) -> dict[str, object]:
    """The row with `task` (what form the answer must have) and `answer` (the gold) added.

    Raises:
        KeyError: a column is missing.
        ValueError: its tests cannot be read, or there are none.
    """
    tests = [*_tests(raw_row["public_test_cases"]), *_tests(raw_row["private_test_cases"])]
    if not tests:
        raise ValueError("has no tests")
    starter = raw_row["starter_code"]
    if not starter:
        return {**raw_row, "task": _STDIN_TASK, "answer": _stdin_gold(tests)}
    gold = _method_gold(tests, _method_name(raw_row["metadata"]))
    return {**raw_row, "task": _METHOD_TASK.format(starter=starter), "answer": gold}


def _stdin_gold(tests: list[_Test]) -> dict[str, object]:
    return {"inputs": [test["input"] for test in tests], "outputs": [test["output"] for test in tests]}


def _method_gold(tests: list[_Test], name: str) -> dict[str, object]:
    lines = [
        f"    assert candidate(*{[json.loads(line) for line in test['input'].splitlines() if line.strip()]!r})"
        f" == {json.loads(test['output'])!r}"
        for test in tests
    ]
    return {
        "tests": "\n".join(["def check(candidate):", *lines]),
        "entry_point": "call_solution",
        "prompt": _IMPORTS + "\n" + _CALL.format(name=name),
    }


def _method_name(metadata: str) -> str:
    name = json.loads(metadata).get("func_name")
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"its method's name is {name!r}")
    return name


def _tests(packed_tests: str) -> list[_Test]:
    try:
        tests: object = json.loads(packed_tests)
    except json.JSONDecodeError:
        tests = _decompressed(packed_tests)
    if not isinstance(tests, list) or not all(
        isinstance(test, dict) and {"input", "output"} <= {*test} for test in tests
    ):
        raise ValueError("its tests are not a list of inputs and outputs")
    return tests


def _decompressed(packed_tests: str) -> object:
    try:
        text = _PlainUnpickler(io.BytesIO(zlib.decompress(base64.b64decode(packed_tests)))).load()
        return json.loads(text)
    except (binascii.Error, zlib.error, pickle.UnpicklingError, EOFError, TypeError, ValueError) as error:
        raise ValueError(f"its private tests cannot be read: {error}") from error


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")
