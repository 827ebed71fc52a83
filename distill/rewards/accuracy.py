"""Accuracy: 1 for a correct answer, else 0; nothing where the verifier cannot tell (DeepSeek-R1, section 2.2.2)."""

from __future__ import annotations

from collections.abc import Sequence

from distill.rewards import Reward, RewardContext, Rollout, Weighted


class Config(Weighted):
    pass


class AccuracyReward(Reward):
    bounds = (0.0, 1.0)

    def __call__(self, rollouts: Sequence[Rollout], step: int) -> list[float | None]:
        verdicts = (rollout.outcome.passed for rollout in rollouts)
        return [None if passed is None else float(passed) for passed in verdicts]


def build(config: Config, context: RewardContext) -> Reward:
    return AccuracyReward()
