"""The sampling loop: every sample that the rule wants and the log lacks is asked for and appended as it finishes."""

from __future__ import annotations

import asyncio
import time

from distill.backends import Backend
from distill.errors import DistillError, InputError, RunError
from distill.machine.garbage import seldom_collected
from distill.machine.termination import until_terminated
from distill.models.chat import Tokenizer
from distill.progress import LOG, Progress
from distill.sampling.assemble import Assembler
from distill.sampling.grading import Grader
from distill.sampling.history import History, Logs
from distill.sampling.live import LiveView
from distill.sampling.plan import SamplingJob
from distill.sampling.preflight import refuse_misfit
from distill.sampling.queue import Attempt, Identity, Queue
from distill.sampling.recorder import Recorder
from distill.sampling.request import RequestBuilder
from distill.sampling.slots import Slots
from distill.sampling.tally import Tally
from distill.sampling.writers import Writers


def collect(job: SamplingJob, logs: Logs, progress: Progress, label: str) -> Tally:
    """Sample what is missing from the log. Starts no engine when nothing is.

    Raises:
        InputError, BackendError: from the backend; traces that finished are in the log.
        RunError: every single request was refused.
        Stopped: SIGTERM came; everything finished is in the log.
    """
    tokenizer = Tokenizer(job.model.path, job.model.revision, job.model.template)
    collection = _Collection(job, logs, tokenizer, progress, label)
    try:
        with seldom_collected():
            asyncio.run(collection.run())
    except BaseExceptionGroup as group:
        raise _error_to_show(group) from group
    finally:
        progress.stop()
    tally = collection.tally
    if tally.refused and not tally.replies:
        raise RunError(
            f"the engine refused all {tally.refused} requests", where=str(logs.failures), fix="read the reasons there"
        )
    return tally


def _error_to_show(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to show of a task group: ours before others."""
    ours, foreign = group.split(DistillError)
    chosen: BaseException = ours or foreign or group
    while isinstance(chosen, BaseExceptionGroup):
        chosen = chosen.exceptions[0]
    return chosen


class _Collection:
    """Goes on from the logs: says what is missing, opens the engine and has its slots sample it."""

    def __init__(self, job: SamplingJob, logs: Logs, tokenizer: Tokenizer, progress: Progress, label: str) -> None:
        self._job = job
        self._logs = logs
        self._tokenizer = tokenizer
        self._progress = progress
        self._label = label
        model = job.model
        self._backend = job.new_backend(logs.traces.parent)
        self._identity = Identity(
            model.name, model.revision, tokenizer.template_hash, job.sampling, self._backend.steering
        )
        self._assembler = Assembler(model, tokenizer, self._identity)
        self.tally = Tally()

    async def run(self) -> None:
        job = self._job
        logs = self._logs
        backend = self._backend
        if len(job.token_budgets) > 1 and not backend.takes_ids:
            raise InputError("this backend cannot continue a cut trace", where="budgets", fix="give one budget only")
        history = History(logs)
        if job.retry_failed:
            history.failed.clear()
        self.tally.logged_tokens = sum(recorded.tokens for recorded in history.logged.values())
        queue = Queue(
            job.problems,
            self._identity,
            job.rule,
            history,
            graded=job.graded,
            budget=job.token_budgets[-1],
            continues=backend.takes_ids,
        )
        queue.limit = lambda: backend.limit
        with Writers(logs) as writers:
            recorder = Recorder(job, writers, history.rates, self.tally, self._progress)
            first_attempt = queue.take()
            recorder.settle(queue)
            self.tally.problems_before = self.tally.problems
            if first_attempt is not None:
                LOG.info("%s: %s", self._label, job.outline(len(history.logged)))
                requests = RequestBuilder(job, self._tokenizer, self._assembler, backend.takes_ids)
                await self._sample(backend, queue, writers, recorder, requests, first_attempt)
            self.tally.logged_traces = queue.already_done

    async def _sample(
        self,
        backend: Backend,
        queue: Queue,
        writers: Writers,
        recorder: Recorder,
        requests: RequestBuilder,
        first_attempt: Attempt,
    ) -> None:
        job = self._job
        tally = self.tally
        LOG.info("%s: %s gets ready for %s", self._label, job.backend.kind, job.model.name)
        grader = Grader() if job.graded else None
        live = LiveView(job, tally, self._progress)
        slots = Slots(job, backend, queue, requests, self._assembler, recorder, grader, live)
        if writers.replies:
            keep = writers.replies.keep
            backend.journal = lambda request, raw: keep(request.id, raw)
        with until_terminated():
            try:
                await backend.open()
                tally.engine = backend.engine
                if job.preflight and backend.is_remote:
                    await refuse_misfit(backend, job, self._tokenizer, first_attempt.problem)
                self._progress.start(self._label, len(job.problems), tally.problems, "problems")
                tally.began = time.monotonic()
                await slots.run(first_attempt)
            finally:
                if grader:
                    grader.close()
                await backend.close()
                if tally.replies:
                    job.on_metrics(tally.metrics_row(len(job.problems), 0))
