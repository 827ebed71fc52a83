"""A judge model behind an OpenAI-compatible endpoint: many questions at once, each asked once and then kept on disk."""

from __future__ import annotations

import asyncio
import atexit
import itertools
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

from distill.endpoints.addresses import checked_address
from distill.endpoints.failures import RequestFailure
from distill.endpoints.http import Gateway, allow_sockets
from distill.errors import BackendError, RunError
from distill.judges.endpoint import Chat, Reply
from distill.judges.questions import LONGEST_PREDICTION, Question
from distill.models.request import Refused
from distill.progress import LOG
from distill.store import jsonl
from distill.types import Outcome, Record, content_id

K = TypeVar("K")

_MAX_COUNTED_FAILURES = 6  # failures of one question while others are answered, after which it is given up
_FIRST_CONTACT_SECONDS = 10.0  # seconds for which a server that was never reached is tried
_FIRST_PAUSE_SECONDS = 0.5  # seconds before the second attempt; doubles six times
_MAX_LOGS = 1000  # processes that may share one cache


class Config(Gateway):
    endpoint: str
    """Address of an OpenAI-compatible server, such as `http://node1:8000`."""
    model: str
    """The judge's name at that server."""
    temperature: float = Field(0.0, ge=0)
    max_tokens: int = Field(4096, ge=16)
    """Budget of a reply, its reasoning included."""
    extra: dict[str, Any] = {}
    """Further fields of the request, as the server knows them; null leaves one out (`max_tokens: null`)."""
    concurrency: int = Field(64, ge=1)
    """Questions in flight."""
    timeout: float = Field(1800, gt=0)
    """Seconds that one reply may take."""
    patience: float = Field(600, gt=0)
    """Seconds to keep trying while nothing is answered; a server that was never reached gets at most 10."""

    @field_validator("endpoint")
    @classmethod
    def _checked_endpoint(cls, endpoint: str) -> str:
        return checked_address(endpoint)


class CachedVerdict(Record):
    """One line of the cache: a verdict, the question that it answers, and all that the judge said."""

    key: str
    model: str
    outcome: Outcome
    question: Question
    replies: tuple[str, ...]


class JudgeClient:
    """A judge model. One background thread talks to the server, so that any thread or event loop can ask.

    Args:
        cache: a log that verdicts are kept in and read from. Processes that use it at the same time write logs of
            their own beside it (`judge.1.jsonl`, …), which later ones read too.
    """

    def __init__(self, config: Config, cache: Path | None = None) -> None:
        self.config = config
        self.cache = cache
        fields = {"model": config.model, "temperature": config.temperature, "max_tokens": config.max_tokens}
        self._request_fields = {key: value for key, value in (fields | config.extra).items() if value is not None}
        self._lock = threading.Lock()
        self._connection: _Connection | None = None

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
        remaining = iter(questions)
        tags: dict[Future[Outcome], K] = {}
        done: queue.SimpleQueue[Future[Outcome]] = queue.SimpleQueue()
        try:
            while True:
                for tag, question in itertools.islice(remaining, 2 * self.config.concurrency - len(tags)):
                    future = self._submit(question)
                    tags[future] = tag
                    future.add_done_callback(done.put)
                if not tags:
                    return
                future = done.get()
                yield tags.pop(future), future.result()
        finally:
            for future in tags:
                future.cancel()

    def close(self) -> None:
        """End the thread and its connections; the judge can be asked again later."""
        with self._lock:
            connection = self._connection
            self._connection = None
        if connection and connection.pid == os.getpid():
            connection.close()

    def _submit(self, question: Question) -> Future[Outcome]:
        with self._lock:
            if self._connection is None or self._connection.pid != os.getpid():  # threads do not survive a fork
                self._connection = _Connection(self.config, self._request_fields, self.cache)
            return asyncio.run_coroutine_threadsafe(self._connection.rule(question), self._connection.loop)


_SHARED: dict[str, JudgeClient] = {}


def shared_judge(config: Config, cache: Path | None = None) -> JudgeClient:
    """The one judge of this process for equal settings: a thread and a cache each would be waste."""
    key = content_id(config.model_dump(mode="json"), str(cache))
    if key not in _SHARED:
        _SHARED[key] = JudgeClient(config, cache)
        atexit.register(_SHARED[key].close)
    return _SHARED[key]


