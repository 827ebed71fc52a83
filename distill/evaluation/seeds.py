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
from collections.abc import Sequence
from typing import TYPE_CHECKING

from distill.evaluation import scoring
from distill.types import Metric, Record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


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
    from scipy import special

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
    width = float(special.stdtrit(dof, 0.975)) * standard_error
    p = 2 * float(special.stdtr(dof, -abs(mean) / standard_error))
    return Pooled(mean=Metric(value=mean, low=mean - width, high=mean + width), p=p)


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
