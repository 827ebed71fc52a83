"""Rewards as TRL calls them: `f(prompts, completions, completion_ids, **columns) -> list[float | None]`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict, Unpack

from distill.rewards import Reward, RewardContext, Rollout, build
from distill.rollouts import prompt_rows, rollout


class RewardModel(TypedDict):
    """The column `reward_model`: verl's name for what an answer is judged by."""

    style: str
    ground_truth: str
    """JSON of `Problem.answer`."""


class RewardColumns(TypedDict):
    """The columns of prompts.parquet that rewards are made from, one value a rollout."""

    data_source: Sequence[str]
    reward_model: Sequence[RewardModel]
    extra_info: Sequence[prompt_rows.ExtraInfo]
    trainer_state: NotRequired[object]
    """TRL's own, with `global_step`."""


Turns = Sequence[Mapping[str, str]]
"""A prompt: `role` and `content` of each turn."""
RewardFunction = Callable[..., list[float | None]]


@dataclass(frozen=True)
class Batch:
    """What one call for rewards was about, and what came of it."""

    step: int
    rollouts: list[Rollout]
    values: dict[str, list[float | None]]
    totals: list[float]
    """The weighted sum of each rollout's values; what a reward cannot tell adds nothing."""


class RewardFunctions:
    """All rewards of a job. A batch is read once, however many rewards look at it.

    Args:
        on_batch: told of each batch once every reward has judged it.
    """

    def __init__(
        self,
        rewards: dict[str, tuple[Reward, float]],
        context: RewardContext,
        on_batch: Callable[[Batch], None] | None = None,
    ) -> None:
        self._rewards = rewards
        self._context = context
        self._on_batch = on_batch
        self._current_ids: object = None
        """The batch that `_rollouts` are of; TRL passes one object to all rewards."""
        self._rollouts: list[Rollout] = []
        self._values: dict[str, list[float | None]] = {}

    @property
    def weights(self) -> list[float]:
        return [weight for _, weight in self._rewards.values()]

    def all(self) -> list[RewardFunction]:
        """One function for each reward and of its name, by which TRL reports it."""
        return [self._function(name) for name in self._rewards]

    def _function(self, name: str) -> RewardFunction:
        reward, _ = self._rewards[name]

        def function(
            prompts: Sequence[Turns],
            completions: Sequence[object],
            completion_ids: Sequence[Sequence[int]],
            **columns: Unpack[RewardColumns],
        ) -> list[float | None]:
            step = int(getattr(columns.get("trainer_state"), "global_step", 0))
            self._read(prompts, completion_ids, columns)
            values = reward(self._rollouts, step)
            self._values[name] = values
            if self._on_batch and self._values.keys() == self._rewards.keys():
                self._on_batch(Batch(step, self._rollouts, self._values, totals(self._values, self._rewards)))
            return values

        function.__name__ = name
        return function

    def _read(self, prompts: Sequence[Turns], completion_ids: Sequence[Sequence[int]], columns: RewardColumns) -> None:
        if completion_ids is self._current_ids:
            return
        rows = zip(
            prompts,
            columns["data_source"],
            columns["reward_model"],
            columns["extra_info"],
            completion_ids,
            strict=True,
        )
        rollouts = []
        for prompt, data_source, reward_model, extra_info, ids in rows:
            problem = prompt_rows.problem(prompt, data_source, reward_model["ground_truth"], extra_info)
            rollouts.append(rollout.of_ids(problem, ids, extra_info["prefill"], self._context))
        self._rollouts = rollouts
        self._current_ids = completion_ids
        self._values = {}


def totals(values: dict[str, list[float | None]], rewards: dict[str, tuple[Reward, float]]) -> list[float]:
    """The weighted sum for each rollout."""
    weighted = []
    for name, reward_values in values.items():
        _, weight = rewards[name]
        weighted.append([(value or 0.0) * weight for value in reward_values])
    return [sum(of_rollout) for of_rollout in zip(*weighted, strict=True)]


def for_trl(
    rewards: dict[str, object], context: RewardContext
) -> tuple[list[Callable[..., list[float | None]]], list[float]]:
    """`reward_funcs` and `reward_weights` for a GRPOTrainer of one's own, on the rows of prompts.parquet."""
    functions = RewardFunctions(build(rewards, context), context)
    return functions.all(), functions.weights
