"""Repetition: −1 for a completion that loops, else 0; the rule is the filter `repetition`."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from distill.filters import repetition as rule
from distill.rewards import Reward, RewardContext, Rollout, Weighted


class Config(Weighted):
    weight: float = Field(0.1, gt=0)


class RepetitionReward(Reward):
    bounds = (-1.0, 0.0)

    def __init__(self, context: RewardContext) -> None:
        self._check = rule.build(rule.Config(), context.filter_context)

    def __call__(self, rollouts: Sequence[Rollout], step: int) -> list[float | None]:
        return [-float(self._check(rollout.problem, rollout.trace).passed is False) for rollout in rollouts]


def build(config: Config, context: RewardContext) -> Reward:
    return RepetitionReward(context)
