"""Completions to read while a student learns from rewards: what pays, whether it should or not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from distill.rollouts.trl import Batch


def writer(path: Path, interval: int) -> Callable[[Batch], None]:
    """A function that appends some completions of each `interval`-th step: those that a hacked reward shows up in."""

    def write(batch: Batch) -> None:
        if batch.step % interval:
            return
        rows = [
            json.dumps(_row(batch, index, reasons), ensure_ascii=False) for index, reasons in notable(batch).items()
        ]
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(row + "\n" for row in rows))

    return write


def notable(batch: Batch) -> dict[int, list[str]]:
    """Completions worth reading, by index in the batch, with the reasons why; one may have several."""
    indices = range(len(batch.rollouts))
    not_right = [index for index in indices if batch.rollouts[index].outcome.passed is not True]
    reasons_of: dict[int, list[str]] = {}

    def choose(reason: str, index: int) -> None:
        reasons_of.setdefault(index, []).append(reason)

    choose("highest_reward", max(indices, key=batch.totals.__getitem__))
    choose("lowest_reward", min(indices, key=batch.totals.__getitem__))
    choose("longest", max(indices, key=lambda index: batch.rollouts[index].tokens))
    choose("shortest", min(indices, key=lambda index: batch.rollouts[index].tokens))
    if not_right:
        choose("highest_reward_not_right", max(not_right, key=batch.totals.__getitem__))
    return reasons_of


def _row(batch: Batch, index: int, reasons: list[str]) -> dict[str, object]:
    rollout = batch.rollouts[index]
    return {
        "step": batch.step,
        "why": reasons,
        "problem_id": rollout.problem.id,
        "prompt": rollout.problem.messages[-1].content,
        "completion": rollout.trace.completion,
        "finish": rollout.trace.finish,
        "tokens": rollout.tokens,
        "reward": round(batch.totals[index], 4),
        "rewards": {name: values[index] for name, values in batch.values.items()},
        "verdict": rollout.outcome.passed,
        "reason": rollout.outcome.reason,
    }
