"""Arms of a study on one problem set: scores of every seed and of all, differences, accuracy per token, budget curves.

All arms are compared on the problems that every run of every arm has: differences are paired by problem and seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from distill.errors import RunError
from distill.evaluation import report, scoring, seeds
from distill.evaluation.attempts import Attempt, Attempts
from distill.evaluation.metrics import Values
from distill.evaluation.report import Point
from distill.types import Metric, Record

_METRICS = ("pass@", "cons@", "tokens", "truncated", "closed", "answered")
PER_TOKENS = "pass@1/1000"
ABOUT = {
    "seeds": "each seed alone: low and high are 95 % of a question bootstrap, p of a two-sided sign-flip test, as in a "
    "run's own report",
    "metrics, differences": "all seeds: mean of the seeds; low and high are 95 % for other seeds and other problems, p "
    "is two-sided, both of a t distribution with crossed random effects of seeds and problems and Satterthwaite's "
    "degrees of freedom; few seeds make it wide. With one seed: as each seed alone",
    "differences": "of the runs with the same seed, on the same problems",
    PER_TOKENS: "right answers per 1,000 sampled tokens: 1,000 × mean pass@1 / mean tokens of a sample",
    "truncated": "share of the samples that the token budget or the context cut",
    "budget": report.ABOUT["budget"],
}


@dataclass(frozen=True)
class Measured:
    """One run of an arm on one set."""

    seed: int
    run: str
    samples: int
    """Attempts per problem."""
    most: int
    """Completion tokens that a sample may have."""
    attempts: Attempts
    values: Values


class Seed(Record):
    seed: int
    run: str
    metrics: dict[str, Metric]


class SeedGap(Record):
    seed: int
    value: Metric
    p: float


class Gap(Record):
    """pass@1 of an arm minus that of another."""

    against: str
    value: Metric
    p: float
    seeds: tuple[SeedGap, ...]


class Row(Record):
    arm: str
    description: str
    metrics: dict[str, Metric]
    seeds: tuple[Seed, ...]
    differences: tuple[Gap, ...]
    budget: tuple[Point, ...]


class Table(Record):
    set: str
    problems: int
    """That all runs have."""
    samples: int
    """Attempts per problem; the fewest, if arms differ."""
    rows: tuple[Row, ...]


def table(name: str, arms: Mapping[str, Sequence[Measured]], told: Mapping[str, str], against: Sequence[str]) -> Table:
    """
    Args:
        arms: the runs of each, one a seed, with the same seeds in the same order.
        told: what each arm is, in words.
        against: arms from which each other arm's difference is taken.

    Raises:
        RunError: there is no problem that all have.
    """
    runs = [one for every in arms.values() for one in every]
    shared = [id for id in runs[0].attempts if all(id in one.values["pass@1"] for one in runs)]
    if not shared:
        raise RunError(f"there is no problem of {name} that all arms have a score on", fix="do they use the same set?")
    rows = []
    for arm, every in arms.items():
        gaps = [_gap(other, every, arms[other], shared) for other in against if other != arm]
        rows.append(
            Row(
                arm=arm,
                description=told.get(arm, ""),
                metrics=_metrics(every, shared),
                seeds=tuple(_seed(one, shared) for one in every),
                differences=tuple(gaps),
                budget=_budget(every, shared),
            )
        )
    return Table(set=name, problems=len(shared), samples=min(one.samples for one in runs), rows=tuple(rows))


def _names(every: Sequence[Measured], shared: Sequence[str]) -> list[str]:
    """The metrics that all runs have on all problems."""
    return [
        name
        for name in every[0].values
        if name.startswith(_METRICS) and all(one.values.get(name, {}).keys() >= {*shared} for one in every)
    ]


def _matrix(every: Sequence[Measured], name: str, shared: Sequence[str]) -> list[list[float]]:
    """[S][Q]"""
    return [[one.values[name][id] for id in shared] for one in every]


def _metrics(every: Sequence[Measured], shared: Sequence[str]) -> dict[str, Metric]:
    found = {}
    for name in _names(every, shared):
        mean = seeds.pooled(_matrix(every, name, shared)).mean
        found[name] = _within(mean, 0, math.inf if name == "tokens" else 1)
    return found | {PER_TOKENS: _rate(every, shared)}


def _seed(one: Measured, shared: Sequence[str]) -> Seed:
    found = {name: scoring.mean([one.values[name][id] for id in shared]) for name in _names([one], shared)}
    return Seed(seed=one.seed, run=one.run, metrics=found | {PER_TOKENS: _rate([one], shared)})


def _rate(every: Sequence[Measured], shared: Sequence[str]) -> Metric:
    thousands = [[tokens / 1000 for tokens in row] for row in _matrix(every, "tokens", shared)]
    return _within(seeds.ratio(_matrix(every, "pass@1", shared), thousands), 0, math.inf)


def _gap(other: str, ours: Sequence[Measured], theirs: Sequence[Measured], shared: Sequence[str]) -> Gap:
    pairs = zip(_matrix(ours, "pass@1", shared), _matrix(theirs, "pass@1", shared), strict=True)
    gaps = [[a - b for a, b in zip(first, second, strict=True)] for first, second in pairs]  # [S][Q]
    alone = [
        SeedGap(seed=one.seed, value=scoring.mean(row), p=scoring.paired_p(row))
        for one, row in zip(ours, gaps, strict=True)
    ]
    whole = seeds.pooled(gaps)
    return Gap(against=other, value=_within(whole.mean, -1, 1), p=whole.p, seeds=tuple(alone))


def _budget(every: Sequence[Measured], shared: Sequence[str]) -> tuple[Point, ...]:
    """pass@1 and mean thinking tokens had the budget been smaller, over all seeds."""

    def over(of: Callable[[Attempt], float]) -> Metric:
        return seeds.pooled([[_mean(one.attempts[id], of) for id in shared] for one in every]).mean

    points = []
    for at in report.budgets(max(one.most for one in every)):
        right = over(lambda attempt, at=at: float(bool(attempt.passed) and attempt.tokens <= at))  # type: ignore[misc]
        thinking = over(lambda attempt, at=at: float(min(attempt.thinking, at)))  # type: ignore[misc]
        points.append(Point(at=at, metrics={"pass@1": _within(right, 0, 1), "thinking": thinking}))
    return tuple(points)


def _mean(group: Sequence[Attempt], of: Callable[[Attempt], float]) -> float:
    judged = [of(attempt) for attempt in group if attempt.passed is not None]
    return sum(judged) / len(judged)


def _within(metric: Metric, least: float, most: float) -> Metric:
    """What can lie between two values only has an interval that does."""
    if metric.low is None or metric.high is None:
        return metric
    return metric.model_copy(update={"low": max(metric.low, least), "high": min(metric.high, most)})
