"""What to ask next: the samples that the rule still wants, problem by problem, those that were lost or cut first."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from distill.sampling.history import History
from distill.sampling.schedule import Race, StoppingRule
from distill.types import Problem, Sampling, Trace, trace_id


@dataclass(frozen=True, slots=True)
class Attempt:
    """One sample to take, to continue, or only to grade."""

    id: str
    open_problem: OpenProblem
    sample: int
    trace_so_far: Trace | None = None
    """The trace as far as it came; None for a new attempt."""
    only_grade: bool = False
    """Only to be graded: `trace_so_far` is finished."""

    @property
    def problem(self) -> Problem:
        return self.open_problem.problem


@dataclass(eq=False, slots=True)
class OpenProblem:
    """A problem that is being sampled."""

    problem: Problem
    race: Race
    finished_samples: dict[int, tuple[int, str]] = field(default_factory=dict)
    """(tokens, fate) of its finished samples."""


@dataclass(frozen=True)
class Identity:
    """What makes the attempts of one model at one sampling the same attempts."""

    model: str
    revision: str | None
    template: str
    sampling: Sampling
    steering: Mapping[str, JsonValue]
    """What the backend adds to each request that steers the model."""

    def attempt_id(self, problem: str, sample: int) -> str:
        return trace_id(problem, self.model, self.revision, self.template, self.sampling, sample, self.steering)


class Queue:
    """Problems in order; a problem that was begun is finished before another is begun.

    Args:
        graded: whether finished traces have to be graded before they count.
        budget: completion tokens up to which a cut trace is continued.
        continues: whether the engine can continue a cut trace.
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        identity: Identity,
        rule: StoppingRule,
        history: History,
        *,
        graded: bool,
        budget: int,
        continues: bool,
    ) -> None:
        self._problems = problems
        self._identity = identity
        self.rule = rule
        self._history = history
        self._graded = graded
        self._budget = budget
        self._continues = continues
        self._next_problem = 0
        self._ready: deque[Attempt] = deque()
        self._changed: dict[OpenProblem, None] = {}
        """Problems of which something changed since they were last asked for what they may want, in their order."""
        self.under_way = 0
        """Attempts taken and not done."""
        self.already_done = 0
        """Attempts of the opened problems that needed nothing more."""
        self.limit: Callable[[], int] = lambda: 2**31
        """Attempts under way that keep the engine busy: beyond them nothing is begun that may not be wanted."""
        self.ended_problems: list[OpenProblem] = []
        """Problems that ended since the caller last looked."""

    def take(self) -> Attempt | None:
        """The next attempt; None when nothing can be begun now (see `exhausted`)."""
        while not self._ready and self._next_problem < len(self._problems):
            self._begin(self._problems[self._next_problem])
            self._next_problem += 1
        if not self._ready:
            self._speculate()
        if not self._ready:
            return None
        self.under_way += 1
        return self._ready.popleft()

    @property
    def exhausted(self) -> bool:
        """Nothing is left and nothing is under way."""
        return not self._ready and not self.under_way and self._next_problem >= len(self._problems)

    def _begin(self, problem: Problem) -> None:
        open_problem = OpenProblem(problem, Race(self.rule))
        unlogged = []
        unfinished = []
        for sample in range(self.rule.samples):
            attempt_id = self._identity.attempt_id(problem.id, sample)
            recorded = self._history.logged.get(attempt_id)
            if recorded is None and attempt_id not in self._history.failed:
                unlogged.append(Attempt(attempt_id, open_problem, sample))
            elif attempt := self._unfinished(open_problem, sample, attempt_id):
                open_problem.race.launched = max(open_problem.race.launched, sample + 1)
                unfinished.append(attempt)
            else:
                self.already_done += 1
                open_problem.race.add_outcome(sample, self._correct(attempt_id, problem))
        if open_problem.race.ended:
            self.ended_problems.append(open_problem)
            return
        self._changed[open_problem] = None
        self._ready.extend(unfinished)
        # what was under way when the last run ended has a lower index than something that finished
        self._ready.extend(attempt for attempt in unlogged if attempt.sample < open_problem.race.launched)
        self._feed(open_problem)

    def _unfinished(self, open_problem: OpenProblem, sample: int, attempt_id: str) -> Attempt | None:
        """What is left to do for an attempt in the log: continue it within a larger budget, or grade it."""
        recorded = self._history.logged.get(attempt_id)
        if recorded is None:
            return None
        has_room = recorded.tokens < self._budget
        if recorded.finish == "length" and has_room and self._continues:
            cut_trace = self._history.trace(attempt_id)
            if cut_trace.completion_ids is not None and not _fills_context(cut_trace):
                return Attempt(attempt_id, open_problem, sample, cut_trace)
        if self._graded and self._history.grade(attempt_id, open_problem.problem) is None:
            return Attempt(attempt_id, open_problem, sample, self._history.trace(attempt_id), only_grade=True)
        return None

    def _correct(self, attempt_id: str, problem: Problem) -> bool:
        grade = self._history.grade(attempt_id, problem)
        return bool(grade and grade[0])

    def _feed(self, open_problem: OpenProblem, speculate: bool = False) -> None:
        race = open_problem.race
        for _ in range(race.samples_to_start(speculate)):
            attempt_id = self._identity.attempt_id(open_problem.problem.id, race.launched)
            self._ready.append(Attempt(attempt_id, open_problem, race.launched))
            race.launched += 1

    def _speculate(self) -> None:
        """The engine would idle: samples that are likely to be wanted, at the risk of being cancelled."""
        while self._changed and self.under_way + len(self._ready) < self.limit():
            open_problem = next(iter(self._changed))
            del self._changed[open_problem]
            self._feed(open_problem, speculate=True)

    def put_back(self, attempt: Attempt) -> None:
        """Put a cut attempt back, to be continued before anything new is begun."""
        self.under_way -= 1
        self._ready.appendleft(attempt)

    def finish_attempt(self, attempt: Attempt, correct: bool) -> list[int]:
        """An attempt has its outcome. Returns the samples of its problem that may still run but count no more."""
        self.under_way -= 1
        open_problem = attempt.open_problem
        race = open_problem.race
        was_over = race.ended
        race.add_outcome(attempt.sample, correct)
        if not race.ended:
            if self.rule.adaptive:
                self._feed(open_problem)
                self._changed[open_problem] = None
            return []
        if was_over:
            return []
        self._changed.pop(open_problem, None)
        self.ended_problems.append(open_problem)
        self._ready = deque(queued for queued in self._ready if queued.open_problem is not open_problem)
        return [sample for sample in range(race.counted, race.launched) if sample not in race.early_outcomes]

    def cancelled(self) -> None:
        """An attempt that was taken has been cancelled."""
        self.under_way -= 1


def _fills_context(trace: Trace) -> bool:
    """Whether the last part of a trace was cut by the model's context, which no budget can widen."""
    return bool(trace.segments) and trace.segments[-1].full
