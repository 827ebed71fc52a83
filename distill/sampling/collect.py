"""The sampling loop: every sample that the rule wants and the log lacks is asked for and appended as it finishes."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from distill import plugins
from distill.backends import Backend, Completion, Refused, Request
from distill.errors import DistillError, InputError, RunError
from distill.filters.repetition import ends_in_loop
from distill.machine.garbage import seldom_collected
from distill.machine.termination import until_terminated
from distill.models.chat import Prompt, Tokenizer
from distill.progress import EVERY_SECONDS, LOG, Progress
from distill.sampling.assemble import Assembler
from distill.sampling.grading import Grader
from distill.sampling.history import Censored, Failure, Grade, History, Logs, Rate, gold_of
from distill.sampling.plan import Wanted
from distill.sampling.preflight import preflight
from distill.sampling.queue import Attempt, Entry, Identity, Queue
from distill.sampling.schedule import pass_rate
from distill.sampling.tally import Tally
from distill.sampling.writers import Writers
from distill.types import Problem, Trace, content_id


def collect(wanted: Wanted, logs: Logs, progress: Progress, label: str) -> Tally:
    """Sample what is missing from the log. Starts no engine when nothing is.

    Raises:
        InputError, BackendError: from the backend; traces that finished are in the log.
        RunError: every single request was refused.
        Stopped: SIGTERM came; everything finished is in the log.
    """
    tokenizer = Tokenizer(wanted.model.path, wanted.model.revision, wanted.model.template)
    loop = _Loop(wanted, logs, tokenizer, progress, label)
    try:
        with seldom_collected():
            asyncio.run(loop.run())
    except BaseExceptionGroup as group:
        raise _first(group) from group
    finally:
        progress.stop()
    tally = loop.tally
    if tally.failed and not tally.sampled:
        raise RunError(
            f"the engine refused all {tally.failed} requests", where=str(logs.failures), fix="read the reasons there"
        )
    return tally


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to show of a task group: ours before others."""
    ours, others = group.split(DistillError)
    chosen: BaseException = ours or others or group
    while isinstance(chosen, BaseExceptionGroup):
        chosen = chosen.exceptions[0]
    return chosen


