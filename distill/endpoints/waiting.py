"""The line of requests that wait for a place at an endpoint."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from distill.endpoints.state import Member
from distill.errors import BackendError

_MARGIN = 0.25  # more load than the least loaded that an endpoint may have to be kept for its cached prefix


class Line:
    """Hands out places at `members`, a list that others change; at most `ceiling`, and first come, first served."""

    def __init__(self, members: list[Member], ceiling: int) -> None:
        self._members, self._ceiling = members, ceiling
        self._waiters: deque[tuple[asyncio.Future[Member], str | None]] = deque()
        self._end: BackendError | None = None
        self.in_flight = 0

    @property
    def waiting(self) -> int:
        return sum(not future.done() for future, _ in self._waiters)

    async def take(self, affinity: str | None) -> Member:
        """A place at the least loaded endpoint, or at `affinity` if that is not clearly worse; to be given back.

        Raises:
            BackendError: the line was shut.
        """
        if self._end:
            raise self._end
        future: asyncio.Future[Member] = asyncio.get_running_loop().create_future()
        self._waiters.append((future, affinity))
        self.wake()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and not future.exception():
                self.give(future.result())
            raise

    def give(self, member: Member) -> None:
        member.in_flight -= 1
        self.in_flight -= 1
        self.wake()

    def wake(self) -> None:
        """Give places to those in line as long as there are any; to be called when there may be more."""
        while self._waiters:
            future, affinity = self._waiters[0]
            if not future.done():
                if not (member := self._choose(affinity)):
                    return
                member.in_flight += 1
                self.in_flight += 1
                future.set_result(member)
            self._waiters.popleft()

    def shut(self, error: BackendError) -> None:
        """Turn away whoever waits or comes, until it is opened."""
        self._end = error
        while self._waiters:
            future, _ = self._waiters.popleft()
            if not future.done():
                future.set_exception(error)

    def open(self) -> None:
        self._end = None
        self.wake()

    def _choose(self, affinity: str | None) -> Member | None:
        if self.in_flight >= self._ceiling:
            return None
        now = time.monotonic()
        if not (free := [member for member in self._members if member.free(now)]):
            return None
        best = min(free, key=lambda member: member.load)
        if affinity:
            return next((m for m in free if m.url == affinity and m.load <= best.load + _MARGIN), best)
        return best
