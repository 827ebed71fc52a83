"""How many requests one endpoint may hold: more while its engine takes them at once, fewer when it queues them.

Additive increase, multiplicative decrease (Chiu and Jain, 1989; TCP's congestion window), with the engine's own queue
as the signal where it shows one, else only its refusals. What waits in an engine can no longer go to another endpoint.
"""

from __future__ import annotations

import re
import time
from typing import NamedTuple

START_SIZE = 256
"""Requests at first for an engine that shows its queue: what one GPU runs at once by vLLM's defaults, or a quarter."""
_MIN_SIZE = 4
_FULL = 0.9  # of the window, from which on it is what limits; of the cache, from which on more requests would preempt
_SHRINK_INTERVAL = 1.0  # seconds between two shrinkings by refusals: those of one moment are one signal
_GAUGES = re.compile(
    rb"^vllm:(num_requests_running|num_requests_waiting|kv_cache_usage_perc)(?:\{.*\})? ([\d.e+-]+)\r?$", re.MULTILINE
)


class Gauge(NamedTuple):
    """What an engine says of itself, all its data-parallel ranks together."""

    running: int
    waiting: int
    cache: float
    """Used share of the fullest rank's KV cache."""


def read_gauge(metrics: bytes) -> Gauge | None:
    """Read vLLM's /metrics, summed over the ranks; None if a value is missing or is none. Never raises."""
    try:
        values = [(name, float(value)) for name, value in _GAUGES.findall(metrics)]
        running = sum(int(value) for name, value in values if name.endswith(b"running"))
        waiting = sum(int(value) for name, value in values if name.endswith(b"waiting"))
        cache = max(value for name, value in values if name.endswith(b"perc"))
    except (ValueError, OverflowError):
        return None
    return Gauge(running, waiting, cache)


class Window:
    """Finds `size`, the number of requests to hold, which is at most `ceiling`."""

    def __init__(self, ceiling: int) -> None:
        self.ceiling = ceiling
        self.size = ceiling
        self._searching = True
        self._has_gauge = False
        self._shrunk_at = 0.0

    def restart(self) -> None:
        """Begin anew: a restarted engine has an empty cache and no requests."""
        self._searching = True
        self.size = min(self.ceiling, START_SIZE) if self._has_gauge else self.ceiling

    def learn(self, gauge: Gauge | None, held: int) -> None:
        """Adjust to a reading, taken when `held` requests of ours were there; None: the engine shows nothing."""
        if gauge and not self._has_gauge:
            self._has_gauge = True
            self.size = max(min(self.ceiling, START_SIZE), held)
        if gauge:
            # a small queue keeps the engine busy while replies and new requests are on their way
            excess = gauge.waiting - max(8, gauge.running // 16)
            if excess > 0:
                self._searching = False
                # from what is there, not from the window: what is too much leaves slowly, and counts once
                self.size = min(self.size, max(_MIN_SIZE, self.size // 2, held - excess))
                return
            if gauge.cache > _FULL or gauge.waiting > 2:
                return
        if held >= _FULL * self.size and time.monotonic() - self._shrunk_at > 2 * _SHRINK_INTERVAL:
            step = self.size if self._searching else max(8, self.size // 16)
            self.size = min(self.ceiling, self.size + step)

    def refused(self, held: int) -> None:
        """Shrink, since the server turned a request away when `held` requests of ours were there."""
        now = time.monotonic()
        if now - self._shrunk_at > _SHRINK_INTERVAL:
            self._shrunk_at = now
            self._searching = False
            self.size = max(_MIN_SIZE, int(0.7 * min(held, self.size)))
