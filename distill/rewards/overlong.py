"""Overlong: a penalty that grows over the last part of the room for a completion (DAPO, arXiv:2503.14476, eq. 13).

0 up to L_max − L_cache tokens, from there ((L_max − L_cache) − len) / L_cache, which is −1 at L_max, where it is cut.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from distill.rewards import Reward, RewardContext, Rollout, Weighted


class Config(Weighted):
    weight: float = Field(0.5, gt=0)
    """Factor of the reward's value in the sum of all rewards; DAPO's is 1 beside an accuracy of 1 or −1, here 1 or
    0."""
    cache: float = Field(0.2, gt=0, le=1)
    """Last part of the room for a completion, as a share, over which the penalty grows (DAPO's L_cache / L_max, 4,096
    of 20,480 tokens)."""


class OverlongReward(Reward):
    bounds = (-1.0, 0.0)

    def __init__(self, config: Config, context: RewardContext) -> None:
        self._max_tokens = context.max_tokens
        self._cache = config.cache * context.max_tokens

    def __call__(self, rollouts: Sequence[Rollout], step: int) -> list[float | None]:
        return [penalty(rollout.tokens, self._max_tokens, self._cache) for rollout in rollouts]


def build(config: Config, context: RewardContext) -> Reward:
    return OverlongReward(config, context)


def penalty(tokens: int, max_tokens: float, cache: float) -> float:
    """The formula applied to a completion; lengths in tokens."""
    free_tokens = max_tokens - cache
    if tokens <= free_tokens:
        return 0.0
    if tokens > max_tokens:
        return -1.0
    return (free_tokens - tokens) / cache
