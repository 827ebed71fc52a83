"""One endpoint's place in the pool: whether it may be used, how much, and what came of it."""

from __future__ import annotations

import asyncio
import time
from typing import Literal, Protocol

from distill.endpoints.failures import RequestFailure
from distill.endpoints.window import Gauge, Window
from distill.models.request import Completion, EndpointReport, Request

_MAX_PAUSE = 10.0  # seconds of rest that we choose ourselves
_SUSPECT_AFTER = 5  # failures in a row, or signs of life missed


class PooledServer(Protocol):
    """A server that the pool can use."""

    url: str
    version: str

    async def check(self) -> None:
        """Raises RequestFailure, BackendError or InputError unless it can be used."""
        ...

    async def pulse(self) -> Gauge | None:
        """Raises RequestFailure without a sign of life."""
        ...

    async def complete(self, request: Request) -> Completion:
        """One attempt; raises RequestFailure, Refused or BackendError."""
        ...

    async def reset(self) -> None:
        """Drop all connections."""
        ...

    async def close(self) -> None: ...


class EndpointState:
    """State of one endpoint.

    new -> up <-> suspect -> ejected -> up. A suspect gets no requests and is looked at in the same moment, so a wrong
    suspicion costs one round trip. `leaving` (its line is gone from the file) means finish, but begin nothing.
    """

    def __init__(self, endpoint: PooledServer, ceiling: int) -> None:
        self.endpoint = endpoint
        self.url = endpoint.url
        self.window = Window(ceiling)
        self.state: Literal["new", "up", "suspect", "ejected"] = "new"
        self.leaving = False
        self.reason = ""
        """Why it was ejected last."""
        self.in_flight = 0
        self.requests = 0
        self.tokens = 0
        self.failures = 0
        self.wasted_tokens = 0
        self.deaths = 0
        """How often a suspicion turned out right; a request that was there then is not to blame for its failure."""
        self.ejected_at = 0.0
        self.gauge: Gauge | None = None
        self.alarm = asyncio.Event()
        self.settled = asyncio.Event()
        self._foreign_requests = 0
        """Requests at the engine that are not ours, or not known to have left, at the last reading."""
        self._failures_in_row = 0
        self._missed_signs = 0
        self._rests_until = 0.0

    @property
    def usable(self) -> bool:
        return self.state == "up" and not self.leaving

    def has_room(self, now: float) -> bool:
        return self.usable and self.in_flight < self.window.size and self._rests_until <= now

    @property
    def load(self) -> float:
        """Used share of its window and of its cache: 0 idle, 2 full; windows differ as machines do."""
        cache = self.gauge.cache if self.gauge else 0.0
        return (self.in_flight + self._foreign_requests) / self.window.size + cache

    def succeeded(self, completion: Completion) -> None:
        self.requests += 1
        self.tokens += completion.tokens
        self._failures_in_row = 0

    def failed(self, failure: RequestFailure) -> float:
        """Take note of a failed attempt; return the seconds for which it is to be left alone from now on."""
        now = time.monotonic()
        self.failures += 1
        self.wasted_tokens += failure.wasted_tokens
        if failure.busy:
            self.window.refused(self.in_flight)
        if now < self._rests_until:  # the rest of a volley that was noted already
            return 0.0
        self._failures_in_row += 1
        repeatedly = self._failures_in_row >= _SUSPECT_AFTER
        if failure.gone or repeatedly:
            self.suspect(str(failure))
        if not (failure.busy or repeatedly or not failure.blames_request):
            return 0.0
        pause = max(failure.retry_after, min(_MAX_PAUSE, 0.05 * 2.0 ** min(self._failures_in_row, 8)))
        self._rests_until = now + pause
        return pause

    def suspect(self, reason: str) -> None:
        if self.state == "up":
            self.state = "suspect"
            self.reason = reason
            self.settled.clear()
            self.alarm.set()

    def learn(self, gauge: Gauge | None, held: int) -> None:
        """Take note of a sign of life, asked for when `held` requests of ours were there."""
        self.gauge = gauge
        self._missed_signs = 0
        self._foreign_requests = max(0, gauge.running + gauge.waiting - held) if gauge else 0
        self.window.learn(gauge, held)

    def missed(self, failure: RequestFailure) -> None:
        """Take note of a missing sign of life; one may be lost on a busy machine."""
        self._missed_signs += 1
        if self._missed_signs >= _SUSPECT_AFTER or failure.blames_request is False:
            self.suspect(str(failure))

    def admit(self) -> None:
        """Take note that it can be used."""
        if self.state in ("new", "ejected"):
            self.window.restart()
            self._failures_in_row = 0
            self._rests_until = 0.0
        self._missed_signs = 0
        self.state = "up"
        self.settled.set()

    def eject(self, reason: str) -> bool:
        """Take note that it cannot be used; return whether that is news."""
        is_news = self.state != "ejected"
        if is_news:
            self.deaths += 1
            self.ejected_at = time.monotonic()
            if self.state != "suspect":
                self.reason = reason
        self.state = "ejected"
        self.gauge = None
        self.settled.set()
        return is_news

    def status(self) -> EndpointReport:
        state = "up" if self.state == "up" else "ejected"
        if self.leaving:
            state = "draining"
        report: EndpointReport = {
            "url": self.url,
            "state": state,
            "in_flight": self.in_flight,
            "limit": self.window.size,
            "requests": self.requests,
            "tokens": self.tokens,
            "failures": self.failures,
            "wasted_tokens": self.wasted_tokens,
        }
        if self.gauge:
            report["running"] = self.gauge.running
            report["queued"] = self.gauge.waiting
            report["cache"] = round(self.gauge.cache, 3)
        if state == "ejected":
            report["reason"] = self.reason
        return report
