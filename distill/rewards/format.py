"""Format: 1 if the think block is closed once and one answer stands after it, else 0 (DeepSeek-R1, section 2.2.2).

The rule is the filter `format`, applied to the whole turn with what the template prefilled of it. A completion that was
cut is not in format, even if its text so far is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from distill import filters
from distill.filters import format as rule
from distill.rewards import Reward, RewardContext, Rollout, Weighted


class Config(Weighted):
    weight: float = Field(0.1, gt=0)
    """Factor of the reward's value in the sum of all rewards; 0.1 is TinyZero's, too small to be worth a wrong
    answer."""
    answer: Literal["tag", "boxed", "any", "none"] = "any"
    r"""Mark that the answer must have: an <answer> tag (`tag`), `\boxed{}` (`boxed`), either (`any`), or none at all
    (`none`)."""


class FormatReward(Reward):
    bounds = (0.0, 1.0)

    def __init__(self, config: Config, context: RewardContext) -> None:
        self._check = checker(config, context.filter_context)

    def __call__(self, rollouts: Sequence[Rollout], step: int) -> list[float | None]:
        return [scored(rollout, self._check) for rollout in rollouts]


def build(config: Config, context: RewardContext) -> Reward:
    return FormatReward(config, context)


def checker(config: Config, context: filters.Context) -> filters.Filter:
    return rule.build(rule.Config(answer=config.answer), context)


def scored(rollout: Rollout, check: filters.Filter) -> float:
    return float(rollout.trace.finish == "stop" and bool(check(rollout.problem, rollout.trace).passed))
