"""A judge model behind an OpenAI-compatible endpoint: many questions at once, each asked once and then kept on disk."""

from __future__ import annotations

import asyncio
import atexit
import itertools
import logging
import os
import queue
import random
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError, field_validator

from distill.backends import Refused
from distill.endpoints.addresses import address
from distill.endpoints.failures import Failure
from distill.endpoints.http import Gateway, allow_sockets
from distill.errors import BackendError, RunError
from distill.judges.endpoint import Chat, Reply
from distill.judges.questions import LONGEST, Question
from distill.store import jsonl
from distill.types import Outcome, Record, content_id

K = TypeVar("K")

_ATTEMPTS = 6  # failures of one question while others are answered, after which it is given up
_FIRST = 10.0  # seconds for which a server that was never reached is tried
_PAUSE = 0.5  # seconds before the second attempt; doubles six times
_LOGS = 1000  # processes that may share one cache


class Config(Gateway):
    endpoint: str
    """Address of an OpenAI-compatible server, such as `http://node1:8000`."""
    model: str
    """The judge's name there."""
    temperature: float = Field(0.0, ge=0)
    max_tokens: int = Field(4096, ge=16)
    """Budget of a reply, its reasoning included."""
    extra: dict[str, Any] = {}
    """More fields of the request, as the server knows them; null leaves one out (`max_tokens: null`)."""
    concurrency: int = Field(64, ge=1)
    """Questions in flight."""
    timeout: float = Field(1800, gt=0)
    """Seconds that one reply may take."""
    patience: float = Field(600, gt=0)
    """Seconds to keep trying while nothing is answered; a server that was never reached gets at most 10."""

    @field_validator("endpoint")
    @classmethod
    def _address(cls, given: str) -> str:
        return address(given)


class Entry(Record):
    """One line of the cache: a verdict, what it was about, and all that the judge said."""

    key: str
    model: str
    outcome: Outcome
    question: Question
    replies: tuple[str, ...]


class Judge:
    """A judge model. One background thread talks to the server, so that any thread or event loop can ask.

    Args:
        cache: a log that verdicts are kept in and read from. Processes that use it at the same time write logs of
            their own beside it (`judge.1.jsonl`, …), which later ones read too.
    """

    def __init__(self, config: Config, cache: Path | None = None) -> None:
        self.config, self.cache = config, cache
        self._body = {"model": config.model, "temperature": config.temperature, "max_tokens": config.max_tokens}
        self._body = {name: value for name, value in (self._body | config.extra).items() if value is not None}
        self._lock = threading.Lock()
        self._line: _Line | None = None

    def rule(self, question: Question) -> Outcome:
        """The verdict on one prediction; waits for it.

        Raises:
            BackendError: the server cannot be reached, does not let us in, or has not worked for `patience` seconds.
            InputError: an environment variable that the settings name is not set.
        """
        return self._submit(question).result()

    def stream(self, questions: Iterable[tuple[K, Question]]) -> Iterator[tuple[K, Outcome]]:
        """(tag, verdict) of many tagged questions at once, in the order of the verdicts.

        Questions are drawn as they are needed; whoever closes the iterator takes back what is not answered. Raises as
        `rule` does.
        """
        feed = iter(questions)
        asked: dict[Future[Outcome], K] = {}
        done: queue.SimpleQueue[Future[Outcome]] = queue.SimpleQueue()
        try:
            while True:
                for tag, question in itertools.islice(feed, 2 * self.config.concurrency - len(asked)):
                    future = self._submit(question)
                    asked[future] = tag
                    future.add_done_callback(done.put)
                if not asked:
                    return
                future = done.get()
                yield asked.pop(future), future.result()
        finally:
            for future in asked:
                future.cancel()

    def close(self) -> None:
        """End the thread and its connections; the judge can be asked again later."""
        with self._lock:
            line, self._line = self._line, None
        if line and line.pid == os.getpid():
            line.close()

    def _submit(self, question: Question) -> Future[Outcome]:
        with self._lock:
            if self._line is None or self._line.pid != os.getpid():  # threads do not survive a fork
                self._line = _Line(self.config, self._body, self.cache)
            return asyncio.run_coroutine_threadsafe(self._line.rule(question), self._line.loop)


_SHARED: dict[str, Judge] = {}


def shared(config: Config, cache: Path | None = None) -> Judge:
    """The one judge of this process for equal settings: a thread and a cache each would be waste."""
    key = content_id(config.model_dump(mode="json"), str(cache))
    if key not in _SHARED:
        _SHARED[key] = Judge(config, cache)
        atexit.register(_SHARED[key].close)
    return _SHARED[key]


