"""Rewards say how good a completion is, for reinforcement learning. One file per kind.

A kind has a `Config` with a `weight` and a `build(config, context) -> Reward`. A reward looks at whole groups at once;
None means that it cannot tell, which is not 0: trainers leave such a completion out. All of them judge by the verifiers
and filters that made the training set, so "correct" and "in format" mean the same in every stage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic import Field

from distill import filters, plugins
from distill.errors import InputError, suggest
from distill.models.chat import Tokenizer
from distill.models.reasoning import Tags
from distill.types import Outcome, Problem, Record, Trace
from distill.verifiers import Verifiers


class Weighted(Record):
    """The settings that every reward has."""

    weight: float = Field(1.0, gt=0)
    """Factor of the reward's value in the sum of all rewards."""


@dataclass(frozen=True)
class Rollout:
    """One completion that is to be judged."""

    problem: Problem
    trace: Trace
    """What was sampled, special tokens included and the template's prefill remembered, without the EOS."""
    tokens: int
    """Tokens of the completion, its EOS included."""
    verifiers: Verifiers

    @cached_property
    def outcome(self) -> Outcome:
        """The verdict of the problem's own verifier, asked once for all rewards."""
        try:
            return self.verifiers.judge(self.problem, self.trace)
        except InputError as error:
            return Outcome(passed=None, reason="bad_gold", detail=str(error)[:200])


Reward = Callable[[Sequence[Rollout], int], list[float | None]]
"""(rollouts, optimizer step) to one value each; completions of one prompt stand next to one another."""


@dataclass(frozen=True)
class RewardContext:
    """What rewards may need besides the rollouts."""

    tokenizer: Tokenizer
    """The student's tokenizer, with the chat template that it is trained with."""
    eos: str
    """The token that ends the student's turn."""
    tags: Tags = field(default_factory=Tags)
    group_size: int = 1
    """Completions of each prompt."""
    max_tokens: int = 32768
    """A completion that has so many tokens was cut."""
    verifiers: Verifiers = field(default_factory=Verifiers)

    @cached_property
    def filter_context(self) -> filters.Context:
        return filters.Context(student=self.tokenizer.model, tags=self.tags, verifiers=self.verifiers)


def configure(rewards: dict[str, Any], where: str = "grpo.rewards") -> dict[str, Weighted]:
    """The rewards that are switched on, by name; `name: false` switches one off, `name: {}` takes its defaults.

    Raises:
        InputError: an unknown kind or setting, or no reward is left.
    """
    configs: dict[str, Weighted] = {}
    for name, settings in rewards.items():
        if settings is False:
            continue
        options = settings if isinstance(settings, dict) else {}
        config = plugins.configure("rewards", options, name=name, where=f"{where}.{name}")
        if not isinstance(config, Weighted):
            raise InputError("its Config has no weight", where=f"{where}.{name}", fix="derive it from rewards.Weighted")
        configs[name] = config
    if not configs:
        raise InputError("no reward is left", where=where, fix=suggest("", plugins.names("rewards")))
    return configs


def build(
    rewards: dict[str, Any], context: RewardContext, where: str = "grpo.rewards"
) -> dict[str, tuple[Reward, float]]:
    """Each reward that is switched on, with its weight."""
    return {
        name: (plugins.load("rewards", kind_of(name, rewards[name])).build(config, context), config.weight)
        for name, config in configure(rewards, where).items()
    }


def kind_of(name: str, settings: Any) -> str:
    """A reward is called by its kind, unless its settings name another."""
    if isinstance(settings, dict):
        return str(settings.get("kind", name))
    return name
