"""Arms of a study on one problem set: scores of every seed and of all, differences, accuracy per token, budget curves.

All arms are compared on the problems that every run of every arm has: differences are paired by problem and seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from distill.errors import RunError
from distill.evaluation import report, scoring, seeds
from distill.evaluation.attempts import AttemptsByProblem, JudgedAttempt
from distill.evaluation.metrics import MetricValues
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
class ArmRun:
    """One run of an arm on one set."""

    seed: int
    run: str
    samples: int
    """Attempts per problem."""
    max_tokens: int
    """Completion tokens that a sample may have."""
    attempts: AttemptsByProblem
    values: MetricValues


class SeedScores(Record):
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


class ArmRow(Record):
    arm: str
    description: str
    metrics: dict[str, Metric]
    seeds: tuple[SeedScores, ...]
    differences: tuple[Gap, ...]
    budget: tuple[Point, ...]


class ArmTable(Record):
    set: str
    problems: int
    """Number of problems that all runs have."""
    samples: int
    """Attempts per problem; the fewest where arms differ."""
    rows: tuple[ArmRow, ...]


def compare_arms(
    set_name: str, arms: Mapping[str, Sequence[ArmRun]], descriptions: Mapping[str, str], baselines: Sequence[str]
) -> ArmTable:
    """Compare the arms of a study on one problem set.

    Args:
        arms: the runs of each arm, one a seed, with the same seeds in the same order.
        descriptions: what each arm is, in words.
        baselines: arms from which each other arm's difference is taken.

    Raises:
        RunError: there is no problem that all have.
    """
    runs = [arm_run for arm_runs in arms.values() for arm_run in arm_runs]
    shared_ids = [id for id in runs[0].attempts if all(id in arm_run.values["pass@1"] for arm_run in runs)]
    if not shared_ids:
        raise RunError(
            f"there is no problem of {set_name} that all arms have a score on", fix="do they use the same set?"
        )
    rows = []
    for arm, arm_runs in arms.items():
        gaps = [_gap(baseline, arm_runs, arms[baseline], shared_ids) for baseline in baselines if baseline != arm]
        rows.append(
            ArmRow(
                arm=arm,
                description=descriptions.get(arm, ""),
                metrics=_metrics(arm_runs, shared_ids),
                seeds=tuple(_seed(arm_run, shared_ids) for arm_run in arm_runs),
                differences=tuple(gaps),
                budget=_budget(arm_runs, shared_ids),
            )
        )
    fewest_samples = min(arm_run.samples for arm_run in runs)
    return ArmTable(set=set_name, problems=len(shared_ids), samples=fewest_samples, rows=tuple(rows))


def _names(arm_runs: Sequence[ArmRun], shared_ids: Sequence[str]) -> list[str]:
    """The metrics that all runs have on all problems."""
    return [
        name
        for name in arm_runs[0].values
        if name.startswith(_METRICS)
        and all(arm_run.values.get(name, {}).keys() >= {*shared_ids} for arm_run in arm_runs)
    ]


def _matrix(arm_runs: Sequence[ArmRun], name: str, shared_ids: Sequence[str]) -> list[list[float]]:
    """A metric's values, [S][Q]."""
    return [[arm_run.values[name][id] for id in shared_ids] for arm_run in arm_runs]


def _metrics(arm_runs: Sequence[ArmRun], shared_ids: Sequence[str]) -> dict[str, Metric]:
    metrics = {}
    for name in _names(arm_runs, shared_ids):
        mean = seeds.pooled(_matrix(arm_runs, name, shared_ids)).mean
        largest = math.inf if name == "tokens" else 1
        metrics[name] = _within(mean, 0, largest)
    return metrics | {PER_TOKENS: _correct_per_kilotoken(arm_runs, shared_ids)}


def _seed(arm_run: ArmRun, shared_ids: Sequence[str]) -> SeedScores:
    metrics = {
        name: scoring.mean([arm_run.values[name][id] for id in shared_ids]) for name in _names([arm_run], shared_ids)
    }
    metrics[PER_TOKENS] = _correct_per_kilotoken([arm_run], shared_ids)
    return SeedScores(seed=arm_run.seed, run=arm_run.run, metrics=metrics)


def _correct_per_kilotoken(arm_runs: Sequence[ArmRun], shared_ids: Sequence[str]) -> Metric:
    kilotokens = [[tokens / 1000 for tokens in row] for row in _matrix(arm_runs, "tokens", shared_ids)]
    return _within(seeds.ratio(_matrix(arm_runs, "pass@1", shared_ids), kilotokens), 0, math.inf)


def _gap(baseline: str, arm_runs: Sequence[ArmRun], baseline_runs: Sequence[ArmRun], shared_ids: Sequence[str]) -> Gap:
    pairs = zip(_matrix(arm_runs, "pass@1", shared_ids), _matrix(baseline_runs, "pass@1", shared_ids), strict=True)
    gaps = [[ours - theirs for ours, theirs in zip(first, second, strict=True)] for first, second in pairs]  # [S][Q]
    seed_gaps = [
        SeedGap(seed=arm_run.seed, value=scoring.mean(row), p=scoring.paired_p(row))
        for arm_run, row in zip(arm_runs, gaps, strict=True)
    ]
    pooled_gap = seeds.pooled(gaps)
    return Gap(against=baseline, value=_within(pooled_gap.mean, -1, 1), p=pooled_gap.p, seeds=tuple(seed_gaps))


def _budget(arm_runs: Sequence[ArmRun], shared_ids: Sequence[str]) -> tuple[Point, ...]:
    """pass@1 and mean thinking tokens had the budget been smaller, over all seeds."""

    def pooled_mean(measure: Callable[[JudgedAttempt], float]) -> Metric:
        return seeds.pooled([[_mean(arm_run.attempts[id], measure) for id in shared_ids] for arm_run in arm_runs]).mean

    points = []
    for budget in report.budgets(max(arm_run.max_tokens for arm_run in arm_runs)):
        right = pooled_mean(lambda attempt, budget=budget: float(bool(attempt.passed) and attempt.tokens <= budget))  # type: ignore[misc]
        thinking = pooled_mean(lambda attempt, budget=budget: float(min(attempt.thinking, budget)))  # type: ignore[misc]
        points.append(Point(at=budget, metrics={"pass@1": _within(right, 0, 1), "thinking": thinking}))
    return tuple(points)


def _mean(group: Sequence[JudgedAttempt], measure: Callable[[JudgedAttempt], float]) -> float:
    values = [measure(attempt) for attempt in group if attempt.passed is not None]
    return sum(values) / len(values)


def _within(metric: Metric, least: float, most: float) -> Metric:
    """Cut the interval of a metric that can only lie between two values."""
    if metric.low is None or metric.high is None:
        return metric
    return metric.model_copy(update={"low": max(metric.low, least), "high": min(metric.high, most)})
