"""Guards while a student learns from rewards: what the metrics must not do, and what it means when they do."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from pydantic import Field

from distill.types import Record


class GuardLimits(Record):
    """What the guards allow of means over a window of steps; null switches a guard off."""

    window: int = Field(20, ge=1)
    """Optimizer steps that means are taken over; nothing is said before so many were seen."""
    zero_variance: float | None = Field(0.95, gt=0, le=1)
    """Greatest share of groups whose completions all earn the same, which teaches nothing; None sets no limit."""
    clipped: float | None = Field(0.9, gt=0, le=1)
    """Greatest share of completions that are cut at `max_completion_length`; None sets no limit."""
    kl: float | None = Field(10.0, gt=0)
    """Greatest distance from the reference model in nats a token, measured only with `beta` above 0; None sets no
    limit."""
    entropy: float | None = Field(0.01, ge=0)
    """Least entropy in nats a token, below which all completions of a prompt become one; None sets no limit."""
    drift: float | None = Field(4.0, gt=1)
    """Greatest factor by which completions may become longer or shorter than in the first window; None sets no
    limit."""


class Watch:
    """Reads the rows of metrics.jsonl, step by step, and says why to stop."""

    def __init__(self, limits: GuardLimits) -> None:
        self._limits = limits
        self._rows: deque[Mapping[str, object]] = deque(maxlen=limits.window)
        self._first_length: float | None = None

    def replay(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Take the rows of an earlier start of the same job: windows go on over them."""
        for row in rows:
            self.observe(row)

    def observe(self, row: Mapping[str, object]) -> str:
        """Take one step's row; why to stop, or empty while all is well."""
        self._rows.append(row)
        if len(self._rows) < self._limits.window:
            return ""
        length = self._mean("completion_length")
        if self._first_length is None:
            self._first_length = length
        complaints = (
            self._no_variance(),
            self._too_often_cut(),
            self._too_far(),
            self._entropy_collapse(),
            self._length_drift(length),
        )
        return next(filter(None, complaints), "")

    def _mean(self, name: str) -> float | None:
        values = [value for row in self._rows if isinstance(value := row.get(name), int | float)]
        return sum(values) / len(values) if values else None

    def _no_variance(self) -> str:
        limit = self._limits.zero_variance
        share = self._mean("frac_reward_zero_std")
        if limit is None or share is None or share < limit:
            return ""
        reward = self._mean("reward") or 0.0
        return (
            f"{share:.0%} of the groups had no variance (mean reward {reward:.2f}), so there is nothing to learn: "
            "the prompts are too easy, too hard, or the rewards do not tell completions apart"
        )

    def _too_often_cut(self) -> str:
        limit = self._limits.clipped
        share = self._mean("clipped_ratio")
        if limit is None or share is None or share < limit:
            return ""
        return f"{share:.0%} of the completions were cut: raise grpo.max_completion_length, or the student never stops"

    def _too_far(self) -> str:
        limit = self._limits.kl
        kl = self._mean("kl")
        if limit is None or kl is None or kl <= limit:
            return ""
        return f"the student is {kl:.1f} nats a token from where it began: lower the learning rate or raise beta"

    def _entropy_collapse(self) -> str:
        limit = self._limits.entropy
        entropy = self._mean("entropy")
        if limit is None or entropy is None or entropy >= limit:
            return ""
        return f"the entropy fell to {entropy:.4f} nats a token: all completions of a prompt become the same"

    def _length_drift(self, length: float | None) -> str:
        limit = self._limits.drift
        first = self._first_length
        if limit is None or not first or length is None or first / limit <= length <= first * limit:
            return ""
        return f"completions went from {first:.0f} to {length:.0f} tokens: a reward pays for length"
