"""Looks after the endpoints of a pool: how busy each is, which are dead, which are back, which leave.

Each endpoint has one task, which reads its load every few seconds, or looks whether it serves again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from distill.endpoints.failures import Failure
from distill.endpoints.state import Member, Served
from distill.endpoints.waiting import Line
from distill.errors import BackendError, DistillError

_POLL = 2.0  # seconds between two looks at an endpoint
_FIRST, _RETRY = 0.5, 15.0  # seconds between two looks at a dead one, at first and at most
_HANG = 300.0  # seconds after which a server that answers nothing is not waited for any longer
RESUME = "finished traces are saved; the same command goes on from there"

LOG = logging.getLogger(__name__)


class Warden:
    """Keeps `members` up to date.

    Args:
        line: opened and shut, as there are endpoints that work or none.
        patience: seconds without any after which all is given up.
        lost: says why there is no hope, if there is none.
    """

    def __init__(
        self, members: list[Member], line: Line, patience: float, lost: Callable[[], BackendError | None]
    ) -> None:
        self._members, self._line, self._patience, self._lost = members, line, patience, lost
        self._tasks: dict[Member, asyncio.Task[None]] = {}
        self._last_up = time.monotonic()

    async def join(self, endpoints: Iterable[Served], ceiling: int) -> list[DistillError | Failure]:
        """Take endpoints in, each for `ceiling` requests at most. Returns what is wrong with those that do not work."""
        made = [Member(endpoint, ceiling) for endpoint in endpoints]
        self._members += made
        wrong = await asyncio.gather(*(self._look(member) for member in made))
        for member in made:
            self._tasks[member] = asyncio.create_task(self._watch(member), name=f"watch {member.url}")
        return [error for error in wrong if error]

    def keep(self, urls: set[str]) -> set[str]:
        """Mark all endpoints but these as leaving; returns those that are not there yet."""
        for member in self._members:
            if member.leaving is (member.url in urls):
                member.leaving = not member.leaving
                LOG.info("%s %s", member.url, "leaves: it gets no more requests" if member.leaving else "is back")
                member.alarm.set()
        return urls - {member.url for member in self._members}

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await asyncio.gather(*(member.endpoint.close() for member in self._members))
        self._members.clear()
        self._tasks.clear()

    async def _watch(self, member: Member) -> None:
        """Look after one endpoint until it has left."""
        pause = _POLL
        while not (member.leaving and not member.in_flight):
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await member.alarm.wait()
            member.alarm.clear()
            if member.state == "up":
                await self._listen(member)
                pause = _POLL
            elif await self._look(member):
                self.despair()
                pause = min(_RETRY, 2 * pause) if pause < _POLL else _FIRST
            else:
                pause = _POLL
        self._members.remove(member)
        del self._tasks[member]
        await member.endpoint.close()

    async def _listen(self, member: Member) -> None:
        held = member.in_flight
        try:
            member.learn(await member.endpoint.pulse(), held)
        except Failure as failure:
            member.missed(failure)
        else:
            self._last_up = time.monotonic()
            self._line.wake()

    async def _look(self, member: Member) -> DistillError | Failure | None:
        """Whether a new, suspect or ejected endpoint can be used; returns what is wrong with it."""
        back = member.state == "ejected"
        try:
            await member.endpoint.check()
            gauge = await member.endpoint.pulse()
        except (Failure, DistillError) as error:
            if member.eject(error.what if isinstance(error, DistillError) else str(error)):
                LOG.warning("%s %s; it gets no requests until it serves again", member.url, member.reason)
            if member.in_flight and time.monotonic() - member.ejected_at > _HANG:
                LOG.warning("%s has not answered for %.0f s; its requests are sent elsewhere", member.url, _HANG)
                await member.endpoint.reset()
            return error
        if back:
            LOG.info("%s serves again", member.url)
        member.admit()
        member.learn(gauge, member.in_flight)
        self._last_up = time.monotonic()
        self._line.open()
        return None

    def despair(self) -> None:
        """Give all up if there is no hope, or no endpoint for too long."""
        waited = time.monotonic() - self._last_up
        if error := self._lost():
            self._line.shut(error)
        elif waited > self._patience and not any(m.state in ("up", "suspect") for m in self._members):
            last = max(self._members, key=lambda m: m.ejected_at, default=None)
            what = f"no endpoint has worked for {waited:.0f} s" + (f"; this one {last.reason}" if last else "")
            self._line.shut(BackendError(what, where=last.url if last else None, fix=RESUME))
