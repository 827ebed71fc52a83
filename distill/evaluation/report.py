"""What scores.json has no room for, eval/report.json: paired differences, sampling intervals and curves.

Nothing of a problem's text stands in it, so it may be shown where questions must stay private.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field, JsonValue

from distill.evaluation import scoring
from distill.evaluation.attempts import AttemptsByProblem
from distill.evaluation.metrics import MetricValues, rerun_interval
from distill.sampling import Identity
from distill.types import Metric, Record

_HALVINGS = 6  # of the budget that the curve goes down to, in steps of √2
_COMPARED = ("pass@1", "cons@", "tokens")

ABOUT = {
    "low, high": "95 %, question bootstrap: other problems of the kind and other samples of each",
    "rerun": "95 %, sampling interval: the same problems, as many new samples of each",
    "differences": "of the problems' own values, paired; 95 % question bootstrap, p of a two-sided sign-flip test",
    "budget": "share of the samples that were complete, and right, within so many tokens (thinking and answer): what "
    "sampling with that max_tokens gives. Nobody tells the model of the budget or makes it answer at its end, and an "
    "answer counts when its sample ends, so what stopping it early and asking at once would reach is higher.",
    "samples": "pass@k and cons@k from the same n samples; ties share the vote",
}


class Point(Record):
    """One point of a curve."""

    at: int
    """Tokens, or samples."""
    metrics: dict[str, Metric]


class ModelReport(Record):
    """One model on one set."""

    model: str
    role: str
    revision: str | None
    sampling: dict[str, float | int | None]
    steering: dict[str, JsonValue] | None = Field(None, exclude_if=lambda fields: fields is None)
    """What else each request held that steers the model; None: nothing."""
    n: int
    missing: int
    """Samples that the log lacks: refused by the engine, or never asked for."""
    rerun: dict[str, Metric]
    budget: tuple[Point, ...]
    samples: tuple[Point, ...]


class Difference(Record):
    """`first` minus `second` on the problems that both have."""

    metric: str
    first: str
    second: str
    problems: int
    value: float
    low: float | None
    high: float | None
    p: float


class SetReport(Record):
    """One set."""

    set: str
    commit: str | None
    """Commit of the Hub dataset, where it is one and the Hub was asked."""
    protocol: str | None
    problems: int
    rejected: int
    models: tuple[ModelReport, ...]
    differences: tuple[Difference, ...]


def report_model(
    role: str, identity: Identity, n: int, attempts: AttemptsByProblem, max_tokens: int, scores: Mapping[str, Metric]
) -> ModelReport:
    """Report one model on one set.

    Args:
        max_tokens: completion tokens that a sample may have.
    """
    return ModelReport(
        model=identity.model,
        role=role,
        revision=identity.revision,
        sampling=identity.sampling.model_dump() | {"max_tokens": max_tokens},
        steering=dict(identity.steering) or None,
        n=n,
        missing=sum(n - len(group) for group in attempts.values()),
        rerun={"pass@1": rerun_interval(attempts)},
        budget=budget_curve(attempts, max_tokens),
        samples=sample_curve(scores),
    )


def budgets(max_tokens: int) -> list[int]:
    """Token budgets from 1/64 of the largest up to it."""
    return sorted({max(1, round(max_tokens * 2 ** (-step / 2))) for step in range(2 * _HALVINGS + 1)})


def budget_curve(attempts: AttemptsByProblem, max_tokens: int) -> tuple[Point, ...]:
    """pass@1 had the budget been smaller, from one long generation each; undecidable samples are left out."""
    judged_groups = [[a for a in group if a.passed is not None] for group in attempts.values()]
    points = []
    for budget in budgets(max_tokens):
        shares = [
            sum(bool(a.passed) and a.tokens <= budget for a in group) / len(group) for group in judged_groups if group
        ]
        thinking = [sum(min(a.thinking, budget) for a in group) / len(group) for group in judged_groups if group]
        points.append(Point(at=budget, metrics={"pass@1": scoring.mean(shares), "thinking": scoring.mean(thinking)}))
    return tuple(points)


def sample_curve(scores: Mapping[str, Metric]) -> tuple[Point, ...]:
    """Accuracy against the number of samples, from the metrics."""
    metrics_by_count: dict[int, dict[str, Metric]] = {}
    for name, metric in scores.items():
        kind, separator, k = name.partition("@")
        if separator:
            metrics_by_count.setdefault(int(k), {})[kind] = metric
    return tuple(Point(at=k, metrics=metrics) for k, metrics in sorted(metrics_by_count.items()))


def differences(models: Sequence[tuple[str, MetricValues]]) -> tuple[Difference, ...]:
    """Each model against each before it, such as (sft, base): pass@1, cons@n and tokens.

    Args:
        models: role and values, in the order teacher, base, sft, grpo.
    """
    rows = []
    for index, (second, theirs) in enumerate(models):
        for first, ours in models[index + 1 :]:
            for name in _shared(ours, theirs):
                shared_ids = [id for id in ours[name] if id in theirs[name]]
                gaps = [ours[name][id] - theirs[name][id] for id in shared_ids]
                gap = scoring.mean(gaps)
                rows.append(
                    Difference(
                        metric=name,
                        first=first,
                        second=second,
                        problems=len(shared_ids),
                        value=gap.value,
                        low=gap.low,
                        high=gap.high,
                        p=scoring.paired_p(gaps),
                    )
                )
    return tuple(rows)


def _shared(ours: MetricValues, theirs: MetricValues) -> list[str]:
    """The compared metrics that both have on some problem; of cons@k the largest k."""
    names = [name for name in ours if name.startswith(_COMPARED) and ours[name].keys() & theirs.get(name, {}).keys()]
    votes = [name for name in names if name.startswith("cons@")]
    return [name for name in names if name not in votes[1:]]