class _Loop:
    def __init__(self, wanted: Wanted, logs: Logs, tokenizer: Tokenizer, progress: Progress, label: str) -> None:
        self._wanted, self._logs, self._tokenizer = wanted, logs, tokenizer
        self._progress, self._label = progress, label
        model = wanted.model
        self._identity = Identity(model.name, model.revision, tokenizer.template_hash, wanted.sampling)
        self._assembler = Assembler(model, tokenizer, self._identity)
        self.tally = Tally()
        self._running: dict[tuple[str, int], asyncio.Task[Completion]] = {}
        self._prompts: dict[str, Prompt] = {}
        self._told = self._reported = 0.0

    async def run(self) -> None:
        wanted, logs = self._wanted, self._logs
        backend: Backend = plugins.build("backends", wanted.backend, wanted.model, logs.traces.parent, where="backend")
        self._takes_ids = getattr(backend, "takes_ids", True)
        if len(wanted.ends) > 1 and not self._takes_ids:
            raise InputError("this backend cannot continue a cut trace", where="budgets", fix="give one budget only")
        history = History(logs)
        if wanted.retry_failed:
            history.failed.clear()
        self._rates = history.rates
        self.tally.found_tokens = sum(known.tokens for known in history.known.values())
        self._queue = Queue(
            wanted.problems,
            self._identity,
            wanted.rule,
            history,
            graded=wanted.graded,
            budget=wanted.ends[-1],
            continues=self._takes_ids,
        )
        self._queue.limit = lambda: int(getattr(backend, "limit", backend.concurrency))
        with Writers(logs) as self._writers:
            first = self._queue.take()
            self._settle()
            self.tally.ended_before = self.tally.problems
            if first is not None:
                LOG.info("%s: %s", self._label, wanted.outline(len(history.known)))
                await self._sample(backend, first)
            self.tally.found = self._queue.found

    async def _sample(self, backend: Backend, first: Attempt) -> None:
        LOG.info("%s: %s gets ready for %s", self._label, self._wanted.backend["kind"], self._wanted.model.name)
        self._idle: deque[asyncio.Future[Attempt | None]] = deque()
        self._grader = Grader() if self._wanted.graded else None
        if self._writers.replies and hasattr(backend, "journal"):
            keep = self._writers.replies.keep
            backend.journal = lambda request, raw: keep(request.id, raw)
        with until_terminated():
            try:
                await backend.open()
                self.tally.engine = backend.engine
                if self._wanted.probed and hasattr(backend, "journal"):  # an engine behind a socket
                    await self._probe(backend, first.problem)
                total = len(self._wanted.problems)
                self._progress.start(self._label, total, self.tally.problems, "problems")
                self.tally.began = time.monotonic()
                async with asyncio.TaskGroup() as self._group:
                    for number in range(backend.concurrency):
                        self._group.create_task(self._work(backend, first if number == 0 else None))
            finally:
                if self._grader:
                    self._grader.close()
                await backend.close()
                if self.tally.sampled:
                    self._wanted.report(self.tally.row(len(self._wanted.problems), 0))

    async def _probe(self, backend: Backend, problem: Problem) -> None:
        """
        Raises:
            InputError: the engine does not sample what it is thought to; says each fix.
        """
        wanted = self._wanted
        sampling = wanted.sampling.model_copy(update={"max_tokens": wanted.ends[-1]})
        advice = wanted.system_prompt
        found = await preflight(backend, wanted.model, sampling, self._tokenizer, problem, system_prompt=advice)
        for finding in found:
            LOG.warning("preflight: %s\n  → %s", finding.what, finding.fix)
        if errors := [finding for finding in found if finding.severity == "error"]:
            raise InputError(
                f"preflight: {'; '.join(finding.what for finding in errors)}",
                fix="; ".join(finding.fix for finding in errors) + " (or --set generate.preflight=false)",
            )

    async def _work(self, backend: Backend, attempt: Attempt | None) -> None:
        """One slot: samples one attempt after another until nothing is left that could still be wanted."""
        while attempt := attempt or await self._next():
            await self._attempt(backend, attempt)
            self._tell(backend)
            attempt = None

    async def _next(self) -> Attempt | None:
        """What to do next, as soon as there is something; None at the end."""
        attempt = self._queue.take()
        self._settle()
        if attempt or self._queue.idle:
            return attempt
        waiting: asyncio.Future[Attempt | None] = asyncio.get_running_loop().create_future()
        self._idle.append(waiting)
        return await waiting

    def _wake(self) -> None:
        """Give the slots that found nothing what there is now, and no slot a look in vain: there may be thousands."""
        while self._idle and ((attempt := self._queue.take()) or self._queue.idle):
            waiting = self._idle.popleft()
            if not waiting.done():
                waiting.set_result(attempt)
        self._settle()

    async def _attempt(self, backend: Backend, attempt: Attempt) -> None:
        if attempt.whole and attempt.before:
            return await self._judge(attempt, attempt.before, 0)
        prompt = self._prompt(attempt.problem)
        request = self._request(attempt, prompt)
        key = (attempt.problem.id, attempt.sample)
        began = time.monotonic()
        task = self._running[key] = asyncio.ensure_future(backend.complete(request))
        try:
            completion = await task
        except Refused as refusal:
            failure = Failure(id=attempt.id, problem_id=key[0], sample=key[1], reason=str(refusal))
            self._writers.failures.append(failure)
            self.tally.failed += 1
            self._over(attempt, False)
            return
        except asyncio.CancelledError:
            slot = asyncio.current_task()
            if slot is None or slot.cancelling():  # the whole loop ends, not this sample alone
                task.cancel()
                raise
            self._cancelled(attempt, time.monotonic() - began)
            return
        finally:
            del self._running[key]
        self._finished(backend, attempt, prompt, completion)

    def _cancelled(self, attempt: Attempt, seconds: float) -> None:
        self.tally.cancelled += 1
        self._queue.cancelled()
        if self._writers.censored:
            row = Censored(
                id=attempt.id, problem_id=attempt.problem.id, sample=attempt.sample, seconds=round(seconds, 3)
            )
            self._writers.censored.append(row)
        self._wake()

    def _finished(self, backend: Backend, attempt: Attempt, prompt: Prompt, completion: Completion) -> None:
        used = len(prompt.ids) + completion.tokens + (attempt.before.usage.completion if attempt.before else 0)
        full = used >= self._wanted.model.context
        trace = self._assembler.trace(attempt, prompt, completion, backend.engine, full)
        more = trace.finish == "length" and not full and trace.usage.completion < self._wanted.ends[-1]
        if more and ends_in_loop(trace.text):
            trace, more = trace.model_copy(update={"finish": "repetition"}), False
        self._writers.traces.append(trace)
        if self._writers.replies:
            self._writers.replies.settle(attempt.id)
        self.tally.spend(completion.prompt_tokens or used - completion.tokens, completion.tokens)
        now = time.monotonic()
        self._wanted.replied(now - completion.seconds, now, completion.tokens)
        if more and trace.completion_ids is not None:
            self.tally.continued += 1
            self._queue.again(Attempt(attempt.id, attempt.entry, attempt.sample, trace))
            self._wake()
        elif self._grader:
            # in a task of its own: this slot asks on meanwhile
            self._group.create_task(self._judge(attempt, trace, completion.tokens))
        else:
            self._over(attempt, False, trace, "cut" if trace.finish == "length" else "ungraded")

    async def _judge(self, attempt: Attempt, trace: Trace, tokens: int) -> None:
        assert self._grader
        outcome = await self._grader.grade(attempt.problem, trace)
        if self._writers.grades:
            self._writers.grades.append(
                Grade(
                    trace_id=trace.id,
                    problem_id=trace.problem_id,
                    sample=trace.sample,
                    passed=outcome.passed,
                    reason=outcome.reason,
                    gold=gold_of(attempt.problem),
                )
            )
        ends = {"length": "cut", "repetition": "loop"}
        fate = {True: "correct", None: "undecided"}.get(outcome.passed) or ends.get(trace.finish, "wrong")
        self._over(attempt, outcome.passed is True, trace if tokens else None, fate)

    def _over(self, attempt: Attempt, correct: bool, trace: Trace | None = None, fate: str = "") -> None:
        """An attempt has its outcome; those of its siblings that count no more are cancelled."""
        if trace is not None:
            surplus = attempt.entry.race.over and attempt.sample >= attempt.entry.race.seen
            fate = "surplus" if surplus else fate
            self.tally.fates[fate] += trace.usage.completion
            attempt.entry.spent[attempt.sample] = (trace.usage.completion, fate)
        for sample in self._queue.done(attempt, correct):
            running = self._running.get((attempt.problem.id, sample))
            if running:
                running.cancel()
        self._settle()
        self._wake()

    def _settle(self) -> None:
        """Write down the problems that ended."""
        for entry in self._queue.ended:
            before = self.tally.problems
            self.tally.end(entry)
            self._prompts.pop(entry.problem.id, None)
            self._rate(entry)
            self._progress.advance(self.tally.problems - before)
        self._queue.ended.clear()

    def _rate(self, entry: Entry) -> None:
        race, id = entry.race, entry.problem.id
        if not (self._writers.rates and self._wanted.graded) or self._rates.get(id) == (race.seen, race.right):
            return
        enough = race.rule.stop_at is not None and race.right >= race.rule.stop_at
        ended = "enough" if enough else "all" if race.seen >= race.rule.samples else "given_up"
        rate = float(pass_rate(race.rule, race.right, race.seen))
        self._writers.rates.append(
            Rate(problem_id=id, samples=race.seen, correct=race.right, pass_rate=rate, ended=ended)
        )

    def _prompt(self, problem: Problem) -> Prompt:
        prompt = self._prompts.get(problem.id)
        if prompt is None:
            prompt = self._tokenizer.prompt(problem.messages, self._wanted.model.tags, problem.tools)
            if not self._takes_ids:  # a chat engine renders by itself and returns the whole turn
                prompt = prompt.model_copy(update={"prefill": ""})
            self._prompts[problem.id] = prompt
        return prompt

    def _request(self, attempt: Attempt, prompt: Prompt) -> Request:
        before = attempt.before
        done = before.usage.completion if before else 0
        end = next((end for end in self._wanted.ends if end > done), self._wanted.ends[-1])
        # content, never a position, seeds a sample: the same attempt has the same seed in any order of problems
        part = len(before.segments) if before else 0
        seed = int(content_id(self._wanted.seed, attempt.id, *([part] if part else []))[:7], 16)
        return Request(
            id=attempt.id,
            ids=self._assembler.so_far(prompt, before),
            sampling=self._wanted.sampling.model_copy(update={"max_tokens": end - done}),
            seed=seed,
            messages=attempt.problem.messages,
            tools=attempt.problem.tools,
            affinity=before.segments[-1].endpoint if before else None,
        )

    def _tell(self, backend: Backend) -> None:
        now = time.monotonic()
        if now - self._told < 0.5:
            return
        self._told = now
        status = backend.status() if hasattr(backend, "status") else {}
        self.tally.engines = max(self.tally.engines, status.get("up", 1))
        total = len(self._wanted.problems)
        self._progress.tell(self.tally.view(total, len(self._running), status, self._wanted.price))
        if now - self._reported >= EVERY_SECONDS:
            self._reported = now
            self._wanted.report(self.tally.row(total, len(self._running)))
