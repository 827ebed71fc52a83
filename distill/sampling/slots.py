"""The slots of an engine: each samples one attempt after another until nothing is left that could still be wanted."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from distill.backends import Backend
from distill.filters.repetition import ends_in_loop
from distill.models.chat import Prompt
from distill.models.request import Completion, Refused
from distill.sampling.assemble import Assembler
from distill.sampling.grading import Grader
from distill.sampling.live import LiveView
from distill.sampling.plan import SamplingJob
from distill.sampling.queue import Attempt, Queue
from distill.sampling.recorder import Recorder
from distill.sampling.request import RequestBuilder
from distill.types import Outcome, Trace


class Slots:
    """As many requests in flight as the backend bears, fed from the queue."""

    def __init__(
        self,
        job: SamplingJob,
        backend: Backend,
        queue: Queue,
        requests: RequestBuilder,
        assembler: Assembler,
        recorder: Recorder,
        grader: Grader | None,
        live: LiveView,
    ) -> None:
        self._job = job
        self._backend = backend
        self._queue = queue
        self._requests = requests
        self._assembler = assembler
        self._recorder = recorder
        self._grader = grader
        self._live = live
        self._running: dict[tuple[str, int], asyncio.Task[Completion]] = {}
        """Requests in flight by problem id and sample."""
        self._idle: deque[asyncio.Future[Attempt | None]] = deque()

    async def run(self, first_attempt: Attempt) -> None:
        """Work until the queue is empty; one slot begins with `first_attempt`, which was taken already."""
        async with asyncio.TaskGroup() as self._group:
            for number in range(self._backend.concurrency):
                self._group.create_task(self._work(first_attempt if number == 0 else None))

    async def _work(self, attempt: Attempt | None) -> None:
        """One slot: samples one attempt after another until nothing is left that could still be wanted."""
        while attempt := attempt or await self._next_attempt():
            await self._attempt(attempt)
            self._live.update(self._backend, len(self._running))
            attempt = None

    async def _next_attempt(self) -> Attempt | None:
        """What to do next, as soon as there is something; None at the end."""
        attempt = self._queue.take()
        self._settle()
        if attempt or self._queue.exhausted:
            return attempt
        waiting: asyncio.Future[Attempt | None] = asyncio.get_running_loop().create_future()
        self._idle.append(waiting)
        return await waiting

    def _wake(self) -> None:
        """Give the slots that found nothing what there is now, and no slot a look in vain: there may be thousands."""
        while self._idle and ((attempt := self._queue.take()) or self._queue.exhausted):
            waiting = self._idle.popleft()
            if not waiting.done():
                waiting.set_result(attempt)
        self._settle()

    async def _attempt(self, attempt: Attempt) -> None:
        if attempt.only_grade and attempt.trace_so_far:
            return await self._judge(attempt, attempt.trace_so_far, 0)
        prompt = self._requests.prompt(attempt.problem)
        request = self._requests.request(attempt, prompt)
        key = (attempt.problem.id, attempt.sample)
        began = time.monotonic()
        task = asyncio.ensure_future(self._backend.complete(request))
        self._running[key] = task
        try:
            completion = await task
        except Refused as refusal:
            self._recorder.refused(attempt, refusal)
            self._end(attempt, False)
            return
        except asyncio.CancelledError:
            slot = asyncio.current_task()
            if slot is None or slot.cancelling():  # the whole loop ends, not this sample alone
                task.cancel()
                raise
            self._recorder.cancelled(attempt, time.monotonic() - began)
            self._queue.cancelled()
            self._wake()
            return
        finally:
            del self._running[key]
        self._take_reply(attempt, prompt, completion)

    def _take_reply(self, attempt: Attempt, prompt: Prompt, completion: Completion) -> None:
        """Record what came of a request: the attempt is continued, graded or over."""
        used = len(prompt.ids) + completion.tokens
        if attempt.trace_so_far:
            used += attempt.trace_so_far.usage.completion
        full = used >= self._job.model.context
        trace = self._assembler.trace(attempt, prompt, completion, self._backend.engine, full)
        unfinished = trace.finish == "length" and not full and trace.usage.completion < self._job.token_budgets[-1]
        if unfinished and ends_in_loop(trace.text):
            trace = trace.model_copy(update={"finish": "repetition"})
            unfinished = False
        self._recorder.replied(attempt, trace, completion, completion.prompt_tokens or used - completion.tokens)
        if unfinished and trace.completion_ids is not None:
            self._recorder.continued()
            self._queue.put_back(Attempt(attempt.id, attempt.open_problem, attempt.sample, trace))
            self._wake()
        elif self._grader:
            # in a task of its own: this slot asks on meanwhile
            self._group.create_task(self._judge(attempt, trace, completion.tokens))
        else:
            fate = "cut" if trace.finish == "length" else "ungraded"
            self._end(attempt, False, trace, fate)

    async def _judge(self, attempt: Attempt, trace: Trace, tokens: int) -> None:
        assert self._grader
        outcome = await self._grader.grade(attempt.problem, trace)
        self._recorder.graded(attempt, trace, outcome)
        self._end(attempt, outcome.passed is True, trace if tokens else None, _fate(trace, outcome))

    def _end(self, attempt: Attempt, correct: bool, trace: Trace | None = None, fate: str = "") -> None:
        """An attempt has its outcome; those of its siblings that count no more are cancelled."""
        if trace is not None:
            self._recorder.spent(attempt, trace, fate)
        for sample in self._queue.finish_attempt(attempt, correct):
            running = self._running.get((attempt.problem.id, sample))
            if running:
                running.cancel()
        self._settle()
        self._wake()

    def _settle(self) -> None:
        for open_problem in self._queue.ended_problems:
            self._requests.forget(open_problem.problem)
        self._recorder.settle(self._queue)


def _fate(trace: Trace, outcome: Outcome) -> str:
    """What a graded trace's tokens went to, as the tally names it."""
    if outcome.passed:
        return "correct"
    if outcome.passed is None:
        return "undecided"
    return {"length": "cut", "repetition": "loop"}.get(trace.finish, "wrong")
