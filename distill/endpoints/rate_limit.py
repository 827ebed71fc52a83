"""A rate limit: so many units a minute, spread evenly."""

from __future__ import annotations

import asyncio
import time


class RateLimit:
    """Lets `per_minute` units through; None is no limit.

    What was spent can be corrected later, which libraries for this lack.
    """

    def __init__(self, per_minute: int | None) -> None:
        self._seconds_per_unit = 60 / per_minute if per_minute else 0.0
        self._next_turn = 0.0
        """When the next unit may be spent, by the monotonic clock."""

    async def spend(self, units: float) -> None:
        """Wait for the turn, first come first served; the first one goes at once."""
        if self._seconds_per_unit:
            now = time.monotonic()
            turn = max(now, self._next_turn)
            self._next_turn = turn + units * self._seconds_per_unit
            if turn > now:
                try:
                    await asyncio.sleep(turn - now)
                except asyncio.CancelledError:
                    self.correct(-units)
                    raise

    def correct(self, units: float) -> None:
        """Take note that so many more units (or, negative, fewer) were used than `spend` was told."""
        self._next_turn += units * self._seconds_per_unit
