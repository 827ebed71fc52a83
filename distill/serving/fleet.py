"""Replicas under watch: started together, started again when they die, stopped together."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol
from urllib.error import URLError

from distill.errors import DistillError
from distill.progress import LOG, duration

_TICK = 0.5  # seconds between two looks at a replica
_STEADY = 600.0  # seconds of health after which earlier failures are forgiven
_HUNG = 120.0  # seconds without a healthy answer from one that had given some
_ANSWER_TIMEOUT = 10.0  # seconds that one health check may take


class Replica(Protocol):
    """One server, wherever it runs."""

    name: str

    def start(self) -> None:
        """Start it, or start it again; does not wait until it serves.

        Raises:
            RunError: it cannot even be started.
        """
        ...

    @property
    def url(self) -> str | None:
        """Where it will answer; None while that is not known."""
        ...

    @property
    def alive(self) -> bool: ...

    def last_words(self) -> str: ...

    def stop(self) -> None:
        """End it and all its processes; blocks, for seconds at most; does nothing where nothing runs."""
        ...


@dataclass
class _Watched:
    replica: Replica
    started_at: float = 0.0
    serving_since: float | None = None
    """None until its first healthy answer since it was started."""
    url: str | None = None
    healthy_at: float = 0.0
    """Time of the last healthy answer, by the monotonic clock."""
    failures: int = 0
    """Deaths in a row."""
    running: bool = False


class Fleet:
    """Replicas of one model.

    A replica that dies is started again, up to `restarts` times in a row; not before any replica has served, since what
    stops the very first start (a wrong option, too little memory) would stop the next one too.
    """

    def __init__(
        self,
        replicas: Sequence[Replica],
        restarts: int,
        start_timeout: float,
        on_change: Callable[[tuple[str, ...]], None] | None = None,
    ) -> None:
        self._watched = [_Watched(replica) for replica in replicas]
        self._restarts = restarts
        self._start_timeout = start_timeout
        self._on_change = on_change
        self._reported_urls: tuple[str, ...] = ()
        self._any_served = False
        self._last_words = ""
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="fleet", daemon=True)
        self._workers = ThreadPoolExecutor(min(32, max(1, len(replicas))), thread_name_prefix="replica")

    def start(self) -> None:
        """Start all replicas and the watch; returns at once."""
        for watched in self._watched:
            watched.replica.start()
            watched.started_at = time.monotonic()
            watched.running = True
        self._watcher.start()

    def urls(self) -> tuple[str, ...]:
        """Addresses of the replicas that serve now."""
        return tuple(w.url for w in self._watched if w.serving_since is not None and w.url is not None)

    @property
    def size(self) -> int:
        return len(self._watched)

    @property
    def alive(self) -> bool:
        """Whether any replica runs or will be started again."""
        return any(w.running or self._may_restart(w) for w in self._watched)

    def last_words(self) -> str:
        """Why the replica that died last did."""
        return self._last_words or "it said nothing"

    def stop(self) -> None:
        """Stop all replicas at once; blocks until they are gone."""
        self._stopping.set()
        if self._watcher.is_alive():
            self._watcher.join(_ANSWER_TIMEOUT + _TICK)
        with ThreadPoolExecutor(max(1, len(self._watched))) as pool:  # a worker of the watch may hang in a health check
            list(pool.map(lambda w: w.replica.stop(), self._watched))
        self._workers.shutdown(wait=False, cancel_futures=True)
        for watched in self._watched:
            watched.running = False
            watched.serving_since = None

    def _watch(self) -> None:
        while not self._stopping.wait(_TICK):
            list(self._workers.map(self._check, self._watched))
            urls = self.urls()
            if urls != self._reported_urls and not self._stopping.is_set():
                self._reported_urls = urls
                if self._on_change:
                    self._on_change(urls)

    def _check(self, watched: _Watched) -> None:
        if self._stopping.is_set():
            return
        now = time.monotonic()
        if not watched.running:
            if self._may_restart(watched):
                self._restart(watched)
        elif not watched.replica.alive:
            self._died(watched, watched.replica.last_words())
        elif (url := watched.replica.url) is not None and healthy(url):
            self._serves(watched, url)
        elif watched.serving_since is None and now - watched.started_at > self._start_timeout:
            self._died(watched, f"not ready after {self._start_timeout:g} s: {watched.replica.last_words()}")
        elif watched.serving_since is not None and now - watched.healthy_at > _HUNG:
            self._died(watched, f"no healthy answer for {_HUNG:g} s: {watched.replica.last_words()}")

    def _restart(self, watched: _Watched) -> None:
        LOG.warning("%s is started again (%d of %d)", watched.replica.name, watched.failures, self._restarts)
        watched.started_at = time.monotonic()
        watched.running = True
        try:
            watched.replica.start()
        except DistillError as error:  # a full disk, a lost cluster: counts as one more death
            self._died(watched, error.message)

    def _serves(self, watched: _Watched, url: str) -> None:
        watched.healthy_at = time.monotonic()
        watched.url = url
        if watched.serving_since is None:
            startup = duration(watched.healthy_at - watched.started_at)
            LOG.info("%s serves at %s, ready after %s", watched.replica.name, url, startup)
            watched.serving_since = watched.healthy_at
            self._any_served = True
        elif watched.healthy_at - watched.serving_since > _STEADY:
            watched.failures = 0

    def _died(self, watched: _Watched, reason: str) -> None:
        watched.serving_since = None
        watched.failures += 1
        self._last_words = reason
        LOG.warning("%s died: %s", watched.replica.name, reason)
        watched.replica.stop()  # its process group may outlive it
        watched.running = False
        if self._any_served and not self._may_restart(watched):
            LOG.warning("%s is given up after %d failures in a row", watched.replica.name, watched.failures)

    def _may_restart(self, watched: _Watched) -> bool:
        if watched.running or self._stopping.is_set():
            return False
        return self._any_served and watched.failures <= self._restarts


def healthy(url: str) -> bool:
    """Whether the server at `url` says that it is ready; never through a proxy."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"{url}/health", timeout=_ANSWER_TIMEOUT) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError, ValueError):
        return False
