"""One model's scores: a value of each metric for each problem, and their means with intervals.

| metric | of one problem |
|---|---|
| `pass@1` | share of right samples (avg@n) |
| `pass@k` | chance that k of its samples hold a right one |
| `cons@k` | chance that the majority of k of its samples is right |
| `undecided` | share of samples that the verifier cannot judge; the above are of the others |
| `truncated` | share that the budget or the context cut |
| `closed`, `unclosed` | share with and without a closing think tag |
| `answered` | share with a marked final answer |
| `repetition`, `language` | share that the filter of that name rejects |
| `tokens` | mean tokens of a sample, thinking and answer |

Problems count alike, whatever their number of samples. `tokens_p10`, `_p50` and `_p90` are quantiles of all samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from distill.errors import RunError
from distill.evaluation import scoring
from distill.evaluation.attempts import AttemptsByProblem, JudgedAttempt
from distill.types import Metric

MetricValues = dict[str, dict[str, float]]
"""Metric to problem id to value; a problem that has none is left out."""

_SHARES: dict[str, Callable[[JudgedAttempt], float | None]] = {
    "undecided": lambda attempt: attempt.passed is None,
    "truncated": lambda attempt: attempt.cut,
    "closed": lambda attempt: not attempt.unclosed,
    "unclosed": lambda attempt: attempt.unclosed,
    "answered": lambda attempt: attempt.answered,
    "repetition": lambda attempt: attempt.loops,
    "language": lambda attempt: attempt.foreign,
    "tokens": lambda attempt: attempt.tokens,
}
_QUANTILES = (0.1, 0.5, 0.9)


def sample_counts(n: int) -> list[int]:
    """1, 2, 4, … and n itself."""
    if not n:
        return []
    return [*(1 << power for power in range(n.bit_length()) if 1 << power < n), n]


def values_by_problem(attempts: AttemptsByProblem, votes: bool) -> MetricValues:
    """Every metric of every problem.

    A problem with undecidable samples is scored on the others; it has no pass@k and cons@k above their number.

    Args:
        votes: whether answers can be counted, as cons@k needs it.

    Raises:
        RunError: no sample could be judged.
    """
    values_by_metric: MetricValues = {}
    judged = {id: [attempt for attempt in group if attempt.passed is not None] for id, group in attempts.items()}
    counts = sample_counts(max(map(len, judged.values()), default=0))
    for id, group in judged.items():
        correct = [bool(attempt.passed) for attempt in group]
        possible_counts = [k for k in counts if k <= len(group)]
        for k in possible_counts:
            values_by_metric.setdefault(f"pass@{k}", {})[id] = scoring.pass_at_k(len(group), sum(correct), k)
        vote_counts = possible_counts[1:]
        if votes and vote_counts:
            shares_right = scoring.cons_at_k([attempt.vote_key for attempt in group], correct, vote_counts)
            for k, value in zip(vote_counts, shares_right, strict=True):
                values_by_metric.setdefault(f"cons@{k}", {})[id] = value
    if not values_by_metric:
        count = sum(map(len, attempts.values()))
        raise RunError(f"none of the {count:,} samples could be judged", fix="do the problems have gold answers?")
    values_by_metric = dict(sorted(values_by_metric.items(), key=_order))
    for name, share_of in _SHARES.items():
        for id, samples in attempts.items():
            shares = [float(share) for attempt in samples if (share := share_of(attempt)) is not None]
            if shares:
                values_by_metric.setdefault(name, {})[id] = sum(shares) / len(shares)
    return values_by_metric


def _order(item: tuple[str, dict[str, float]]) -> tuple[bool, int]:
    """pass@1, pass@2, …, then the majority of all and those of fewer."""
    kind, _, k = item[0].partition("@")
    if kind == "pass":
        return False, int(k)
    return True, -int(k)


def mean_metrics(values_by_metric: MetricValues, attempts: AttemptsByProblem) -> dict[str, Metric]:
    """Means over problems with their question-bootstrap intervals, and the quantiles."""
    import numpy as np

    means = {name: scoring.mean(list(by_problem.values())) for name, by_problem in values_by_metric.items()}
    tokens = [attempt.tokens for group in attempts.values() for attempt in group]
    token_quantiles = np.quantile(tokens, _QUANTILES)
    return means | {
        f"tokens_p{round(100 * quantile)}": Metric(value=float(value))
        for quantile, value in zip(_QUANTILES, token_quantiles, strict=True)
    }


def rerun_interval(attempts: AttemptsByProblem) -> Metric:
    """pass@1 with its sampling interval: what a second run on the same problems may give."""
    right: list[Sequence[float]] = [
        [float(attempt.passed) for attempt in group if attempt.passed is not None] for group in attempts.values()
    ]
    return scoring.rerun_mean([group for group in right if group])
