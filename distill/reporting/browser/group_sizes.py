"""How many traces of each group a page shows: a floor for each, the rest in proportion."""

from __future__ import annotations

from collections.abc import Sequence

MIN_PER_GROUP = 20
"""Traces taken of each group, or all of a smaller one, while that is at most half of the sample."""


def sample_sizes(sizes: Sequence[int], max_traces: int) -> list[int]:
    """How many traces to take of groups of these sizes, `max_traces` in all.

    `MIN_PER_GROUP` of each group (or all of it) come first, the rest in proportion. What proportions leave over goes to
    the largest remainders, then to the first groups.
    """
    floor = min(MIN_PER_GROUP, max_traces // max(1, 2 * len(sizes)))
    floor_shares = [min(size, floor) for size in sizes]
    remaining_sizes = [size - share for size, share in zip(sizes, floor_shares, strict=True)]
    remaining_budget = max_traces - sum(floor_shares)
    remaining_total = sum(remaining_sizes)
    if remaining_total <= remaining_budget:
        return list(sizes)
    quotas = [divmod(remaining_budget * size, remaining_total) for size in remaining_sizes]
    leftover = remaining_budget - sum(quota for quota, _ in quotas)
    rounded_up = set(sorted(range(len(sizes)), key=lambda index: (-quotas[index][1], index))[:leftover])
    return [
        share + quota + (index in rounded_up)
        for index, (share, (quota, _)) in enumerate(zip(floor_shares, quotas, strict=True))
    ]
