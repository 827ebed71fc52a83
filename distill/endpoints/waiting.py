"""The line of requests that wait for a place at an endpoint."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from distill.endpoints.state import EndpointState
from distill.errors import BackendError

_AFFINITY_MARGIN = 0.25  # more load than the least loaded that an endpoint may have to be kept for its cached prefix


class RequestLine:
    """Hands out places at `members`, a list that others change.

    It gives at most `ceiling` places, first come, first served.
    """

    def __init__(self, members: list[EndpointState], ceiling: int) -> None:
        self._members = members
        self._ceiling = ceiling
        self._waiters: deque[tuple[asyncio.Future[EndpointState], str | None]] = deque()
        self._shut_by: BackendError | None = None
        self.in_flight = 0

    @property
    def waiting(self) -> int:
        return sum(not future.done() for future, _ in self._waiters)

    async def take(self, affinity: str | None) -> EndpointState:
        """Wait for a place at the least loaded endpoint, or at `affinity` if that is not clearly worse.

        The place is to be given back with `give`.

        Raises:
            BackendError: the line was shut.
        """
        if self._shut_by:
            raise self._shut_by
        future: asyncio.Future[EndpointState] = asyncio.get_running_loop().create_future()
        self._waiters.append((future, affinity))
        self.wake()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and not future.exception():
                self.give(future.result())
            raise

    def give(self, member: EndpointState) -> None:
        member.in_flight -= 1
        self.in_flight -= 1
        self.wake()

    def wake(self) -> None:
        """Give places to those in line as long as there are any; to be called when there may be more."""
        while self._waiters:
            future, affinity = self._waiters[0]
            if not future.done():
                member = self._choose(affinity)
                if not member:
                    return
                member.in_flight += 1
                self.in_flight += 1
                future.set_result(member)
            self._waiters.popleft()

    def shut(self, error: BackendError) -> None:
        """Turn away whoever waits or comes, until it is opened."""
        self._shut_by = error
        while self._waiters:
            future, _ = self._waiters.popleft()
            if not future.done():
                future.set_exception(error)

    def open(self) -> None:
        self._shut_by = None
        self.wake()

    def _choose(self, affinity: str | None) -> EndpointState | None:
        if self.in_flight >= self._ceiling:
            return None
        now = time.monotonic()
        free_members = [member for member in self._members if member.has_room(now)]
        if not free_members:
            return None
        least_loaded = min(free_members, key=lambda member: member.load)
        if affinity:
            highest = least_loaded.load + _AFFINITY_MARGIN
            return next((m for m in free_members if m.url == affinity and m.load <= highest), least_loaded)
        return least_loaded
