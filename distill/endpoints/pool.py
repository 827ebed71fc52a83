"""Many endpoints as one: the least loaded gets the next request, the dead get none until they serve again.

A request costs no task and no timer of its own here.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable

from distill.endpoints.failures import RequestFailure
from distill.endpoints.health import RESUME, HealthMonitor
from distill.endpoints.state import EndpointState, PooledServer
from distill.endpoints.waiting import RequestLine
from distill.errors import BackendError, DistillError
from distill.models.request import BackendStatus, Completion, GivenUp, Request

_MAX_FAILURES = 6  # failures of one request while others succeed, after which it is given up
_FIRST_PAUSE = 0.25  # seconds before the second attempt of a request that may be to blame; doubles with each
_MAX_DEATHS = 10  # servers that died with one request in their hands, after which it is given up


class Pool:
    """Endpoints may join and leave while it is used.

    Args:
        ceiling: requests in flight, all endpoints together.
        patience: seconds without any working endpoint after which all is given up.
        fatal_error: returns why there is no hope, if there is none.
    """

    def __init__(
        self, ceiling: int, patience: float, fatal_error: Callable[[], BackendError | None] = lambda: None
    ) -> None:
        self._ceiling = ceiling
        self._patience = patience
        self._members: list[EndpointState] = []
        self._line = RequestLine(self._members, ceiling)
        self._health = HealthMonitor(self._members, self._line, patience, fatal_error)
        self._retries = 0
        self._wasted_tokens = 0
        self._last_success = 0.0
        self._times_turned_away = 0
        """How often any request was turned away since one succeeded."""
        self._turned_away_since = 0.0

    @property
    def limit(self) -> int:
        """Requests worth having in flight now."""
        return min(self._ceiling, sum(m.window.size for m in self._members if m.usable))

    @property
    def version(self) -> str:
        """Versions of the engines, each once."""
        return ", ".join(sorted({m.endpoint.version for m in self._members if m.endpoint.version}))

    def status(self) -> BackendStatus:
        """What a live view shows; counts of requests and tokens are since the start."""
        member_reports = [member.status() for member in self._members]
        states = Counter(report["state"] for report in member_reports)
        return {
            "up": states["up"],
            "ejected": states["ejected"],
            "draining": states["draining"],
            "in_flight": self._line.in_flight,
            "waiting": self._line.waiting,
            "queued": sum(m.get("queued", 0) for m in member_reports),
            "limit": self.limit,
            "retries": self._retries,
            "wasted_tokens": self._wasted_tokens,
            "each": member_reports,
        }

    async def join(self, endpoints: Iterable[PooledServer]) -> list[DistillError | RequestFailure]:
        """Take endpoints in and return what is wrong with those that do not work, which are tried again and again."""
        return await self._health.join(endpoints, self._ceiling)

    def retain_only(self, urls: set[str]) -> set[str]:
        """Let go of all endpoints but these, and return those of them that have not joined yet.

        Gives everything up if there is no hope.
        """
        new_urls = self._health.retain_only(urls)
        self._health.give_up_if_hopeless()
        return new_urls

    async def close(self) -> None:
        await self._health.close()

    async def complete(self, request: Request) -> Completion:
        """Sample one completion, in as many attempts as it takes.

        Raises:
            Refused: this request can never work; GivenUp, a case of it, if it failed while others succeeded.
            BackendError: nothing has worked for `patience` seconds, or the key is wrong everywhere.
        """
        failures = 0
        deaths = 0
        first_failure_at = 0.0
        while True:
            member = await self._line.take(request.affinity)
            deaths_before = member.deaths
            try:
                completion = await member.endpoint.complete(request)
                self._note_success(completion, member)
                return completion
            except RequestFailure as caught:
                failure = caught
                self._count(failure, member)
            except BackendError as error:
                if not any(peer.usable for peer in self._members if peer is not member):
                    raise
                failure = RequestFailure(str(error), blames_request=False)
                member.failed(failure)
                member.suspect(error.message)
            finally:
                self._line.give(member)
            first_failure_at = first_failure_at or time.monotonic()
            if failure.blames_request:
                await asyncio.sleep(min(30.0, _FIRST_PAUSE * 2 ** min(failures, 8)) * random.uniform(0.5, 1.5))  # noqa: S311
                await member.settled.wait()
                if member.deaths > deaths_before:
                    deaths += 1
                else:
                    failures += 1
            if deaths >= _MAX_DEATHS:
                raise GivenUp(f"was with {deaths} servers when they died; the last {failure}") from failure
            if failures >= _MAX_FAILURES and self._last_success > first_failure_at:
                raise GivenUp(f"failed {failures} times while others succeeded; at last it {failure}") from failure
            waited = time.monotonic() - max(first_failure_at, self._last_success)
            if (failures >= _MAX_FAILURES and waited > self._patience) or self._always_turned_away():
                message = f"no request has worked for {waited:.0f} s; this one {failure}"
                raise BackendError(message, where=member.url, fix=RESUME) from failure

    def _always_turned_away(self) -> bool:
        """Whether all that was asked for too long was turned away; a request that is being answered is a hope."""
        waited = time.monotonic() - self._turned_away_since
        return self._times_turned_away >= _MAX_FAILURES and waited > self._patience and not self._line.in_flight

    def _note_success(self, completion: Completion, member: EndpointState) -> None:
        member.succeeded(completion)
        self._last_success = time.monotonic()
        self._times_turned_away = 0

    def _count(self, failure: RequestFailure, member: EndpointState) -> None:
        self._retries += 1
        if failure.busy and not self._times_turned_away:
            self._turned_away_since = time.monotonic()
        self._times_turned_away += failure.busy
        self._wasted_tokens += failure.wasted_tokens
        if pause := member.failed(failure):
            asyncio.get_running_loop().call_later(pause, self._line.wake)
