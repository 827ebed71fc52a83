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

from distill.answers import algebra, final, latex, quantities, structure, symbols, variants
from distill.answers.numbers import number
from distill.answers.plain import HEDGED, RIGHT, is_hedged, without_reasoning, wrong
from distill.errors import InputError
from distill.machine import killable
from distill.types import Examples, Outcome, Record
from distill.verifiers import Verifier, choice


class Config(Record):
    pass


class Math(Verifier):
    def verify(self, gold: object, text: str) -> Outcome:
        golds = _read(gold)
        if is_hedged(text):
            return HEDGED
        text = without_reasoning(text)
        if not text.strip():
            return wrong("no_answer")
        outcomes = []
        for accepted_gold in golds:
            outcomes.append(_compare(accepted_gold, text))
            if outcomes[-1].passed:
                return outcomes[-1]
        return next((outcome for outcome in outcomes if outcome.passed is None), outcomes[0])

    def key(self, gold: object, text: str) -> Hashable | None:
        """The exact fraction where the answer is a number, what a list or set holds, else the normalised string."""
        text = without_reasoning(text)
        if is_hedged(text) or not text.strip():
            return None
        answer = final.answer(text)[0][-latex.LONGEST :]
        answer = latex.unlabelled(answer, "")[0]
        quantity = quantities.read_quantity(answer)
        if quantity and quantity.is_certain:
            answer = quantity.value
        return _key(latex.normalised(answer))

    def examples(self, gold: object) -> Examples:
        return variants.for_gold(_gold_answer(_read(gold)[0]))


def _key(normalised: str) -> Hashable:
    value = number(normalised)
    if value is not None:
        return value
    shape = structure.read(normalised)
    if shape and not shape.ordered:
        return frozenset(map(_key, shape.parts))
    return normalised


def _read(gold: object) -> list[str]:
    golds = gold if isinstance(gold, list | tuple) else [gold]
    well_formed = all(
        isinstance(gold_answer, str | int | float) and not isinstance(gold_answer, bool) and str(gold_answer).strip()
        for gold_answer in golds
    )
    if not golds or not well_formed:
        raise InputError(f"not a gold of `math`: {gold!r:.100}", fix="give a string or a list of strings")
    return [str(gold_answer) for gold_answer in golds]


@lru_cache(1 << 14)
def _gold_answer(gold: str) -> str:
    return final.gold(gold)


def _compare(gold: str, text: str) -> Outcome:
    gold = _gold_answer(gold)
    answer, bare = final.answer(text, percent=latex.normalised(gold).endswith("%"))
    if bare and len(answer) > latex.LONGEST:
        return Outcome(passed=None, reason="too_costly", detail=answer[:80])
    is_equal: bool | Outcome | None = None
    if len(answer) <= latex.LONGEST:
        is_equal = _without_library(gold, answer, bare)
    if is_equal is None:
        is_equal = _unfit_for_library(gold, answer, bare) or _by_library(gold, answer, bare)
    if isinstance(is_equal, Outcome):
        return is_equal
    return RIGHT if is_equal else wrong("wrong_answer", f"{answer[-80:]}, not {gold:.80}")


@lru_cache(1 << 14)
def _without_library(gold: str, answer: str, bare: bool) -> bool | None:
    """The verdict of strings, exact fractions and units; None where it takes algebra."""
    if not bare:
        plain_gold = latex.normalised(gold)
        plain_answer = latex.normalised(answer)
        if plain_gold == plain_answer:
            return True
        return False if latex.conflict(plain_gold, plain_answer) else None
    gold, answer = latex.unlabelled(symbols.latex(gold), symbols.latex(answer))
    sides = quantities.without_units(gold, answer)
    if isinstance(sides, bool):
        return sides
    plain_gold, plain_answer = map(latex.normalised, sides)
    letters = choice.letter(gold), choice.letter(answer)
    if letters[0] and letters[1]:
        return letters[0] == letters[1]
    if letters[0] and len(plain_gold) > 3:  # "(C) Cecile": the option's text will do as well
        plain_gold = re.sub(r"^\(?[A-J][).:]\s*", "", plain_gold, flags=re.IGNORECASE)
    if number(plain_gold) is not None:
        plain_answer = latex.full_hour_number(plain_answer)
    return latex.decide(plain_gold, plain_answer)


def _unfit_for_library(gold: str, answer: str, bare: bool) -> Outcome | None:
    """The outcome of a pair that is kept from the library: it costs too much, or the library would only guess."""
    if latex.is_explosive(answer):
        return Outcome(passed=None, reason="too_costly", detail=answer[:80])
    if not bare and final.PYTHON_INTERNALS.search(answer):
        return wrong("not_an_answer", answer)
    if not bare and latex.is_words(latex.normalised(gold)):
        return wrong("no_answer", answer[-80:])  # a word that prose does not state as its answer
    if bare and any(sign in gold + answer for sign in ("...", "dots", "…")):
        return Outcome(passed=None, reason="undecidable", detail=f"ellipsis: {answer:.80}")
    return None


@lru_cache(1 << 16)
def _by_library(gold: str, answer: str, bare: bool) -> bool | Outcome:
    """The library's verdict on the whole, or on each part of a list, tuple or matrix."""
    try:
        if not bare:
            return _ask_library(gold, answer.replace("−", "-"), False)
        sides = quantities.without_units(symbols.latex(gold), symbols.latex(answer))
        if not isinstance(sides, bool):
            shapes = [structure.read(latex.normalised(side)) for side in sides]
            if shapes[0] and shapes[1]:
                equal_by_parts = structure.same_parts(shapes[0], shapes[1], _part)
                if equal_by_parts is not None:
                    return equal_by_parts
            return _ask_library(*sides, True)
        return _ask_library(gold, answer, bare)
    except killable.Lost as error:
        return Outcome(passed=None, reason="timeout" if isinstance(error, killable.Timeout) else "worker_died")
    except killable.Failed as error:  # the library raises nearly anything on odd LaTeX
        return Outcome(passed=None, reason="undecidable", detail=str(error)[:200])


def _part(gold: str, part: str) -> bool:
    opinion = latex.decide(gold, part)
    if opinion is None:
        return _ask_library(gold, part, True)
    return opinion


@lru_cache(1 << 16)
def _ask_library(gold: str, answer: str, bare: bool) -> bool:
    return bool(killable.shared().call(algebra.equal, gold, answer, bare))


def build(config: Config) -> Math:
    return Math()
