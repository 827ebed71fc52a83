"""Rewards as TRL calls them: `f(prompts, completions, completion_ids, **columns) -> list[float | None]`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from distill.rewards import Context, Reward, Rollout
from distill.rollouts import prompt_rows, rollout

Function = Callable[..., list[float | None]]


@dataclass(frozen=True)
class Batch:
    """What one call for rewards was about, and what came of it."""

    step: int
    rollouts: list[Rollout]
    values: dict[str, list[float | None]]
    totals: list[float]
    """Weighted sums; what a reward cannot tell adds nothing."""


class Functions:
    """All rewards of a job. A batch is read once, however many rewards look at it.

    Args:
        seen: told of each batch once every reward has judged it.
    """

    def __init__(
        self,
        rewards: dict[str, tuple[Reward, float]],
        context: Context,
        seen: Callable[[Batch], None] | None = None,
    ) -> None:
        self._rewards, self._context, self._seen = rewards, context, seen
        self._asked: Any = None
        self._rollouts: list[Rollout] = []
        self._values: dict[str, list[float | None]] = {}

    @property
    def weights(self) -> list[float]:
        return [weight for _, weight in self._rewards.values()]

    def all(self) -> list[Function]:
        """One function a reward, named like it, as TRL reports them by name."""
        return [self._function(name) for name in self._rewards]

    def _function(self, name: str) -> Function:
        reward, _ = self._rewards[name]

        def function(
            prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Sequence[Sequence[int]], **columns: Any
        ) -> list[float | None]:
            step = int(getattr(columns.get("trainer_state"), "global_step", 0))
            self._read(prompts, completion_ids, columns)
            found = self._values[name] = reward(self._rollouts, step)
            if self._seen and self._values.keys() == self._rewards.keys():
                self._seen(Batch(step, self._rollouts, self._values, totals(self._values, self._rewards)))
            return found

        function.__name__ = name
        return function

    def _read(self, prompts: Sequence[Any], completion_ids: Any, columns: dict[str, Any]) -> None:
        if completion_ids is self._asked:
            return
        rows = zip(
            prompts,
            columns["data_source"],
            columns["reward_model"],
            columns["extra_info"],
            completion_ids,
            strict=True,
        )
        self._rollouts = [
            rollout.read(
                prompt_rows.problem(prompt, source, told["ground_truth"], about), ids, about["prefill"], self._context
            )
            for prompt, source, told, about, ids in rows
        ]
        self._asked, self._values = completion_ids, {}


def totals(values: dict[str, list[float | None]], rewards: dict[str, tuple[Reward, float]]) -> list[float]:
    """The weighted sum for each rollout."""
    weighted = [[(value or 0.0) * rewards[name][1] for value in found] for name, found in values.items()]
    return [sum(column) for column in zip(*weighted, strict=True)]
