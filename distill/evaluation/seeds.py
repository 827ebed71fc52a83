"""What several seeds of one way to train say together: a mean with an interval for other seeds and other problems.

A value y_sq of seed s on problem q is taken as μ + a_s + b_q + e_sq: the seeds are a sample of trainings, the problems
one of problems, and both are crossed, since every student meets the same problems. With S seeds and Q problems and the
mean squares A (of the seeds' means), B (of the problems' means) and E (of what is left), the variance of the mean is
(A + B − E) / SQ; A and B are E at least, as a variance is 0 at least. The interval and p are those of a t distribution
with (A + B − E)² / (A²/(S−1) + B²/(Q−1) + E²/((S−1)(Q−1))) degrees of freedom (Satterthwaite 1946, "An Approximate
Distribution of Estimates of Variance Components"; the crossed model: Searle, Casella & McCulloch 1992, "Variance
Components"). Three seeds that differ much leave two degrees of freedom and a wide interval, which is what is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from distill.evaluation import scoring
from distill.types import Metric, Record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_STEPS = 4000  # of Simpson's rule


class Pooled(Record):
    """A mean over seeds and problems."""

    mean: Metric
    p: float
    """Two-sided, of a mean of 0."""


def pooled(values: Sequence[Sequence[float]]) -> Pooled:
    """The mean of all values, with an interval for other seeds and other problems.

    Args:
        values: [S][Q], one row a seed, the same problems in each. Of a single seed there is the question bootstrap and
            the sign-flip test, which say nothing of other seeds.
    """
    import numpy as np

    if len(values) == 1:
        return Pooled(mean=scoring.mean(values[0]), p=scoring.paired_p(values[0]))
    data: Floats = np.asarray(values, dtype=np.float64)  # [S, Q]
    mean = float(data.mean())
    if data.shape[1] < 2:
        return Pooled(mean=Metric(value=mean), p=1.0)
    variance, dof = _variance(data)
    if variance == 0:
        return Pooled(mean=Metric(value=mean, low=mean, high=mean), p=float(mean == 0))
    standard_error = math.sqrt(variance)
    width = _root(lambda t: _t_share_below(t, dof) - 0.975) * standard_error
    p = 2 * (1 - _t_share_below(abs(mean) / standard_error, dof))
    return Pooled(mean=Metric(value=mean, low=mean - width, high=mean + width), p=min(max(p, 0.0), 1.0))


def ratio(numerators: Sequence[Sequence[float]], denominators: Sequence[Sequence[float]]) -> Metric:
    """mean(numerators) / mean(denominators) with the interval of its linearisation; both [S][Q].

    Source: the delta method; Cochran 1977, "Sampling Techniques", section 6.3.
    """
    import numpy as np

    y: Floats = np.asarray(numerators, dtype=np.float64)
    x: Floats = np.asarray(denominators, dtype=np.float64)
    if not x.mean():
        return Metric(value=0.0)  # JSON has no NaN
    value = float(y.mean() / x.mean())
    return pooled((value + (y - value * x) / x.mean()).tolist()).mean


def _variance(data: Floats) -> tuple[float, float]:
    """The variance of the mean of [S, Q], and its degrees of freedom."""
    seeds, problems = data.shape
    by_seed = data.mean(axis=1, keepdims=True)
    by_problem = data.mean(axis=0, keepdims=True)
    mean = data.mean()
    residuals = data - by_seed - by_problem + mean
    e = float((residuals**2).sum()) / ((seeds - 1) * (problems - 1))
    a = max(problems * float(((by_seed - mean) ** 2).sum()) / (seeds - 1), e)
    b = max(seeds * float(((by_problem - mean) ** 2).sum()) / (problems - 1), e)
    if a + b - e <= 1e-12 * float((data**2).sum()):  # rounding
        return 0.0, 1.0
    spread = a**2 / (seeds - 1) + b**2 / (problems - 1) + e**2 / ((seeds - 1) * (problems - 1))
    return (a + b - e) / (seeds * problems), (a + b - e) ** 2 / spread


def _t_share_below(t: float, dof: float) -> float:
    """Share of a t distribution below t ≥ 0; with t = √ν tan θ its density is that of cos^(ν−1) θ."""
    import numpy as np

    angles = np.linspace(0.0, math.atan(t / math.sqrt(dof)), _STEPS + 1)
    heights = np.cos(angles) ** (dof - 1)
    area = (heights[0] + heights[-1] + 4 * heights[1::2].sum() + 2 * heights[2:-1:2].sum()) * angles[1] / 3
    total_area = math.exp(math.lgamma(dof / 2) - math.lgamma((dof + 1) / 2)) * math.sqrt(math.pi)
    return 0.5 + float(area) / total_area


def _root(rising: Callable[[float], float]) -> float:
    """Where a rising function of t ≥ 0 is 0."""
    low = 0.0
    high = 1.0
    while rising(high) < 0:
        low = high
        high *= 2
    for _ in range(50):
        middle = (low + high) / 2
        if rising(middle) < 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2
