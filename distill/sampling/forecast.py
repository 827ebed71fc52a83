"""What sampling a whole problem set will take and yield, from a pilot of some of its problems.

The pilot's problems are drawn by the hash of their ids, so they are as good as drawn at random, and the same ones
every time. Intervals are predictive, 95 %: the problems that are still to come are drawn from the pilot's, which are
drawn anew each time themselves, since others might have been met (N − 1 of them, so that the variance is unbiased).
"""

from __future__ import annotations

import heapq
import itertools
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from distill.sampling.history import Censored, Logs, ProblemPassRate, read_rows
from distill.sampling.price import Price
from distill.store import jsonl
from distill.types import Metric, Problem, Record, Trace, content_id

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_DRAWS = 1000


class Amount(Record):
    """An amount for the whole set with its interval, and what of it the pilot did."""

    value: float
    low: float
    high: float
    done: float


class Forecast(Record):
    problems: int
    pilot: int
    tokens: Amount
    """Completion tokens, those of surplus and cancelled samples included."""
    prompt_tokens: Amount
    """Prompt tokens as sent: again for each sample and for each time that one is continued."""
    traces: Amount
    """Samples that count, up to n a problem."""
    accepted: Amount
    solved: Amount
    """Problems with an accepted trace."""
    disk: Amount
    """Bytes of traces.jsonl, before finished parts of it are compressed."""
    tokens_per_accepted: Metric | None
    """None: the pilot had no correct trace."""
    tokens_per_second: Metric | None
    """Tokens a second of all engines together at full load; None where no speed was measured."""
    engines: int
    hours: Metric | None
    """Hours by the clock with these engines, without their start."""
    engine_hours: Metric | None
    cost: Metric | None
    cut: float
    """Share of the pilot's traces that the last budget cut: how long they would have been is not known."""
    notes: tuple[str, ...] = ()
    """What to keep in mind, for a person."""


@dataclass(frozen=True, slots=True)
class PilotProblem:
    """What one problem of the pilot took, without what was surplus."""

    tokens: int
    prompt_tokens: int
    traces: int
    accepted: int
    log_bytes: int
    cut: int


@dataclass(frozen=True)
class Pilot:
    """What a pilot did."""

    problems: Sequence[PilotProblem]
    surplus: int
    """Tokens of samples that turned out not to be needed. They ran when the engine would else have idled, at the end;
    so they do not grow with the number of problems."""


def draw_pilot(problems: Sequence[Problem], count: int) -> list[Problem]:
    """`count` of the problems, in their order."""
    chosen_ids = {p.id for p in heapq.nsmallest(count, problems, key=lambda problem: content_id("pilot", problem.id))}
    return [problem for problem in problems if problem.id in chosen_ids]


class _TraceRow(NamedTuple):
    """What a forecast needs to know of one trace."""

    problem: str
    sample: int
    tokens: int
    prompt: int
    """Tokens of the prompts of all its requests: each that continues it sends what was said before."""
    cut: bool

    @staticmethod
    def of(trace: Trace) -> _TraceRow:
        tokens_before = [0, *itertools.accumulate(part.tokens for part in trace.segments[:-1])]
        prompt_tokens = sum(trace.usage.prompt + earlier_tokens for earlier_tokens in tokens_before)
        cut = trace.finish == "length"
        return _TraceRow(trace.problem_id, trace.sample, trace.usage.completion, prompt_tokens, cut)


def read_pilot(logs: Logs, problems: Iterable[Problem]) -> Pilot:
    """What the logs say of problems that have been sampled to their end; the others are left out."""
    problem_ids = {problem.id for problem in problems}
    rates = {rate.problem_id: rate for rate in read_rows(logs.rates, ProblemPassRate) if rate.problem_id in problem_ids}
    log_bytes = dict.fromkeys(rates, 0)
    token_rates = []
    newest_rows: dict[str, _TraceRow] = {}
    for head in jsonl.heads(logs.traces) if jsonl.exists(logs.traces) else ():
        rate = rates.get(head.problem_id)
        if rate:
            line = jsonl.line_at(head.path, head.offset)
            trace = Trace.model_validate_json(line)
            newest_rows[head.id] = _TraceRow.of(trace)
            if head.sample < rate.samples:
                log_bytes[head.problem_id] += len(line)
            token_rates += [part.tokens / part.seconds for part in trace.segments[-1:] if part.seconds > 0]
    counted_rows: dict[str, list[_TraceRow]] = {id: [] for id in rates}
    surplus = 0.0
    for row in newest_rows.values():
        if row.sample < rates[row.problem].samples:
            counted_rows[row.problem].append(row)
        else:
            surplus += row.tokens
    if token_rates:  # how far the cancelled ones came is not known, only for how long they ran
        cancelled = sum(row.seconds for row in read_rows(logs.censored, Censored) if row.problem_id in rates)
        surplus += cancelled * statistics.median(token_rates)
    spent = [
        PilotProblem(
            tokens=sum(row.tokens for row in problem_rows),
            prompt_tokens=sum(row.prompt for row in problem_rows),
            traces=len(problem_rows),
            accepted=rates[id].correct,
            log_bytes=log_bytes[id],
            cut=sum(row.cut for row in problem_rows),
        )
        for id, problem_rows in counted_rows.items()
    ]
    return Pilot(spent, round(surplus))


