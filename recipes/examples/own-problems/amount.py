"""Amount: a sum of money in one currency, such as `EUR 1,317.60`, `1.317,60 EUR` or `€1317.6`.

A verifier is a file like this one: a `Config` with what a problem may set, and a `build` that gives a
`distill.verifiers.Verifier`. That class says all that a verifier may offer; `verify` and `key` must be written.
Problems name it as `verifier: {kind: ./amount.py, cents: 1}`.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from decimal import Decimal

from pydantic import Field

from distill.answers.marked import final_answer
from distill.errors import InputError
from distill.types import Outcome, Record
from distill.verifiers import Verifier

_CODES = {"€": "EUR", "$": "USD", "£": "GBP"}
_AMOUNT = re.compile(r"(?P<before>[A-Z]{3}|[€$£])?\s*(?P<sum>\d[\d.,' ]*)\s*(?P<after>[A-Z]{3}|[€$£])?\.?")


class Config(Record):
    cents: int = Field(0, ge=0)
    """How far the answer may be from the gold: rounding in another order moves a cent."""


class Amount(Verifier):
    def __init__(self, config: Config) -> None:
        self._allowed = Decimal(config.cents) / 100

    def verify(self, gold: object, text: str) -> Outcome:
        """`text` is what the model said after its reasoning: whatever it holds, the verdict is an Outcome."""
        expected = _read(str(gold))
        if expected is None:
            raise InputError(f"not an amount: {gold!r:.80}", fix="write the gold as EUR 12.50")
        said = _stated(text)
        answer = _read(said)
        if answer is None:
            reason = "no_amount" if said else "no_answer"
        elif answer[0] != expected[0]:
            reason = "wrong_currency"
        elif abs(answer[1] - expected[1]) > self._allowed:
            reason = "wrong_amount"
        else:
            return Outcome(passed=True, score=1.0)
        return Outcome(passed=False, reason=reason, score=0.0, detail=f"{said:.80}, not {gold}")

    def key(self, gold: object, text: str) -> Hashable | None:
        """What the answer amounts to, so that equal answers can be counted."""
        return _read(_stated(text))


def build(config: Config) -> Amount:
    return Amount(config)


def _stated(text: str) -> str:
    """The last boxed or tagged answer, or the whole text, which then has to be the bare amount."""
    return final_answer(text) or text.strip()


def _read(text: str) -> tuple[str, Decimal] | None:
    r"""Currency and sum; None where the text is anything but one amount. LaTeX's `\$`, `\,`, `\text{}` and `$` go."""
    plain = re.sub(r"\\text\{([^{}]*)\}", r"\1", text).replace("\\,", "").replace("{,}", ",").replace("\\", "")
    found = _AMOUNT.fullmatch(plain.strip()[:60])
    if not found or bool(found["before"]) == bool(found["after"]):
        return None
    currency = found["before"] or found["after"]
    digits = re.sub(r"[ ']", "", found["sum"]).rstrip(".,")
    # the last mark is the decimal one if two digits or one follow it
    whole, cents = re.fullmatch(r"([\d.,]*?)(?:[.,](\d{1,2}))?", digits).groups()  # type: ignore[union-attr]
    return _CODES.get(currency, currency), Decimal(f"{re.sub(r'[.,]', '', whole) or 0}.{cents or 0}")
