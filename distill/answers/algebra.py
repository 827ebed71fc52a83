r"""math-verify's opinion of two answers. Runs in the worker of `_pool` only: what it evaluates may never end."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any


@cache
def _library() -> Any:
    import math_verify

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # it warns at every call that its timeouts are off
    return math_verify


def equal(gold: str, answer: str, alone: bool) -> bool:
    """Whether they mean the same; exact where both are rational, since the library rounds to six decimals.

    Args:
        alone: whether `answer` is nothing but the answer; else the library looks for it in the text.
    """
    library = _library()
    left = library.parse(boxed(gold), parsing_timeout=None)
    right = library.parse(boxed(answer) if alone else answer, parsing_timeout=None)
    if left and right:
        exact = [side[0].doit() if hasattr(side[0], "doit") else side[0] for side in (left, right)]
        if all(getattr(value, "is_Rational", False) for value in exact):
            return bool(exact[0] == exact[1])
    if library.verify(left, right, timeout_seconds=None):
        return True
    pair = _imaginary(left), _imaginary(right)
    return pair != (left, right) and bool(library.verify(*pair, timeout_seconds=None))


def _imaginary(side: list[Any]) -> list[Any]:
    """The library reads `i` as a letter; this reads it as the imaginary unit, so that `e^{i\\pi}` is -1."""
    from sympy import I  # type: ignore[import-untyped]

    letters = [symbol for symbol in getattr(side[0], "free_symbols", ()) if str(symbol) == "i"] if side else []
    return [side[0].subs(dict.fromkeys(letters, I)), *side[1:]] if letters else side


def boxed(text: str) -> str:
    r"""An answer as the library reads it best: LaTeX in `\boxed{}`."""
    inner = text.strip().strip("$").strip()
    # several formulas in prose ("$1$ and $2$") are found as they stand
    return text if "$" in inner.replace("\\$", "") else f"\\boxed{{{inner}}}"
