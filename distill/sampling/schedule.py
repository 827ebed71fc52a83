"""How many samples a problem gets: stop at k correct, give up after g without one, never more than n.

The rule reads outcomes in the order of the sample index, never in the order of finishing: which samples count does not
depend on their length. The samples that ran beside the last one that counts are surplus.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from math import ceil

from pydantic import Field, model_validator

from distill.types import Record


class StoppingRule(Record):
    """When a problem has been sampled enough."""

    samples: int = Field(1, ge=1)
    """Samples of a problem at most (n)."""
    stop_at: int | None = Field(None, ge=1)
    """Correct samples that are enough (k); None samples all n."""
    give_up: int | None = Field(None, ge=1)
    """Samples after which a problem without a correct one is given up (g)."""

    @model_validator(mode="after")
    def _possible(self) -> StoppingRule:
        if self.stop_at is not None and self.stop_at > self.samples:
            raise ValueError(f"stop_at ({self.stop_at}) is more than samples ({self.samples})")
        if self.give_up is not None and self.stop_at is None:
            raise ValueError("give_up needs stop_at: without it all samples are taken anyway")
        return self

    @property
    def adaptive(self) -> bool:
        return self.stop_at is not None

    def ends(self, correct: int, counted: int) -> bool:
        """Whether `correct` right ones among the first `counted` samples are the end."""
        given_up = self.give_up is not None and correct == 0 and counted >= self.give_up
        return counted >= self.samples or given_up or (self.stop_at is not None and correct >= self.stop_at)


@dataclass(slots=True)
class Race:
    """The samples of one problem."""

    rule: StoppingRule
    launched: int = 0
    """Samples with an index below this are finished or under way."""
    counted: int = 0
    """Samples that the rule has looked at: all below this index have finished."""
    correct: int = 0
    """Correct samples among those that the rule has looked at."""
    early_outcomes: dict[int, bool] = field(default_factory=dict)
    """Outcomes of samples that finished before one with a lower index."""
    ended: bool = False

    def add_outcome(self, sample: int, correct: bool) -> None:
        """Take an outcome; what comes after the end changes nothing."""
        self.early_outcomes[sample] = correct
        self.launched = max(self.launched, sample + 1)
        while not self.ended and self.counted in self.early_outcomes:
            self.correct += self.early_outcomes.pop(self.counted)
            self.counted += 1
            self.ended = self.rule.ends(self.correct, self.counted)

    @property
    def in_flight(self) -> int:
        return self.launched - self.counted - len(self.early_outcomes)

    def samples_to_start(self, speculate: bool = False) -> int:
        """How many samples to start now.

        Not one more than the rule would look at if all that are under way were correct (or, before the first success,
        if none were): nothing is wasted. With `speculate`, as many as it takes at the pass rate so far: for an engine
        that would otherwise idle.
        """
        rule = self.rule
        if self.ended:
            return 0
        room = rule.samples - self.launched
        if rule.stop_at is None:
            return room
        correct = self.correct + sum(self.early_outcomes.values())
        needed = max(0, rule.stop_at - correct)
        if speculate:
            decided = self.counted + len(self.early_outcomes)
            needed = ceil(needed * (decided + 2) / (correct + 1))  # Laplace's estimate of the pass rate
        if rule.give_up is not None and correct == 0:
            room = min(room, rule.give_up - self.launched)
        return max(0, min(room, needed - self.in_flight))


def pass_rate(rule: StoppingRule, correct: int, counted: int) -> Fraction:
    """The unbiased estimate of a problem's pass rate from where its sampling stopped.

    Of all orders of outcomes that lead to this end, the share that begins with a correct one (Girshick, Mosteller and
    Savage 1946, "Unbiased estimates for certain binomial sampling problems", theorem 2). It needs the whole stopping
    region: (k − 1)/(N − 1) holds only where neither the cap nor giving up ends anything.

    Raises:
        ValueError: sampling does not stop there.
    """
    if not rule.ends(correct, counted):
        raise ValueError(f"{correct} of {counted} is no end")
    orders = _count_orders(rule, (0, 0))
    orders_from_correct = _count_orders(rule, (1, 1))
    return Fraction(orders_from_correct.get((correct, counted), 0), orders[correct, counted])


@lru_cache(maxsize=128)
def _count_orders(rule: StoppingRule, start: tuple[int, int]) -> dict[tuple[int, int], int]:
    """Number of orders of outcomes that lead from `start` to each (correct, counted) without passing an end before."""
    counts = {start: 1}
    for counted in range(start[1], rule.samples):
        for correct in range(counted + 1):
            ways = counts.get((correct, counted), 0)
            if ways and not rule.ends(correct, counted):
                for outcome in (0, 1):
                    reached = (correct + outcome, counted + 1)
                    counts[reached] = counts.get(reached, 0) + ways
    return counts
