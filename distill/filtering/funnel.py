"""Counts for people: what each check rejects, alone and first, by set and by length, with examples to read."""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from typing import Any

from distill.filtering.ledger import Entry
from distill.types import Verdict

_LENGTHS = (1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000)
"""Upper bounds of the bins by length, characters of the completion."""


def decide(entry: Entry) -> Verdict:
    """False if any check rejects, else undecidable if any is, else accepted; all reasons are in `detail`."""
    rejects = [f"{name}:{word.reason}" for name, word in entry.outcomes.items() if word.passed is False]
    unsure = [f"{name}:{word.reason}" for name, word in entry.outcomes.items() if word.passed is None]
    reasons = rejects or unsure
    return Verdict(
        trace_id=entry.id,
        check="decision",
        passed=False if rejects else None if unsure else True,
        reason=reasons[0] if reasons else "",
        detail=" ".join(rejects + unsure),
    )


def last_word(entry: Entry, unfiltered: bool) -> Verdict:
    """Whether the trace is in the set, and why not."""
    decision = decide(entry)
    if entry.kept:
        return decision.model_copy(update={"passed": True, "reason": ""})
    if decision.passed or unfiltered:
        reason = "not_drawn" if unfiltered else "not_selected"
        return decision.model_copy(update={"passed": False, "reason": reason})
    return decision


class Funnel:
    """Fed with every trace once; `summary()` is funnel.json.

    Args:
        examples: how many kept and how many rejected traces of each reason to name.
    """

    def __init__(self, checks: list[str], examples: int) -> None:
        self._size = examples
        self._total = self._accepted = self._undecidable = self._kept = 0
        self._reasons: dict[str, Counter[str]] = {name: Counter() for name in checks}
        self._only: Counter[str] = Counter()
        self._first: Counter[str] = Counter()
        self._sets: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._lengths: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self._examples: dict[str, list[str]] = {}

    def add(self, entry: Entry) -> None:
        faults = [(name, word) for name, word in entry.outcomes.items() if word.passed is not True]
        rejecting = [name for name, word in faults if word.passed is False]
        self._total += 1
        self._accepted += not faults
        self._undecidable += bool(faults) and not rejecting
        self._kept += entry.kept
        if rejecting:
            self._first[rejecting[0]] += 1
        if len(rejecting) == 1:
            self._only[rejecting[0]] += 1
        for counts in (self._sets[entry.family], self._lengths[bisect.bisect_left(_LENGTHS, entry.characters)]):
            counts["traces"] += 1
            counts["kept"] += entry.kept
            for name in rejecting:
                counts[name] += 1
        for name, word in faults:
            if word.passed is False:
                self._reasons[name][word.reason] += 1
            self._exemplify(f"{name}:{word.reason}", entry.id)
        if entry.kept and not faults:
            self._exemplify("kept", entry.id)

    def _exemplify(self, reason: str, id: str) -> None:
        """Keep the smallest ids: they are hashes, so that is a draw, and the same one every time."""
        examples = self._examples.setdefault(reason, [])
        if len(examples) < self._size or (examples and id < examples[-1]):
            bisect.insort(examples, id)
            del examples[self._size :]

    def summary(self) -> dict[str, Any]:
        left = self._total
        checks = []
        for name, reasons in self._reasons.items():
            left -= self._first[name]
            checks.append(
                {
                    "check": name,
                    "rejects": reasons.total(),
                    "only": self._only[name],
                    "left": left,
                    "reasons": dict(reasons.most_common()),
                }
            )
        bounds = [*(f"≤ {bound:,}" for bound in _LENGTHS), f"> {_LENGTHS[-1]:,}"]
        return {
            "traces": self._total,
            "checks": checks,
            "undecidable": self._undecidable,
            "accepted": self._accepted,
            "kept": self._kept,
            "by_set": {name: self._share(counts) for name, counts in sorted(self._sets.items())},
            "by_length": {bounds[bin]: self._share(counts) for bin, counts in sorted(self._lengths.items())},
            "examples": dict(sorted(self._examples.items())),
        }

    def _share(self, counts: Counter[str]) -> dict[str, Any]:
        """Traces, how many are in the set, and how many each check rejects."""
        rejects = {name: counts[name] for name in self._reasons if counts[name]}
        return {"traces": counts["traces"], "kept": counts["kept"], "rejects": rejects}


def worst(summary: dict[str, Any]) -> str:
    """The commonest reason for rejecting, as `check:reason`."""
    counts = {f"{c['check']}:{reason}": n for c in summary["checks"] for reason, n in c["reasons"].items()}
    return max(counts, key=lambda reason: counts[reason]) if counts else "nothing to judge"
