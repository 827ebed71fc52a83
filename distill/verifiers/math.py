r"""Math: the answer means the same as the gold: by string, by exact fraction, else by math-verify.

The gold is a string or a list of which any will do, LaTeX or plain. Of the text only the last `<answer>` or
brace-matched `\boxed{}` counts; a text with neither is searched by math-verify. Where math-verify is known to be too
lenient (units, bases, kinds of brackets, tiny differences) the comparison is decided without it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Hashable
from functools import cache
from typing import Any

from distill.errors import InputError
from distill.types import Outcome, Record
from distill.verifiers import _latex, choice
from distill.verifiers._answer import HEDGED, RIGHT, hedged, wrong
from distill.verifiers.numeric import number

_LONGEST = 1000


class Config(Record):
    pass


class Math:
    def verify(self, gold: Any, text: str) -> Outcome:
        golds = _read(gold)
        if hedged(text):
            return HEDGED
        if not text.strip():
            return wrong("no_answer")
        outcomes = [_compare(one, text) for one in golds]
        undecided = [outcome for outcome in outcomes if outcome.passed is None]
        return next((outcome for outcome in outcomes if outcome.passed), (undecided or outcomes)[0])

    def key(self, gold: Any, text: str) -> Hashable | None:
        """The exact fraction where the answer is a number, else its normalised string."""
        if hedged(text) or not text.strip():
            return None
        plain = _latex.normal(_latex.answer(text)[0][-_LONGEST:])
        value = number(plain)
        return plain if value is None else value


def _read(gold: Any) -> list[str]:
    golds = gold if isinstance(gold, list | tuple) else [gold]
    plain = all(isinstance(g, str | int | float) and not isinstance(g, bool) and str(g).strip() for g in golds)
    if not golds or not plain:
        raise InputError(f"not a gold of `math`: {gold!r:.100}", fix="give a string or a list of strings")
    return [str(g) for g in golds]


def _compare(gold: str, text: str) -> Outcome:
    gold, _ = _latex.answer(gold)
    answer, alone = _latex.answer(text, percent=_latex.normal(gold).endswith("%"))
    same = _plainly(gold, answer)
    try:
        if same is None:
            if unfit := _unfit(gold, answer, alone):
                return unfit
            same = _equivalent(gold, answer, alone)
    except Exception as error:  # noqa: BLE001  a named boundary: the library raises nearly anything on odd LaTeX
        return Outcome(passed=None, reason="undecidable", detail=f"{type(error).__name__}: {error}"[:200])
    return RIGHT if same else wrong("wrong_answer", f"{answer[-80:]}, not {gold:.80}")


def _plainly(gold: str, answer: str) -> bool | None:
    """The verdict of strings and exact fractions; None where it takes algebra."""
    if len(answer) > _LONGEST:
        return None
    left, right = _latex.normal(gold), _latex.normal(answer)
    values = number(left), number(right)
    if values[0] is not None and values[1] is not None:
        return values[0] == values[1]
    if re.fullmatch("[A-J]", left) and choice.letter(answer):
        return choice.letter(answer) == left
    if left == right:
        return True
    return False if _latex.conflict(left, right) else None


def _unfit(gold: str, answer: str, alone: bool) -> Outcome | None:
    """Why a pair is kept from the library: it costs too much, or the library would only guess."""
    if (alone and len(answer) > _LONGEST) or _latex.explosive(answer):
        return Outcome(passed=None, reason="too_costly", detail=answer[:80])
    if not alone and _latex.CODE.search(answer):
        return wrong("not_an_answer", answer)
    if alone and any(sign in gold + answer for sign in ("...", "dots", "…")):
        return Outcome(passed=None, reason="undecidable", detail=f"ellipsis: {answer:.80}")
    return None


@cache
def _library() -> Any:
    import math_verify

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # it warns at every call that its timeouts are off
    return math_verify


def _equivalent(gold: str, answer: str, alone: bool) -> bool:
    """math-verify's opinion; exact where both sides are rational, since it rounds to six decimals."""
    library = _library()
    left = library.parse(_latex.boxed(gold), parsing_timeout=None)
    right = library.parse(_latex.boxed(answer) if alone else answer.replace("−", "-"), parsing_timeout=None)
    if left and right:
        exact = [side[0].doit() if hasattr(side[0], "doit") else side[0] for side in (left, right)]
        if all(getattr(value, "is_Rational", False) for value in exact):
            return bool(exact[0] == exact[1])
    return bool(library.verify(left, right, timeout_seconds=None))


def build(config: Config) -> Math:
    return Math()
