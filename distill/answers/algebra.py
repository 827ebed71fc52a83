r"""math-verify's opinion on two answers. Runs in a killable process only: what it evaluates may never end."""

from __future__ import annotations

import logging
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sympy import Basic  # type: ignore[import-untyped]


@cache
def _library() -> ModuleType:
    import math_verify

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # it warns at every call that its timeouts are off
    library: ModuleType = math_verify
    return library


def equal(gold: str, answer: str, bare: bool) -> bool:
    """Whether two answers mean the same; exact where both are rational, since the library rounds to six decimals.

    Args:
        bare: whether `answer` is nothing but the answer; else the library looks for it in the text.
    """
    library = _library()
    parsed_gold = library.parse(boxed(gold), parsing_timeout=None)
    if bare:
        answer = boxed(answer)
    parsed_answer = library.parse(answer, parsing_timeout=None)
    if parsed_gold and parsed_answer:
        values = [
            parsed[0].doit() if hasattr(parsed[0], "doit") else parsed[0] for parsed in (parsed_gold, parsed_answer)
        ]
        if all(getattr(value, "is_Rational", False) for value in values):
            return bool(values[0] == values[1])
    if library.verify(parsed_gold, parsed_answer, timeout_seconds=None):
        return True
    complex_pair = _with_imaginary_unit(parsed_gold), _with_imaginary_unit(parsed_answer)
    return complex_pair != (parsed_gold, parsed_answer) and bool(library.verify(*complex_pair, timeout_seconds=None))


def _with_imaginary_unit(parsed: list[Basic]) -> list[Basic]:
    """The library reads `i` as a letter; this reads it as the imaginary unit, so that `e^{i\\pi}` is -1."""
    from sympy import I

    if not parsed:
        return parsed
    letters = [symbol for symbol in getattr(parsed[0], "free_symbols", ()) if str(symbol) == "i"]
    if not letters:
        return parsed
    return [parsed[0].subs(dict.fromkeys(letters, I)), *parsed[1:]]


def boxed(text: str) -> str:
    r"""An answer as the library reads it best: LaTeX in `\boxed{}`."""
    inner = text.strip().strip("$").strip()
    if "$" in inner.replace("\\$", ""):
        return text  # several formulas in prose ("$1$ and $2$") are found as they stand
    return f"\\boxed{{{inner}}}"
