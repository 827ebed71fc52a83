"""How often the teacher solves each problem, as far as the sampling can tell."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from distill.errors import InputError
from distill.run import Run
from distill.store import jsonl

BINS = ("0", "", "10", "20", "30", "40", "50", "60", "70", "80", "90", "100")
"""Percent: exactly none, then tenths from above the one number up to the next, then exactly all."""
ENDINGS = {
    "all": "all samples drawn",
    "enough": "stopped at enough correct ones",
    "given_up": "given up, none correct",
}


@dataclass(frozen=True)
class PassRates:
    """How often the teacher solves the problems of a run."""

    problems: int
    """Problems that were sampled."""
    solved: int
    """Problems with at least one correct sample."""
    samples: tuple[int, int]
    """The fewest and the most samples of a problem that count."""
    problems_by_ending: dict[str, list[int]]
    """Problems in each of the BINS, by how the sampling ended."""
    mean_rate: float
    """The mean pass rate over the problems."""


def read(run: Run) -> PassRates | None:
    """Read pass_rates.jsonl; None where there is none. Of a problem that was sampled further the last row counts.

    Raises:
        InputError: a row is not what it should be.
    """
    if not jsonl.exists(run.rates):
        return None
    rows: dict[str, tuple[int, int, float, str]] = {}  # by problem: samples, correct ones, pass rate, how it ended
    try:
        for _, row in jsonl.rows(run.rates):
            rows[row["problem_id"]] = (row["samples"], row["correct"], row["pass_rate"], row["ended"])
    except KeyError as error:
        fix = "the file was edited or written by another version of distill"
        raise InputError(f"a row has no {error}", where=str(run.rates), fix=fix) from error
    if not rows:
        return None
    bins_by_ending: dict[str, Counter[int]] = {name: Counter() for name in ENDINGS}
    for _, _, rate, ended in rows.values():
        bins_by_ending.setdefault(ended, Counter())[_bin_number(rate)] += 1
    sample_counts = [samples for samples, _, _, _ in rows.values()]
    return PassRates(
        problems=len(rows),
        solved=sum(correct > 0 for _, correct, _, _ in rows.values()),
        samples=(min(sample_counts), max(sample_counts)),
        problems_by_ending={
            ENDINGS.get(name, name): [bins[i] for i in range(len(BINS))] for name, bins in bins_by_ending.items()
        },
        mean_rate=sum(rate for _, _, rate, _ in rows.values()) / len(rows),
    )


def _bin_number(rate: float) -> int:
    """0 for none, 11 for all, and 1 to 10 for (0, 0.1], …, (0.9, 1)."""
    if rate <= 0:
        return 0
    if rate >= 1:
        return len(BINS) - 1
    return 1 + min(9, int(max(0.0, rate * 10 - 1e-9)))
