"""One endpoint's place in the pool: whether it may be used, how much, and what came of it."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Literal, Protocol

from distill.backends import Completion, Request
from distill.endpoints.failures import Failure
from distill.endpoints.window import Gauge, Window

_LONGEST = 10.0  # seconds of rest that we choose ourselves
_SUSPICIOUS = 5  # failures in a row, or signs of life missed


class Served(Protocol):
    """A server that the pool can use."""

    url: str
    version: str

    async def check(self) -> None:
        """Raises Failure, BackendError or InputError unless it can be used."""
        ...

    async def pulse(self) -> Gauge | None:
        """Raises Failure without a sign of life."""
        ...

    async def complete(self, request: Request) -> Completion:
        """One attempt; raises Failure, Refused or BackendError."""
        ...

    async def reset(self) -> None:
        """Drop all connections."""
        ...

    async def close(self) -> None: ...


class Member:
    """State of one endpoint.

    new -> up <-> suspect -> ejected -> up. A suspect gets no requests and is looked at in the same moment, so a wrong
    suspicion costs one round trip. `leaving` (its line is gone from the file) means finish, but begin nothing.
    """

    def __init__(self, endpoint: Served, ceiling: int) -> None:
        self.endpoint, self.url, self.window = endpoint, endpoint.url, Window(ceiling)
        self.state: Literal["new", "up", "suspect", "ejected"] = "new"
        self.leaving = False
        self.reason = ""
        """Why it was ejected last."""
        self.in_flight = self.requests = self.tokens = self.failures = self.wasted = 0
        self.deaths = 0
        """How often a suspicion turned out right; a request that was there then is not to blame for its failure."""
        self.ejected_at = 0.0
        self.gauge: Gauge | None = None
        self.alarm, self.settled = asyncio.Event(), asyncio.Event()
        self._elsewhere = 0
        """Requests at the engine that are not ours, or not known to have left, at the last reading."""
        self._strikes, self._missed, self._rests_until = 0, 0, 0.0

    @property
    def usable(self) -> bool:
        return self.state == "up" and not self.leaving

    def free(self, now: float) -> bool:
        return self.usable and self.in_flight < self.window.size and self._rests_until <= now

    @property
    def load(self) -> float:
        """Used share of its window and of its cache: 0 idle, 2 full; windows differ as machines do."""
        cache = self.gauge.cache if self.gauge else 0.0
        return (self.in_flight + self._elsewhere) / self.window.size + cache

    def succeeded(self, done: Completion) -> None:
        self.requests += 1
        self.tokens += done.tokens
        self._strikes = 0

    def failed(self, failure: Failure) -> float:
        """Take note of a failed attempt; returns the seconds for which it is to be left alone from now on."""
        now = time.monotonic()
        self.failures += 1
        self.wasted += failure.wasted
        if failure.busy:
            self.window.refused(self.in_flight)
        if now < self._rests_until:  # the rest of a volley that was noted already
            return 0.0
        self._strikes += 1
        often = self._strikes >= _SUSPICIOUS
        if failure.gone or often:
            self.suspect(str(failure))
        if not (failure.busy or often or not failure.counts):
            return 0.0
        pause = max(failure.after, min(_LONGEST, 0.05 * 2.0 ** min(self._strikes, 8)))
        self._rests_until = now + pause
        return pause

    def suspect(self, reason: str) -> None:
        if self.state == "up":
            self.state, self.reason = "suspect", reason
            self.settled.clear()
            self.alarm.set()

    def learn(self, gauge: Gauge | None, held: int) -> None:
        """A sign of life, asked for when `held` requests of ours were there."""
        self.gauge, self._missed = gauge, 0
        self._elsewhere = max(0, gauge.running + gauge.waiting - held) if gauge else 0
        self.window.learn(gauge, held)

    def missed(self, failure: Failure) -> None:
        """No sign of life; one may be lost on a busy machine."""
        self._missed += 1
        if self._missed >= _SUSPICIOUS or failure.counts is False:
            self.suspect(str(failure))

    def admit(self) -> None:
        """It can be used."""
        if self.state in ("new", "ejected"):
            self.window.restart()
            self._strikes, self._rests_until = 0, 0.0
        self._missed = 0
        self.state = "up"
        self.settled.set()

    def eject(self, reason: str) -> bool:
        """It cannot be used; True if that is news."""
        news = self.state != "ejected"
        if news:
            self.deaths += 1
            self.ejected_at = time.monotonic()
            self.reason = self.reason if self.state == "suspect" else reason
        self.state, self.gauge = "ejected", None
        self.settled.set()
        return news

    def status(self) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "url": self.url,
            "state": "draining" if self.leaving else "up" if self.state == "up" else "ejected",
            "in_flight": self.in_flight,
            "limit": self.window.size,
            "requests": self.requests,
            "tokens": self.tokens,
            "failures": self.failures,
            "wasted_tokens": self.wasted,
        }
        if self.gauge:
            shown |= {"running": self.gauge.running, "queued": self.gauge.waiting, "cache": round(self.gauge.cache, 3)}
        if shown["state"] == "ejected":
            shown["reason"] = self.reason
        return shown
