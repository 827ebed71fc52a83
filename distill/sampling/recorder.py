"""What the sampling loop writes down: each reply, grade and refusal as it comes, each problem when it has ended."""

from __future__ import annotations

import time
from collections.abc import Mapping

from distill.models.request import Completion, Refused
from distill.progress import Progress
from distill.sampling.history import Censored, Grade, ProblemPassRate, RefusedAttempt, gold_hash
from distill.sampling.plan import SamplingJob
from distill.sampling.queue import Attempt, OpenProblem, Queue
from distill.sampling.schedule import Race, pass_rate
from distill.sampling.tally import Tally
from distill.sampling.writers import Writers
from distill.types import Outcome, Trace


class Recorder:
    """Appends to the logs, counts in the tally and moves the progress bar."""

    def __init__(
        self,
        job: SamplingJob,
        writers: Writers,
        logged_rates: Mapping[str, tuple[int, int]],
        tally: Tally,
        progress: Progress,
    ) -> None:
        self._job = job
        self._writers = writers
        self._logged_rates = logged_rates
        """(samples, correct) by problem id, as the last row of the log has them."""
        self._tally = tally
        self._progress = progress

    def refused(self, attempt: Attempt, refusal: Refused) -> None:
        failure = RefusedAttempt(
            id=attempt.id, problem_id=attempt.problem.id, sample=attempt.sample, reason=str(refusal)
        )
        self._writers.failures.append(failure)
        self._tally.refused += 1

    def cancelled(self, attempt: Attempt, seconds: float) -> None:
        self._tally.cancelled += 1
        if self._writers.censored:
            row = Censored(
                id=attempt.id, problem_id=attempt.problem.id, sample=attempt.sample, seconds=round(seconds, 3)
            )
            self._writers.censored.append(row)

    def replied(self, attempt: Attempt, trace: Trace, completion: Completion, prompt_tokens: int) -> None:
        """A request has its reply, and `trace` is the whole attempt up to now."""
        self._writers.traces.append(trace)
        if self._writers.replies:
            self._writers.replies.settle(attempt.id)
        self._tally.count_reply(prompt_tokens, completion.tokens)
        now = time.monotonic()
        self._job.on_reply(now - completion.seconds, now, completion.tokens)

    def continued(self) -> None:
        self._tally.continued += 1

    def graded(self, attempt: Attempt, trace: Trace, outcome: Outcome) -> None:
        if not self._writers.grades:
            return
        self._writers.grades.append(
            Grade(
                trace_id=trace.id,
                problem_id=trace.problem_id,
                sample=trace.sample,
                passed=outcome.passed,
                reason=outcome.reason,
                gold=gold_hash(attempt.problem),
            )
        )

    def spent(self, attempt: Attempt, trace: Trace, fate: str) -> None:
        """Count a finished attempt's tokens by what became of them."""
        race = attempt.open_problem.race
        if race.ended and attempt.sample >= race.counted:
            fate = "surplus"
        self._tally.fates[fate] += trace.usage.completion
        attempt.open_problem.finished_samples[attempt.sample] = (trace.usage.completion, fate)

    def settle(self, queue: Queue) -> None:
        """Write down the problems that ended, and take them from the queue's list."""
        for open_problem in queue.ended_problems:
            ended_before = self._tally.problems
            self._tally.count_problem(open_problem)
            self._append_rate(open_problem)
            self._progress.advance(self._tally.problems - ended_before)
        queue.ended_problems.clear()

    def _append_rate(self, open_problem: OpenProblem) -> None:
        race = open_problem.race
        problem_id = open_problem.problem.id
        if not (self._writers.rates and self._job.graded):
            return
        if self._logged_rates.get(problem_id) == (race.counted, race.correct):
            return
        rate = float(pass_rate(race.rule, race.correct, race.counted))
        self._writers.rates.append(
            ProblemPassRate(
                problem_id=problem_id,
                samples=race.counted,
                correct=race.correct,
                pass_rate=rate,
                ended=_reason_to_end(race),
            )
        )


def _reason_to_end(race: Race) -> str:
    if race.rule.stop_at is not None and race.correct >= race.rule.stop_at:
        return "enough"
    if race.counted >= race.rule.samples:
        return "all"
    return "given_up"
