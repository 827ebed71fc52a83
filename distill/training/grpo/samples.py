"""Completions to read while a student learns from rewards: what pays, whether it should or not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distill.rollouts.trl import Batch


def writer(path: Path, every: int) -> Callable[[Batch], None]:
    """Appends some completions of every `every`-th step: those that a hacked reward shows up in."""

    def write(batch: Batch) -> None:
        if batch.step % every:
            return
        rows = [json.dumps(_row(batch, at, why), ensure_ascii=False) for at, why in chosen(batch).items()]
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(row + "\n" for row in rows))

    return write


def chosen(batch: Batch) -> dict[int, list[str]]:
    """Place in the batch to why it is worth reading; one completion may be several."""
    everything = range(len(batch.rollouts))
    not_right = [at for at in everything if batch.rollouts[at].outcome.passed is not True]
    found: dict[int, list[str]] = {}

    def take(why: str, at: int) -> None:
        found.setdefault(at, []).append(why)

    take("highest_reward", max(everything, key=batch.totals.__getitem__))
    take("lowest_reward", min(everything, key=batch.totals.__getitem__))
    take("longest", max(everything, key=lambda at: batch.rollouts[at].tokens))
    take("shortest", min(everything, key=lambda at: batch.rollouts[at].tokens))
    if not_right:
        take("highest_reward_not_right", max(not_right, key=batch.totals.__getitem__))
    return found


def _row(batch: Batch, at: int, why: list[str]) -> dict[str, Any]:
    rollout = batch.rollouts[at]
    return {
        "step": batch.step,
        "why": why,
        "problem_id": rollout.problem.id,
        "prompt": rollout.problem.messages[-1].content,
        "completion": rollout.trace.completion,
        "finish": rollout.trace.finish,
        "tokens": rollout.tokens,
        "reward": round(batch.totals[at], 4),
        "rewards": {name: values[at] for name, values in batch.values.items()},
        "verdict": rollout.outcome.passed,
        "reason": rollout.outcome.reason,
    }
