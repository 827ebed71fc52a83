"""Looks after the endpoints of a pool: how busy each is, which are dead, which are back, which leave.

Each endpoint has one task, which reads its load every few seconds, or looks whether it serves again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from distill.endpoints.failures import RequestFailure
from distill.endpoints.state import EndpointState, PooledServer
from distill.endpoints.waiting import RequestLine
from distill.errors import BackendError, DistillError
from distill.progress import LOG

_POLL_INTERVAL = 2.0  # seconds between two looks at an endpoint
_FIRST_RETRY = 0.5  # seconds between two looks at a dead one, at first
_LONGEST_RETRY = 15.0  # seconds between two looks at a dead one, at most
_MAX_SILENCE = 300.0  # seconds after which a server that answers nothing is not waited for any longer
RESUME = "what is finished is saved; the same command goes on from there"


class HealthMonitor:
    """Keeps `members` up to date.

    Args:
        line: opened and shut, as there are endpoints that work or none.
        patience: seconds without any after which all is given up.
        fatal_error: returns why there is no hope, if there is none.
    """

    def __init__(
        self,
        members: list[EndpointState],
        line: RequestLine,
        patience: float,
        fatal_error: Callable[[], BackendError | None],
    ) -> None:
        self._members = members
        self._line = line
        self._patience = patience
        self._fatal_error = fatal_error
        self._tasks: dict[EndpointState, asyncio.Task[None]] = {}
        self._last_up = time.monotonic()

    async def join(self, endpoints: Iterable[PooledServer], ceiling: int) -> list[DistillError | RequestFailure]:
        """Take endpoints in, each for `ceiling` requests at most; return what is wrong with those that do not work."""
        new_members = [EndpointState(endpoint, ceiling) for endpoint in endpoints]
        self._members += new_members
        errors = await asyncio.gather(*(self._check(member) for member in new_members))
        for member in new_members:
            self._tasks[member] = asyncio.create_task(self._watch(member), name=f"watch {member.url}")
        return [error for error in errors if error]

    def retain_only(self, urls: set[str]) -> set[str]:
        """Mark all endpoints but these as leaving; return those of these that have not joined yet."""
        for member in self._members:
            if member.leaving is (member.url in urls):
                member.leaving = not member.leaving
                if member.leaving:
                    LOG.info("%s leaves: it gets no more requests", member.url)
                else:
                    LOG.info("%s is back", member.url)
                member.alarm.set()
        return urls - {member.url for member in self._members}

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await asyncio.gather(*(member.endpoint.close() for member in self._members))
        self._members.clear()
        self._tasks.clear()

    async def _watch(self, member: EndpointState) -> None:
        """Look after one endpoint until it has left."""
        interval = _POLL_INTERVAL
        while not (member.leaving and not member.in_flight):
            with suppress(TimeoutError):
                async with asyncio.timeout(interval):
                    await member.alarm.wait()
            member.alarm.clear()
            if member.state == "up":
                await self._poll(member)
                interval = _POLL_INTERVAL
            elif await self._check(member):
                self.give_up_if_hopeless()
                interval = min(_LONGEST_RETRY, 2 * interval) if interval < _POLL_INTERVAL else _FIRST_RETRY
            else:
                interval = _POLL_INTERVAL
        self._members.remove(member)
        del self._tasks[member]
        await member.endpoint.close()

    async def _poll(self, member: EndpointState) -> None:
        held = member.in_flight
        try:
            member.learn(await member.endpoint.pulse(), held)
        except RequestFailure as failure:
            member.missed(failure)
        else:
            self._last_up = time.monotonic()
            self._line.wake()

    async def _check(self, member: EndpointState) -> DistillError | RequestFailure | None:
        """See whether a new, suspect or ejected endpoint can be used; return what is wrong with it."""
        was_ejected = member.state == "ejected"
        try:
            await member.endpoint.check()
            gauge = await member.endpoint.pulse()
        except (RequestFailure, DistillError) as error:
            reason = error.message if isinstance(error, DistillError) else str(error)
            if member.eject(reason):
                LOG.warning("%s %s; it gets no requests until it serves again", member.url, member.reason)
            if member.in_flight and time.monotonic() - member.ejected_at > _MAX_SILENCE:
                LOG.warning("%s has not answered for %.0f s; its requests are sent elsewhere", member.url, _MAX_SILENCE)
                await member.endpoint.reset()
            return error
        if was_ejected:
            LOG.info("%s serves again", member.url)
        member.admit()
        member.learn(gauge, member.in_flight)
        self._last_up = time.monotonic()
        self._line.open()
        return None

    def give_up_if_hopeless(self) -> None:
        """Give everything up if there is no hope, or no endpoint that works for too long."""
        idle_seconds = time.monotonic() - self._last_up
        if error := self._fatal_error():
            self._line.shut(error)
        elif idle_seconds > self._patience and not any(m.state in ("up", "suspect") for m in self._members):
            last_ejected = max(self._members, key=lambda m: m.ejected_at, default=None)
            message = f"no endpoint has worked for {idle_seconds:.0f} s"
            url = None
            if last_ejected:
                message += f"; this one {last_ejected.reason}"
                url = last_ejected.url
            self._line.shut(BackendError(message, where=url, fix=RESUME))
