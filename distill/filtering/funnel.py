"""Counts for people: what each check rejects, alone and first, by set and by length, with examples to read."""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict

from distill.filtering.ledger import LedgerEntry
from distill.types import Outcome, Record

_LENGTHS = (1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000)
"""Upper bounds of the bins by length, characters of the completion."""


class CheckCounts(Record):
    """What one check rejects."""

    check: str
    rejects: int
    only: int
    """Traces that no other check rejects."""
    left: int
    """Traces that neither this check nor one before it rejects."""
    reasons: dict[str, int]


class GroupCounts(Record):
    """What becomes of the traces of one set or of one range of lengths."""

    traces: int
    kept: int
    """Traces in the set to train on."""
    rejects: dict[str, int]
    """Traces that each check rejects."""


def decide(entry: LedgerEntry) -> Outcome:
    """False if any check rejects, else undecidable if any is, else accepted; all reasons are in `detail`."""
    rejects = [f"{name}:{outcome.reason}" for name, outcome in entry.outcomes.items() if outcome.passed is False]
    undecided = [f"{name}:{outcome.reason}" for name, outcome in entry.outcomes.items() if outcome.passed is None]
    reasons = rejects or undecided
    passed: bool | None = True
    if rejects:
        passed = False
    elif undecided:
        passed = None
    return Outcome(passed=passed, reason=reasons[0] if reasons else "", detail=" ".join(rejects + undecided))


def final_decision(entry: LedgerEntry, unfiltered: bool) -> Outcome:
    """Whether the trace is in the set, and why not."""
    decision = decide(entry)
    if entry.is_kept:
        return decision.model_copy(update={"passed": True, "reason": ""})
    if decision.passed or unfiltered:
        reason = "not_drawn" if unfiltered else "not_selected"
        return decision.model_copy(update={"passed": False, "reason": reason})
    return decision


class Funnel:
    """Fed with every trace once; `summary()` goes into funnel.json.

    Args:
        example_count: how many kept and how many rejected traces of each reason to name.
    """

    def __init__(self, checks: list[str], example_count: int) -> None:
        self._example_count = example_count
        self._total = 0
        self._accepted = 0
        self._undecidable = 0
        self._kept = 0
        self._reasons: dict[str, Counter[str]] = {name: Counter() for name in checks}
        self._rejected_alone: Counter[str] = Counter()
        self._rejected_first: Counter[str] = Counter()
        self._by_set: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._by_length: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self._examples: dict[str, list[str]] = {}

    def add(self, entry: LedgerEntry) -> None:
        not_passed = [(name, outcome) for name, outcome in entry.outcomes.items() if outcome.passed is not True]
        rejecting = [name for name, outcome in not_passed if outcome.passed is False]
        self._total += 1
        self._accepted += not not_passed
        self._undecidable += bool(not_passed) and not rejecting
        self._kept += entry.is_kept
        if rejecting:
            self._rejected_first[rejecting[0]] += 1
        if len(rejecting) == 1:
            self._rejected_alone[rejecting[0]] += 1
        for counts in (
            self._by_set[entry.problem_set],
            self._by_length[bisect.bisect_left(_LENGTHS, entry.characters)],
        ):
            counts["traces"] += 1
            counts["kept"] += entry.is_kept
            for name in rejecting:
                counts[name] += 1
        for name, outcome in not_passed:
            if outcome.passed is False:
                self._reasons[name][outcome.reason] += 1
            self._add_example(f"{name}:{outcome.reason}", entry.id)
        if entry.is_kept and not not_passed:
            self._add_example("kept", entry.id)

    def _add_example(self, label: str, id: str) -> None:
        """Keep the smallest ids: they are hashes, so that is a draw, and the same one every time."""
        examples = self._examples.setdefault(label, [])
        if len(examples) < self._example_count or (examples and id < examples[-1]):
            bisect.insort(examples, id)
            del examples[self._example_count :]

    def summary(self) -> dict[str, object]:
        """The counts that the summary of the filter stage begins with."""
        remaining = self._total
        checks: list[CheckCounts] = []
        for name, reasons in self._reasons.items():
            remaining -= self._rejected_first[name]
            checks.append(
                CheckCounts(
                    check=name,
                    rejects=reasons.total(),
                    only=self._rejected_alone[name],
                    left=remaining,
                    reasons=dict(reasons.most_common()),
                )
            )
        bounds = [*(f"≤ {bound:,}" for bound in _LENGTHS), f"> {_LENGTHS[-1]:,}"]
        return {
            "traces": self._total,
            "checks": tuple(checks),
            "undecidable": self._undecidable,
            "accepted": self._accepted,
            "kept": self._kept,
            "by_set": {name: self._summarize(counts) for name, counts in sorted(self._by_set.items())},
            "by_length": {
                bounds[length_bin]: self._summarize(counts) for length_bin, counts in sorted(self._by_length.items())
            },
            "examples": dict(sorted(self._examples.items())),
        }

    def _summarize(self, counts: Counter[str]) -> GroupCounts:
        rejects = {name: counts[name] for name in self._reasons if counts[name]}
        return GroupCounts(traces=counts["traces"], kept=counts["kept"], rejects=rejects)
