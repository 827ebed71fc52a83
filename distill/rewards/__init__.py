"""Rewards say how good a completion is, for reinforcement learning. One file per kind.

A kind has a `Config` with a `weight` and a `build(config, context) -> Reward`. A reward looks at whole groups at once;
None means that it cannot tell, which is not 0: trainers leave such a completion out. All of them judge by the verifiers
and filters that made the training set, so "correct" and "in format" mean the same in every stage.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from distill import filters, plugins
from distill.errors import InputError, from_validation, suggest
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


class Reward(ABC):
    """Says how good completions are; all that a kind may offer, with what holds where it does not."""

    bounds: tuple[float, float] = (0.0, 0.0)
    """Least and greatest value. Equal ones say nothing, and the reward is left out where weights are compared."""

    @abstractmethod
    def __call__(self, rollouts: Sequence[Rollout], step: int) -> list[float | None]:
        """One value for each rollout; those of one prompt stand next to one another. None: it cannot tell.

        Args:
            step: optimizer steps done so far.
        """


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


class ChosenReward(plugins.Chosen):
    """A reward of a recipe: its kind and its settings."""

    family = "rewards"
    contract = "distill.rewards.Reward"

    @classmethod
    def vet(cls, kind: str, config: Record) -> None:
        if not isinstance(config, Weighted):
            raise InputError("its Config has no weight", fix="derive it from rewards.Weighted")

    @property
    def weight(self) -> float:
        assert isinstance(self.config, Weighted)
        return self.config.weight

    def build(self, context: RewardContext) -> Reward:
        """The reward that these settings make.

        Raises:
            InputError: it cannot be used with them here, or a user's own file gives something else.
        """
        built = self._build(context)
        if not isinstance(built, Reward):
            raise self._misbuilt(built)
        return built


def _any_left(rewards: Mapping[str, ChosenReward | Literal[False]]) -> Mapping[str, ChosenReward | Literal[False]]:
    if not any(rewards.values()):
        raise PydanticCustomError("kind", "no reward is left", {"fix": suggest("", plugins.names("rewards"))})
    return rewards


ChosenRewards = Annotated[
    Mapping[str, ChosenReward | Literal[False]], plugins.ByName(ChosenReward), AfterValidator(_any_left)
]


def choose(rewards: Mapping[str, object], where: str = "grpo.rewards") -> dict[str, ChosenReward]:
    """The rewards that are switched on, by name; `name: false` switches one off, `name: {}` takes its defaults.

    Raises:
        InputError: an unknown kind or setting, or no reward is left.
    """
    try:
        chosen = _CHOSEN.validate_python(rewards)
    except ValidationError as error:
        invalid = from_validation(error, "", where)
        raise InputError(invalid.message, fix=invalid.fix) from error
    return {name: reward for name, reward in chosen.items() if reward}


def build(rewards: Mapping[str, object], context: RewardContext) -> dict[str, tuple[Reward, float]]:
    """Each reward that is switched on, with its weight."""
    return {name: (chosen.build(context), chosen.weight) for name, chosen in choose(rewards).items()}


_CHOSEN: TypeAdapter[Mapping[str, ChosenReward | Literal[False]]] = TypeAdapter(ChosenRewards)
