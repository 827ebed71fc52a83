"""A rate limit: so many units a minute, spread evenly."""

from __future__ import annotations

import asyncio
import time


class Rate:
    """`per_minute` units; None is no limit. What was spent can be corrected later, which libraries for this lack."""

    def __init__(self, per_minute: int | None) -> None:
        self._cost = 60 / per_minute if per_minute else 0.0
        self._next = 0.0
        """When the next unit may be spent."""

    async def spend(self, units: float) -> None:
        """Wait for the turn, first come first served; the first one goes at once."""
        if self._cost:
            now = time.monotonic()
            start = max(now, self._next)
            self._next = start + units * self._cost
            if start > now:
                try:
                    await asyncio.sleep(start - now)
                except asyncio.CancelledError:
                    self.correct(-units)
                    raise

    def correct(self, units: float) -> None:
        """So many more (or, negative, fewer) were used than were said when they were spent."""
        self._next += units * self._cost
