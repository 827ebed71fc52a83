"""The statistics of evaluation: avg@n, pass@k, cons@k, their intervals, and paired differences with a p-value.

Two kinds of interval, both 95 %. `mean` is the **question bootstrap**: it resamples problems, so it covers what another
draw of problems *and* of samples would change; this is the interval of scores.json. `rerun_mean` is the **sampling
interval**: the same problems, n new samples of each; it is the narrower one, and says how far a second run may differ.
Shapes: Q problems, n samples each. See Miller 2024, "Adding Error Bars to Evals" (arXiv 2411.00640).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING

from distill.types import Metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

RESAMPLES = 2000
FLIPS = 10_000
_EXACT = 13  # problems that differ, up to which all sign flips are counted: 2^13, about as many as are drawn otherwise
_BLOCK = 1 << 22  # numbers that are drawn at once
_Z = NormalDist().inv_cdf(0.975)


def pass_at_k(n: int, c: int, k: int) -> float:
    """Chance that k of n samples drawn without replacement hold a correct one: 1 - C(n-c, k) / C(n, k).

    Source: Chen et al. 2021, "Evaluating Large Language Models Trained on Code", eq. 1.

    Raises:
        ValueError: k above n.
    """
    if k > n:
        raise ValueError(f"pass@{k} needs at least {k} samples, there are {n}")
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def cons_at_k(keys: Sequence[Hashable | None], correct: Sequence[bool], ks: Sequence[int]) -> list[float]:
    """Chance that the majority of k samples is right, over all draws of k of the n without replacement; for each k.

    Samples vote for what their answer amounts to; those without an answer (key None) have no vote, and if nobody votes
    nobody is right. **Ties share the vote**: where L answers lead and one is the right one, the draw counts 1/L, which
    is what breaking ties by lot gives. Answers that hold a correct sample are one answer, since each equals the gold.
    At k = n it is the majority of all, as cons@64 of DeepSeek-R1 (section 3.1).

    With right votes r, others m_i and b without a vote, the sum over t (votes of the leaders) of
    C(r, t) · Σ_L W_t(k - t, L) / (1 + L) / C(n, k), where W_t(d, L) counts the draws of d of the others in which nobody
    has more than t and L have exactly t: a product of one polynomial per answer.

    Raises:
        ValueError: a k above n.
    """
    import numpy as np

    n = len(keys)
    if max(ks) > n:
        raise ValueError(f"cons@{max(ks)} needs at least {max(ks)} samples, there are {n}")
    correct_keys = {key for key, is_correct in zip(keys, correct, strict=True) if is_correct and key is not None}
    votes = Counter(key for key in keys if key is not None and key not in correct_keys)
    blanks = keys.count(None)
    r = sum(key in correct_keys for key in keys if key is not None)
    winning_draws = np.zeros(n + 1)
    for t in range(1, r + 1):
        ties = sum(size >= t for size in votes.values())
        ways = np.zeros((n + 1, ties + 1))  # [drawn, tied]
        ways[: blanks + 1, 0] = [math.comb(blanks, d) for d in range(blanks + 1)]
        for size in votes.values():
            ways_before = ways
            ways = np.zeros_like(ways)
            for drawn in range(min(size, t - 1) + 1):
                ways[drawn:] += math.comb(size, drawn) * ways_before[: n + 1 - drawn]
            if size >= t:
                ways[t:, 1:] += math.comb(size, t) * ways_before[: n + 1 - t, :-1]
        winning_draws[t:] += math.comb(r, t) * (ways[: n + 1 - t] / (1 + np.arange(ties + 1))).sum(axis=1)
    return [float(winning_draws[k] / math.comb(n, k)) for k in ks]


def mean(values: Sequence[float], seed: int = 0) -> Metric:
    """Mean over problems with the interval of a bootstrap that resamples problems.

    The percentiles are taken further out by the t distribution's width and n - 1, as few problems (AIME has 30) make a
    plain percentile interval too narrow: the expanded percentile interval of Hesterberg 2015, "What Teachers Should
    Know About the Bootstrap".
    """
    import numpy as np

    if not values:
        return Metric(value=math.nan)
    data: Floats = np.asarray(values, dtype=np.float64)  # [Q]
    if len(data) == 1:
        return Metric(value=float(data[0]))
    tail = _tail(len(data))
    low, high = np.quantile(_resampled_means(data, seed), [tail, 1 - tail])
    return Metric(value=float(data.mean()), low=float(low), high=float(high))


def _resampled_means(data: Floats, seed: int) -> Floats:
    """Means of RESAMPLES draws of as many problems with replacement; [R]."""
    import numpy as np

    generator = np.random.default_rng(seed)
    rows = max(1, _BLOCK // len(data))
    parts = []
    for start in range(0, RESAMPLES, rows):
        drawn = generator.integers(0, len(data), size=(min(rows, RESAMPLES - start), len(data)))
        parts.append(data[drawn].mean(axis=1))
    return np.concatenate(parts)


def _tail(n: int) -> float:
    """Φ(-√(n/(n-1)) · t(n-1)), the share that an expanded percentile interval leaves out on each side."""
    from scipy import special

    return NormalDist().cdf(-math.sqrt(n / (n - 1)) * float(special.stdtrit(n - 1, 0.975)))


def rerun_mean(samples: Sequence[Sequence[float]]) -> Metric:
    """Mean of the problems' means, with the sampling interval: other samples of the same problems.

    Standard error² = Σ_q s²_q / n_q / Q², with s²_q the unbiased variance within a problem; the interval is ± 1.96
    of it. Without a second sample of every problem there is no interval.

    Args:
        samples: [Q][n], such as 0 and 1 for wrong and right.
    """
    import numpy as np

    if not samples:
        return Metric(value=math.nan)
    value = float(np.mean([np.mean(group) for group in samples]))
    if min(map(len, samples)) < 2:
        return Metric(value=value)
    error = math.sqrt(sum(float(np.var(group, ddof=1)) / len(group) for group in samples)) / len(samples)
    return Metric(value=value, low=value - _Z * error, high=value + _Z * error)


def paired_p(differences: Sequence[float], seed: int = 0) -> float:
    """Two-sided p-value of a sign-flip permutation test on paired differences, one a problem; [Q].

    If neither of two models is better, each problem's difference is as likely to have the other sign. Up to 13 problems
    with a difference all flips are counted; beyond them 10,000 are drawn, and p is (1 + as extreme) / (1 + drawn),
    never 0 (Phipson and Smyth 2010). Source: Fisher's randomisation test; Dror et al. 2018, "The Hitchhiker's Guide to
    Testing Statistical Significance in Natural Language Processing".
    """
    import numpy as np

    data: Floats = np.asarray([d for d in differences if d], dtype=np.float64)
    if not len(data):
        return 1.0
    observed = abs(data.sum()) * (1 - 1e-9)  # sums in another order differ in their last digits
    if len(data) <= _EXACT:
        signs = 1 - 2 * ((np.arange(1 << len(data))[:, None] >> np.arange(len(data))) & 1)
        return float(np.mean(np.abs(signs @ data) >= observed))
    generator = np.random.default_rng(seed)
    rows = max(1, _BLOCK // len(data))
    extreme = 0
    for start in range(0, FLIPS, rows):
        size = (min(rows, FLIPS - start), -(-len(data) // 8))
        flipped = np.unpackbits(generator.integers(0, 256, size, dtype=np.uint8), axis=1, count=len(data))
        sums = data.sum() - 2 * (flipped.astype(np.float64) @ data)
        extreme += int(np.count_nonzero(np.abs(sums) >= observed))
    return (1 + extreme) / (1 + FLIPS)
