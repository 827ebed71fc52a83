"""Metrics of evaluation: avg@n, unbiased pass@k, cons@k and intervals from a question bootstrap.

Shapes: `correct` is [problems, samples] of 0/1; Q problems, n samples each.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from distill.types import Metric

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

RESAMPLES = 2000


def pass_at_k(n: int, c: int, k: int) -> float:
    """Chance that k of n samples drawn without replacement hold a correct one: 1 - C(n-c, k) / C(n, k).

    Source: Chen et al. 2021, "Evaluating Large Language Models Trained on Code", eq. 1.

    Raises:
        ValueError: k above n.
    """
    if k > n:
        raise ValueError(f"pass@{k} needs at least {k} samples, there are {n}")
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def cons_at_n(keys: Sequence[Hashable | None], correct: Sequence[bool]) -> float:
    """Whether the most common answer is right; among tied answers, the share of right ones.

    Samples without an answer (key None) have no vote. Source: DeepSeek-R1, section 3.1 (cons@64).
    """
    votes = Counter(key for key in keys if key is not None)
    if not votes:
        return 0.0
    top = max(votes.values())
    leaders = {key for key, count in votes.items() if count == top}
    right = {key for key, good in zip(keys, correct, strict=True) if good}
    return len(leaders & right) / len(leaders)


def mean(values: Sequence[float], seed: int = 0) -> Metric:
    """Mean over problems with the 95 % percentile interval of a bootstrap that resamples problems."""
    import numpy as np

    if not values:
        return Metric(value=math.nan)
    data: Floats = np.asarray(values, dtype=np.float64)  # [Q]
    draws = np.random.default_rng(seed).integers(0, len(data), size=(RESAMPLES, len(data)))  # [R, Q]
    means = data[draws].mean(axis=1)  # [R]
    low, high = np.quantile(means, [0.025, 0.975])
    return Metric(value=float(data.mean()), low=float(low), high=float(high))