class _Connection:
    """What an open judge holds: a thread with its event loop, the connections, the cache."""

    def __init__(self, config: Config, request_fields: dict[str, Any], cache: Path | None) -> None:
        allow_sockets(config.concurrency)
        self.pid = os.getpid()
        self._config = config
        self._request_fields = request_fields
        self._chat: Chat | None = None
        self._cache = _Cache(cache) if cache else None
        self._pending: dict[str, tuple[asyncio.Task[Outcome], set[object]]] = {}
        """Questions being asked, by their cache key, and who waits for each."""
        self._slots = asyncio.Semaphore(config.concurrency)
        self._last_success = 0.0
        self._last_warning = -60.0
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="judge", daemon=True)
        self._thread.start()

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._shut_down(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    async def _shut_down(self) -> None:
        tasks = [task for task, _ in self._pending.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._chat:
            await self._chat.close()
        if self._cache:
            self._cache.close()

    async def rule(self, question: Question) -> Outcome:
        """The verdict from the cache, from whoever asks the same just now, or from the server."""
        if question.rubric and len(question.prediction) > LONGEST_PREDICTION:
            return Outcome(passed=None, reason="too_long", detail=f"{len(question.prediction):,} characters")
        # the second prompt holds the first, so a change of any wording makes another key
        key = content_id("judge", self._request_fields, question.prompt(is_retry=True))
        if self._cache and (cached := self._cache.get(key)):
            return self._verdict_for(question, cached)
        if key not in self._pending:
            self._pending[key] = asyncio.ensure_future(self._decide(key, question)), set()
        task, waiters = self._pending[key]
        waiter = object()
        waiters.add(waiter)
        try:
            return self._verdict_for(question, await asyncio.shield(task))
        finally:
            waiters.discard(waiter)
            if not waiters:
                task.cancel()  # if it still runs, whoever asked has given up
                del self._pending[key]

    async def _decide(self, key: str, question: Question) -> Outcome:
        """Ask, and once more after a reply without a verdict."""
        replies: list[str] = []
        for is_retry in (False, True):
            async with self._slots:
                reply = await self._ask(question.prompt(is_retry))
            if isinstance(reply, Outcome):
                return reply
            replies.append(reply.text)
            verdict = question.parse_reply(reply.text) if reply.complete else None
            if verdict:
                break
        outcome = verdict or Outcome(passed=None, reason="no_verdict")
        if self._cache:
            self._cache.add(
                CachedVerdict(
                    key=key, model=self._config.model, outcome=outcome, question=question, replies=tuple(replies)
                )
            )
        return outcome

    def _verdict_for(self, question: Question, outcome: Outcome) -> Outcome:
        """The verdict as this question's threshold has it, and who gave it."""
        if outcome.detail:  # there was no reply
            return outcome
        if question.threshold is not None and outcome.score is not None:
            statement = f"scores {outcome.score:g}"
            outcome = question.decide(outcome.score)
        else:
            statement = {True: "right", False: "wrong", None: "no verdict"}[outcome.passed]
        return outcome.model_copy(update={"detail": f"judge {self._config.model}: {statement}"})

    async def _ask(self, prompt: str) -> Reply | Outcome:
        """The reply, after as many attempts as it takes; an outcome if there will never be one."""
        config = self._config
        first_failure = 0.0
        counted_failures = 0
        for retries in itertools.count():
            try:
                self._chat = self._chat or Chat(config.endpoint, config, self._request_fields, config.timeout)
                reply = await self._chat.reply(prompt)
            except Refused as refused:
                return Outcome(passed=None, reason="judge_refused", detail=str(refused))
            except RequestFailure as failure:
                now = time.monotonic()
                first_failure = first_failure or now
                counted_failures += failure.blames_request
                if counted_failures >= _MAX_COUNTED_FAILURES and self._last_success > first_failure:
                    return Outcome(passed=None, reason="judge_failed", detail=f"at last it {failure}"[:200])
                self._check_patience(failure, now - max(first_failure, self._last_success))
                pause = _FIRST_PAUSE_SECONDS * 2 ** min(retries, 6) * random.uniform(0.5, 1.5)  # noqa: S311
                await asyncio.sleep(max(pause, min(failure.retry_after, config.patience)))
            else:
                self._last_success = time.monotonic()
                return reply
        raise AssertionError

    def _check_patience(self, failure: RequestFailure, waited: float) -> None:
        config = self._config
        no_connection = failure.gone and not failure.busy and not failure.blames_request
        patience = config.patience
        if no_connection and not self._last_success:
            patience = min(patience, _FIRST_CONTACT_SECONDS)
        if waited > patience:
            raise BackendError(
                f"the judge has not worked for {waited:.0f} s; it {failure}",
                where=config.endpoint,
                fix="is it running, and is the address right? Verdicts so far are kept; the same command goes on",
            ) from failure
        if time.monotonic() - self._last_warning >= 60:
            self._last_warning = time.monotonic()
            LOG.warning("judge %s %s; trying again", config.endpoint, failure)


class _Cache:
    """Verdicts by key: in memory without the replies, on disk with them."""

    def __init__(self, path: Path) -> None:
        self._outcomes: dict[str, tuple[bool | None, str, float | None]] = {}  # a million of them fit in memory
        for file in sorted(path.parent.glob(f"{path.stem}*{path.suffix}")):
            for _, row in jsonl.rows(file, on_bad=lambda *_: None):
                with suppress(ValidationError):  # of a damaged or foreign line; at worst a question is asked again
                    self._remember(CachedVerdict.model_validate(row))
        self._log = self._claim_log(path)

    @staticmethod
    def _claim_log(path: Path) -> jsonl.Log:
        """The first log that no other process writes."""
        for number in range(_MAX_LOGS):
            try:
                return jsonl.Log(path.with_suffix(f".{number}{path.suffix}") if number else path)
            except RunError:
                if number + 1 == _MAX_LOGS:
                    raise
        raise AssertionError

    def get(self, key: str) -> Outcome | None:
        if key not in self._outcomes:
            return None
        passed, reason, score = self._outcomes[key]
        return Outcome(passed=passed, reason=reason, score=score)

    def add(self, entry: CachedVerdict) -> None:
        self._log.append(entry)
        self._remember(entry)

    def _remember(self, entry: CachedVerdict) -> None:
        self._outcomes[entry.key] = (entry.outcome.passed, sys.intern(entry.outcome.reason), entry.outcome.score)

    def close(self) -> None:
        self._log.close()
