"""Language: the share of the reasoning's words that are in the problem's language (DeepSeek-R1, section 2.3.2).

Words are told apart by script, after code, formulas and tags are taken out, so German in an English chain counts as
English. The unit: between blanks a word is a run of letters (of two letters at least in Latin script, since single ones
are variables); in Chinese, Japanese and Thai, which have no blanks, each character is a word, and Han counts for both
Chinese and Japanese. No reasoning, or none with a word, earns nothing; an unknown language cannot be judged.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from distill.filters.language import word_counts
from distill.rewards import Reward, RewardContext, Rollout, Weighted


class Config(Weighted):
    weight: float = Field(0.1, gt=0)
    """Factor of the reward's value in the sum of all rewards; R1's is 1, and 0.1 cannot be worth a wrong answer."""


class LanguageReward(Reward):
    bounds = (0.0, 1.0)

    def __call__(self, rollouts: Sequence[Rollout], step: int) -> list[float | None]:
        return [consistency(rollout.trace.reasoning or "", rollout.problem.language) for rollout in rollouts]


def build(config: Config, context: RewardContext) -> Reward:
    return LanguageReward()


def consistency(text: str, language: str) -> float | None:
    """The share of words that are of the language; None for a language whose script is not known."""
    counts = word_counts(text, language)
    if counts is None:
        return None
    own_words, foreign_words = counts
    if not own_words:
        return 0.0
    return own_words / (own_words + foreign_words)