class _Line:
    """What an open judge holds: a thread with its event loop, the connections, the cache."""

    def __init__(self, config: Config, body: dict[str, Any], cache: Path | None) -> None:
        allow_sockets(config.concurrency)
        self.pid = os.getpid()
        self._config, self._body = config, body
        self._chat: Chat | None = None
        self._cache = _Cache(cache) if cache else None
        self._open: dict[str, tuple[asyncio.Task[Outcome], set[object]]] = {}
        """What is being asked, and who waits for it."""
        self._slots = asyncio.Semaphore(config.concurrency)
        self._success = 0.0
        self._warned = -60.0
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="judge", daemon=True)
        self._thread.start()

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._shut(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    async def _shut(self) -> None:
        for task in (tasks := [task for task, _ in self._open.values()]):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._chat:
            await self._chat.close()
        if self._cache:
            self._cache.close()

    async def rule(self, question: Question) -> Outcome:
        """From the cache, from whoever asks the same just now, or from the server."""
        if question.rubric and len(question.prediction) > LONGEST:
            return Outcome(passed=None, reason="too_long", detail=f"{len(question.prediction):,} characters")
        # the second prompt holds the first, so a change of any wording makes another key
        key = content_id("judge", self._body, question.prompt(again=True))
        if self._cache and (known := self._cache.get(key)):
            return self._word(question, known)
        if key not in self._open:
            self._open[key] = asyncio.ensure_future(self._decide(key, question)), set()
        task, waiting = self._open[key]
        waiting.add(me := object())
        try:
            return self._word(question, await asyncio.shield(task))
        finally:
            waiting.discard(me)
            if not waiting:
                task.cancel()  # if it still runs, whoever asked has given up
                del self._open[key]

    async def _decide(self, key: str, question: Question) -> Outcome:
        """Ask, and once more after a reply without a verdict."""
        replies: list[str] = []
        for again in (False, True):
            async with self._slots:
                said = await self._ask(question.prompt(again))
            if isinstance(said, Outcome):
                return said
            replies.append(said.text)
            if found := question.read(said.text) if said.whole else None:
                break
        ruling = found or Outcome(passed=None, reason="no_verdict")
        if self._cache:
            self._cache.add(
                Entry(key=key, model=self._config.model, outcome=ruling, question=question, replies=tuple(replies))
            )
        return ruling

    def _word(self, question: Question, ruling: Outcome) -> Outcome:
        """The verdict as this question's threshold has it, and who gave it."""
        if ruling.detail:  # there was no reply
            return ruling
        if question.threshold is not None and ruling.score is not None:
            ruling, said = question.decide(ruling.score), f"scores {ruling.score:g}"
        else:
            said = {True: "right", False: "wrong", None: "no verdict"}[ruling.passed]
        return ruling.model_copy(update={"detail": f"judge {self._config.model}: {said}"})

    async def _ask(self, text: str) -> Reply | Outcome:
        """The reply, after as many attempts as it takes; an outcome if there will never be one."""
        config, first, counted = self._config, 0.0, 0
        for attempt in itertools.count():
            try:
                self._chat = self._chat or Chat(config.endpoint, config, self._body, config.timeout)
                said = await self._chat.reply(text)
            except Refused as refused:
                return Outcome(passed=None, reason="judge_refused", detail=str(refused))
            except Failure as failure:
                now = time.monotonic()
                first = first or now
                counted += failure.counts
                if counted >= _ATTEMPTS and self._success > first:
                    return Outcome(passed=None, reason="judge_failed", detail=f"at last it {failure}"[:200])
                self._lose_patience(failure, now - max(first, self._success))
                wait = _PAUSE * 2 ** min(attempt, 6) * random.uniform(0.5, 1.5)  # noqa: S311
                await asyncio.sleep(max(wait, min(failure.after, config.patience)))
            else:
                self._success = time.monotonic()
                return said
        raise AssertionError

    def _lose_patience(self, failure: Failure, waited: float) -> None:
        config = self._config
        never = not self._success and failure.gone and not failure.busy and not failure.counts  # no connection
        if waited > (min(config.patience, _FIRST) if never else config.patience):
            raise BackendError(
                f"the judge has not worked for {waited:.0f} s; it {failure}",
                where=config.endpoint,
                fix="is it running, and is the address right? Verdicts so far are kept; the same command goes on",
            ) from failure
        if time.monotonic() - self._warned >= 60:
            self._warned = time.monotonic()
            logging.getLogger(__name__).warning("judge %s %s; trying again", config.endpoint, failure)


class _Cache:
    """Verdicts by key: in memory without the replies, on disk with them."""

    def __init__(self, path: Path) -> None:
        self._known: dict[str, tuple[bool | None, str, float | None]] = {}  # a million of them fit in memory
        for file in sorted(path.parent.glob(f"{path.stem}*{path.suffix}")):
            for _, row in jsonl.rows(file, on_bad=lambda *_: None):
                with suppress(ValidationError):  # of a damaged or foreign line; at worst a question is asked again
                    self._keep(Entry.model_validate(row))
        self._log = self._claim(path)

    @staticmethod
    def _claim(path: Path) -> jsonl.Log:
        """The first log that no other process writes."""
        for number in range(_LOGS):
            try:
                return jsonl.Log(path.with_suffix(f".{number}{path.suffix}") if number else path)
            except RunError:
                if number + 1 == _LOGS:
                    raise
        raise AssertionError

    def get(self, key: str) -> Outcome | None:
        if key not in self._known:
            return None
        passed, reason, score = self._known[key]
        return Outcome(passed=passed, reason=reason, score=score)

    def add(self, entry: Entry) -> None:
        self._log.append(entry)
        self._keep(entry)

    def _keep(self, entry: Entry) -> None:
        self._known[entry.key] = (entry.outcome.passed, sys.intern(entry.outcome.reason), entry.outcome.score)

    def close(self) -> None:
        self._log.close()