def forecast(
    pilot: Pilot,
    problems: int,
    *,
    speed: Metric | None = None,
    engines: int = 1,
    price: Price | None = None,
    notes: Sequence[str] = (),
) -> Forecast:
    """Extrapolate what a pilot took to a whole set of problems.

    Args:
        problems: in the whole set, the pilot's included.
        speed: tokens a second of all `engines` together.

    Raises:
        ValueError: fewer than two problems were sampled.
    """
    import numpy as np

    count = len(pilot.problems)
    if count < 2:
        raise ValueError("a pilot of two problems at least")
    remaining = max(0, problems - count)
    columns = np.array(
        [[s.tokens, s.prompt_tokens, s.traces, s.accepted, s.log_bytes, s.accepted > 0] for s in pilot.problems], float
    )
    done = columns.sum(0)
    rng = np.random.default_rng(0)
    # (draws, pilot's problems)
    resampled_shares = rng.multinomial(count - 1, [1 / count] * count, size=_DRAWS) / (count - 1)
    totals = done + rng.multinomial(remaining, resampled_shares) @ columns  # (draws, columns)
    value = done + remaining * columns.mean(0)
    surplus = np.zeros_like(done)
    pilot_ends = 2 if remaining else 1  # the pilot had one end, and so will the whole
    surplus[0] = pilot.surplus * pilot_ends
    value = value + surplus
    totals = totals + surplus
    done = done + surplus / pilot_ends
    amounts = [_amount(value[n], totals[:, n], done[n]) for n in range(len(done))]
    tokens, prompt, traces, accepted, size, solved = amounts
    tokens_per_accepted = None
    if value[3]:
        tokens_per_accepted = _metric(value[0] / value[3], totals[:, 0] / np.maximum(totals[:, 3], 1))
    hours = None
    cost = None
    if speed and speed.value > 0:
        speeds = _speed_draws(speed, rng)
        hours = _metric(value[0] / speed.value / 3600, totals[:, 0] / speeds / 3600)
        seconds = engines * totals[:, 0] / speeds
    if price and (price.per_hour is None or hours):
        engine_seconds = engines * hours.value * 3600 if hours else 0.0
        cost_draws = [price.cost(row[1], row[0], seconds[n] if hours else 0.0) for n, row in enumerate(totals)]
        cost = _metric(price.cost(value[1], value[0], engine_seconds), np.array(cost_draws))
    return Forecast(
        problems=max(problems, count),
        pilot=count,
        tokens=tokens,
        prompt_tokens=prompt,
        traces=traces,
        accepted=accepted,
        solved=solved,
        disk=size,
        tokens_per_accepted=tokens_per_accepted,
        tokens_per_second=speed,
        engines=engines,
        hours=hours,
        engine_hours=hours and Metric(**{name: engines * v for name, v in hours.model_dump().items()}),
        cost=cost,
        cut=sum(s.cut for s in pilot.problems) / max(1, sum(s.traces for s in pilot.problems)),
        notes=tuple(notes),
    )


def _speed_draws(speed: Metric, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draws of the speed as its interval has it."""
    import numpy as np

    low, high = (speed.value if bound is None else bound for bound in (speed.low, speed.high))
    return np.clip(rng.normal(speed.value, (high - low) / 3.92, _DRAWS), speed.value / 10, None)


def _amount(value: float, draws: NDArray[np.float64], done: float) -> Amount:
    metric = _metric(value, draws)
    assert metric.low is not None
    assert metric.high is not None
    return Amount(value=metric.value, low=metric.low, high=metric.high, done=float(done))


def _metric(value: float, draws: NDArray[np.float64]) -> Metric:
    import numpy as np

    low, high = np.quantile(draws, [0.025, 0.975])
    return Metric(value=float(value), low=float(low), high=float(high))
