"""A judge model behind a chat API: many questions at once, each asked once and then kept on disk.

The API is asked through the backend `chat`, so that a judge is waited for, retried, paced and let in as a teacher is.
"""

from __future__ import annotations

import asyncio
import atexit
import itertools
import os
import queue
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field, JsonValue, ValidationError, field_validator

from distill.backends import Backend, chat
from distill.endpoints.addresses import checked_address
from distill.endpoints.http import Gateway
from distill.errors import DistillError, RunError
from distill.judges.questions import LONGEST_PREDICTION, Question
from distill.models.model import Model
from distill.models.reasoning import Tags
from distill.models.request import GivenUp, Refused, Request
from distill.store import jsonl
from distill.types import NO_RESULT, Message, Outcome, Record, Sampling, content_id

K = TypeVar("K")

_MAX_LOGS = 1000  # processes that may share one cache


class Config(Gateway):
    endpoint: Annotated[str, NO_RESULT]
    """Address of an OpenAI-compatible server, such as `http://node1:8000`."""
    model: str
    """Name of the judge at its server."""
    temperature: float = Field(0.0, ge=0)
    """Sampling temperature of the judge, 0 for the most likely token each time."""
    max_tokens: int = Field(4096, ge=16)
    """Most tokens of a reply, its reasoning included."""
    extra: dict[str, JsonValue] = {}
    """Fields of the request besides the usual ones, as the server knows them; null leaves one out (`max_tokens:
    null`)."""
    concurrency: Annotated[int, NO_RESULT] = Field(64, ge=1)
    """Most questions in flight."""
    requests_per_minute: Annotated[int | None, NO_RESULT] = Field(None, ge=1)
    """Requests per minute that the server allows; None goes by its replies."""
    tokens_per_minute: Annotated[int | None, NO_RESULT] = Field(None, ge=1)
    """Tokens per minute that the server allows, prompt and reply together; None goes by its replies."""
    stream: Annotated[bool, NO_RESULT] = True
    """Whether the reply is taken piece by piece."""
    silence: Annotated[float, NO_RESULT] = Field(600, gt=0)
    """Seconds that may pass without a byte of a stream before it counts as lost."""
    timeout: Annotated[float, NO_RESULT] = Field(1800, gt=0)
    """Seconds that one reply may take."""
    patience: Annotated[float, NO_RESULT] = Field(600, gt=0)
    """Seconds to keep trying while nothing is answered; a server that cannot be reached at first is not waited for."""

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
        fields: dict[str, JsonValue] = config.model_dump(include={"model", "temperature", "max_tokens"}) | config.extra
        self._request_fields = {key: value for key, value in fields.items() if value is not None}
        """What a verdict in the cache depends on besides the question."""
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
    """What an open judge holds: a thread with its event loop, the API, the cache."""

    def __init__(self, config: Config, request_fields: Mapping[str, JsonValue], cache: Path | None) -> None:
        self.pid = os.getpid()
        self._config = config
        self._request_fields = request_fields
        self._opening: asyncio.Task[Backend] | None = None
        self._cache = _Cache(cache) if cache else None
        self._pending: dict[str, tuple[asyncio.Task[Outcome], set[object]]] = {}
        """Questions being asked, by their cache key, and who waits for each."""
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
        if self._opening:
            with suppress(DistillError):  # it was told to those who asked
                await (await self._opening).close()
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
            try:
                reply = await (await self._api()).complete(self._request(key, question.prompt(is_retry)))
            except GivenUp as failure:
                return Outcome(passed=None, reason="judge_failed", detail=str(failure)[:200])
            except Refused as refused:
                return Outcome(passed=None, reason="judge_refused", detail=str(refused))
            text = _answer_of(reply.text)
            replies.append(text)
            verdict = question.parse_reply(text) if reply.finish == "stop" else None
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

    async def _api(self) -> Backend:
        """The opened API; whoever comes first opens it, and after a failure the next one tries again."""
        if self._opening is None or (self._opening.done() and self._opening.exception()):
            self._opening = asyncio.ensure_future(_opened(self._config))
        return await asyncio.shield(self._opening)

    def _request(self, key: str, prompt: str) -> Request:
        config = self._config
        sampling = Sampling(temperature=config.temperature, max_tokens=config.max_tokens)
        messages = (Message(role="user", content=prompt),)
        return Request(id=key, ids=(), messages=messages, sampling=sampling, seed=0)


async def _opened(config: Config) -> Backend:
    """The chat backend that speaks to the judge.

    Raises:
        BackendError: it cannot be reached.
        InputError: it serves other models, or a variable that the settings name is not set.
    """
    shared_settings = config.model_dump(include=chat.Config.model_fields.keys() - {"extra"})
    # what the judge was never told is left to its server: a seed, and top_p
    extra = {"top_p": None, "seed": None, **config.extra}
    settings = chat.Config(base_url=f"{config.endpoint}/v1", extra=extra, **shared_settings)
    backend = chat.build(settings, Model(name=config.model, path="", context=config.max_tokens), Path())
    await backend.open()
    return backend


def _answer_of(text: str) -> str:
    """What a judge says after its reasoning; a verdict within the reasoning is none."""
    tags = Tags()
    if text.lstrip().startswith(tags.open) and tags.close not in text:
        return ""
    return text.rpartition(tags.close)[2]


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
