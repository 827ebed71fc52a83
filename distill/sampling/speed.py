"""How fast an engine samples while it is as busy as it gets."""

from __future__ import annotations

from dataclasses import dataclass, field

from distill.types import Metric

_FULL_SHARE = 0.9
"""Share of the most requests in flight from which on the engine counts as full."""
_SLICES = 20


@dataclass
class Stopwatch:
    """Measures an engine's speed from its replies; holds three numbers for each."""

    replies: list[tuple[float, float, int]] = field(default_factory=list)
    """(began, ended, tokens), seconds on one clock."""

    def note(self, began: float, ended: float, tokens: int) -> None:
        self.replies.append((began, ended, tokens))

    @property
    def most_in_flight(self) -> int:
        """Requests in flight at once, at most."""
        return max((level for _, level in self._levels()), default=0)

    def _levels(self) -> list[tuple[float, int]]:
        """(time from which on, requests in flight)."""
        changes = sorted([(began, 1) for began, _, _ in self.replies] + [(ended, -1) for _, ended, _ in self.replies])
        levels = []
        level = 0
        for time, change in changes:
            level += change
            levels.append((time, level))
        return levels

    def steady_rate(self) -> Metric | None:
        """Tokens a second of all engines together, without the start and the end, when they are not full.

        A reply's tokens count evenly over the time that it took. The interval is that of the mean of twenty equal
        slices of the time; None where there was too little to measure.
        """
        import numpy as np

        levels = self._levels()
        full = [index for index, (_, level) in enumerate(levels) if level >= _FULL_SHARE * self.most_in_flight]
        if not full or full[-1] + 1 >= len(levels):
            return None
        start = levels[full[0]][0]
        end = levels[full[-1] + 1][0]
        flights = np.array(self.replies)
        durations = flights[:, 1] - flights[:, 0]
        if end <= start or (durations <= 0).any():
            return None
        edges = np.linspace(start, end, _SLICES + 1)
        # (replies, slices): seconds of each reply that lie in each slice
        seconds_in_slice = np.minimum(flights[:, 1:2], edges[None, 1:]) - np.maximum(flights[:, :1], edges[None, :-1])
        slice_rates = (np.clip(seconds_in_slice, 0, None) * (flights[:, 2] / durations)[:, None]).sum(0) / (
            edges[1] - edges[0]
        )
        mean = float(slice_rates.mean())
        standard_error = float(slice_rates.std(ddof=1)) / _SLICES**0.5
        return Metric(value=mean, low=max(0.0, mean - 1.96 * standard_error), high=mean + 1.96 * standard_error)
