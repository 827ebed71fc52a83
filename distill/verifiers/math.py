r"""Math: the answer means the same as the gold: by string, exact fraction and parts, else by math-verify.

The gold is a string or a list of which any will do (other ways to write it), LaTeX or plain. Of the text only the
last `<answer>` or brace-matched `\boxed{}` counts; of a text with neither, what it says at its end. Where math-verify
is known to be too lenient (units, bases, kinds of brackets, tiny differences) the comparison is decided without it. It
runs in a process of its own, so an answer that would take for ever is undecidable (`timeout`, `worker_died`).
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from functools import lru_cache
from typing import Any

from distill.answers import algebra, final, latex, quantities, structure, symbols, variants
from distill.answers.numbers import number
from distill.answers.plain import HEDGED, RIGHT, after_thought, hedged, wrong
from distill.answers.variants import Examples
from distill.errors import InputError
from distill.machine import killable
from distill.types import Outcome, Record
from distill.verifiers import choice


class Config(Record):
    pass


class Math:
    def verify(self, gold: Any, text: str) -> Outcome:
        golds = _read(gold)
        if hedged(text):
            return HEDGED
        text = after_thought(text)
        if not text.strip():
            return wrong("no_answer")
        outcomes = []
        for one in golds:
            outcomes.append(_compare(one, text))
            if outcomes[-1].passed:
                return outcomes[-1]
        return next((outcome for outcome in outcomes if outcome.passed is None), outcomes[0])

    def key(self, gold: Any, text: str) -> Hashable | None:
        """The exact fraction where the answer is a number, what a list or set holds, else the normalised string."""
        text = after_thought(text)
        if hedged(text) or not text.strip():
            return None
        answer = final.answer(text)[0][-latex.LONGEST :]
        answer = latex.unlabelled(answer, "")[0]
        quantity = quantities.split(answer)
        return _key(latex.normal(quantity.value if quantity and quantity.sure else answer))

    def examples(self, gold: Any) -> Examples:
        return variants.of(_gold(_read(gold)[0]))


def _key(plain: str) -> Hashable:
    value = number(plain)
    shape = structure.read(plain) if value is None else None
    if shape and not shape.ordered:
        return frozenset(map(_key, shape.parts))
    return plain if value is None else value


def _read(gold: Any) -> list[str]:
    golds = gold if isinstance(gold, list | tuple) else [gold]
    plain = all(isinstance(g, str | int | float) and not isinstance(g, bool) and str(g).strip() for g in golds)
    if not golds or not plain:
        raise InputError(f"not a gold of `math`: {gold!r:.100}", fix="give a string or a list of strings")
    return [str(g) for g in golds]


@lru_cache(1 << 14)
def _gold(gold: str) -> str:
    return final.gold(gold)


def _compare(gold: str, text: str) -> Outcome:
    gold = _gold(gold)
    answer, alone = final.answer(text, percent=latex.normal(gold).endswith("%"))
    if alone and len(answer) > latex.LONGEST:
        return Outcome(passed=None, reason="too_costly", detail=answer[:80])
    same: bool | Outcome | None = _plainly(gold, answer, alone) if len(answer) <= latex.LONGEST else None
    if same is None:
        if unfit := _unfit(gold, answer, alone):
            return unfit
        same = _algebraically(gold, answer, alone)
    if isinstance(same, Outcome):
        return same
    return RIGHT if same else wrong("wrong_answer", f"{answer[-80:]}, not {gold:.80}")


@lru_cache(1 << 14)
def _plainly(gold: str, answer: str, alone: bool) -> bool | None:
    """The verdict of strings, exact fractions and units; None where it takes algebra."""
    if not alone:
        left, right = latex.normal(gold), latex.normal(answer)
        return left == right or (False if latex.conflict(left, right) else None)
    gold, answer = latex.unlabelled(symbols.latex(gold), symbols.latex(answer))
    sides = quantities.without(gold, answer)
    if isinstance(sides, bool):
        return sides
    left, right = map(latex.normal, sides)
    letters = choice.letter(gold), choice.letter(answer)
    if letters[0] and letters[1]:
        return letters[0] == letters[1]
    if letters[0] and len(left) > 3:  # "(C) Cecile": the option's text will do as well
        left = re.sub(r"^\(?[A-J][).:]\s*", "", left, flags=re.IGNORECASE)
    return latex.decide(left, latex.clock(right) if number(left) is not None else right)


def _unfit(gold: str, answer: str, alone: bool) -> Outcome | None:
    """Why a pair is kept from the library: it costs too much, or the library would only guess."""
    if latex.explosive(answer):
        return Outcome(passed=None, reason="too_costly", detail=answer[:80])
    if not alone and final.CODE.search(answer):
        return wrong("not_an_answer", answer)
    if not alone and latex.words(latex.normal(gold)):
        return wrong("no_answer", answer[-80:])  # a word that prose does not state as its answer
    if alone and any(sign in gold + answer for sign in ("...", "dots", "…")):
        return Outcome(passed=None, reason="undecidable", detail=f"ellipsis: {answer:.80}")
    return None


@lru_cache(1 << 16)
def _algebraically(gold: str, answer: str, alone: bool) -> bool | Outcome:
    """The library's verdict on the whole, or on each part of a list, tuple or matrix."""
    try:
        if not alone:
            return _ask(gold, answer.replace("−", "-"), False)
        sides = quantities.without(symbols.latex(gold), symbols.latex(answer))
        if not isinstance(sides, bool):
            shapes = [structure.read(latex.normal(side)) for side in sides]
            if shapes[0] and shapes[1] and (parts := structure.same(shapes[0], shapes[1], _part)) is not None:
                return parts
            return _ask(*sides, True)
        return _ask(gold, answer, alone)
    except killable.Lost as error:
        return Outcome(passed=None, reason="timeout" if isinstance(error, killable.Timeout) else "worker_died")
    except killable.Failed as error:  # the library raises nearly anything on odd LaTeX
        return Outcome(passed=None, reason="undecidable", detail=str(error)[:200])


def _part(gold: str, part: str) -> bool:
    plain = latex.decide(gold, part)
    return _ask(gold, part, True) if plain is None else plain


@lru_cache(1 << 16)
def _ask(gold: str, answer: str, alone: bool) -> bool:
    return bool(killable.shared().call(algebra.equal, gold, answer, alone))


def build(config: Config) -> Math:
    return Math()
