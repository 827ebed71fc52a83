"""Countdown: an expression that uses each given number exactly once and makes the target.

The gold is `{"target": 24, "numbers": [3, 8, 1]}`. Answers are parsed, never evaluated: integers,
`+ - * /` with their usual other spellings, parentheses and blanks, in exact fractions. Different answers in several
<answer> tags are refused (`several_answers`). A text that is nothing but an expression needs no tag.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

from pydantic import BaseModel, ConfigDict, ValidationError

from distill.answers.arithmetic import Expression
from distill.answers.plain import HEDGED, RIGHT, is_hedged, is_marked, stated_answer, wrong
from distill.errors import InputError
from distill.types import Outcome, Record
from distill.verifiers import Verifier


class Config(Record):
    pass


class CountdownGold(BaseModel):
    model_config = ConfigDict(strict=True)
    target: int
    numbers: list[int]


class Countdown(Verifier):
    def verify(self, gold: object, text: str) -> Outcome:
        task = _read(gold)
        if is_hedged(text):
            return HEDGED
        answer = stated_answer(text)
        try:
            expression = Expression(answer)
        except ZeroDivisionError:
            return wrong("division_by_zero", answer)
        except ValueError as error:
            return wrong("not_an_expression", f"{error}: {answer}") if is_marked(text) else wrong("no_answer")
        if Counter(expression.numbers) != Counter(task.numbers):
            return wrong("wrong_numbers", f"uses {sorted(expression.numbers)}, not {sorted(task.numbers)}: {answer}")
        if expression.value != task.target:
            return wrong("wrong_value", f"{answer} = {expression.value}, not {task.target}")
        return RIGHT

    def key(self, gold: object, text: str) -> Hashable | None:
        """The value of an expression that uses the numbers; any other answer without its blanks."""
        task = _read(gold)
        if is_hedged(text) or not is_marked(text):
            return None
        answer = stated_answer(text)
        try:
            expression = Expression(answer)
        except (ValueError, ZeroDivisionError):
            return "".join(answer.split())
        if Counter(expression.numbers) == Counter(task.numbers):
            return expression.value
        return "".join(answer.split())


def _read(gold: object) -> CountdownGold:
    try:
        return CountdownGold.model_validate(gold)
    except ValidationError as error:
        example = '{"target": 24, "numbers": [3, 8, 1]}'
        raise InputError(f"not a Countdown gold: {gold!r:.100}", fix=f"write it as {example}") from error


def build(config: Config) -> Countdown:
    return Countdown()
