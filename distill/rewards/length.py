"""Length: of the correct completions of a prompt the shorter are worth more (Kimi k1.5, section 2.3.3).

λ = 0.5 − (len − min_len) / (max_len − min_len) over all completions of the prompt; a correct one gets λ, a wrong one
min(0, λ), and all get 0 where they are equally long. Undecidable ones get nothing. It slows early learning, so it
begins after a warm-up.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from distill.rewards import Reward, RewardContext, Rollout, Weighted


class Config(Weighted):
    weight: float = Field(0.05, gt=0)
    """Factor of the reward's value in the sum of all rewards; less than that of `format`, so that a short reply out of
    format is not worth more than a long one in it."""
    warmup: int = Field(50, ge=0)
    """Optimizer steps during which the reward is 0."""


class LengthReward(Reward):
    bounds = (-0.5, 0.5)

    def __init__(self, config: Config, context: RewardContext) -> None:
        self._warmup = config.warmup
        self._group_size = context.group_size

    def __call__(self, rollouts: Sequence[Rollout], step: int) -> list[float | None]:
        if step < self._warmup:
            return [0.0] * len(rollouts)
        groups = (rollouts[start : start + self._group_size] for start in range(0, len(rollouts), self._group_size))
        return [
            value
            for group in groups
            for value in length_bonuses(
                [rollout.tokens for rollout in group], [rollout.outcome.passed for rollout in group]
            )
        ]


def build(config: Config, context: RewardContext) -> Reward:
    return LengthReward(config, context)


def length_bonuses(tokens: Sequence[int], correct: Sequence[bool | None]) -> list[float | None]:
    """The formula applied to one group: a value for each of its completions."""
    shortest = min(tokens)
    spread = max(tokens) - shortest
    bonuses: list[float | None] = []
    for size, right in zip(tokens, correct, strict=True):
        bonus = 0.5 - (size - shortest) / spread if spread else 0.0
        if right is None:
            bonuses.append(None)
        elif right:
            bonuses.append(bonus)
        else:
            bonuses.append(min(0.0, bonus))
    return bonuses
