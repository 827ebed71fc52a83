"""Which of the accepted traces to train on: a cap per problem, a way to pick, a total that leans to hard problems."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

from pydantic import Field

from distill.filtering.ledger import Ledger
from distill.filtering.problems import ProblemIndex
from distill.types import Record


class Selection(Record):
    """Recipe settings `filter.select`."""

    per_problem: int | None = Field(None, ge=1)
    """Most accepted traces of one problem that are taken; None takes all."""
    pick: Literal["first", "shortest", "random", "diverse"] = "first"
    """Which accepted traces of a problem to take: the lowest sample indices; the fewest tokens (characters where no
    check counts tokens); any; or those that share the fewest words with the ones taken before."""
    rows: int | None = Field(None, ge=1)
    """Most traces in all, drawn with the weights that `difficulty` gives; None takes all."""
    difficulty: float = Field(0.0, ge=0)
    """Power to which (1 − the pass rate of its problem) is raised for a trace's weight in the draw of `rows`; 0 draws
    all alike (Kimi k1.5 §2.3.4 samples problems in proportion to 1 − success)."""


@dataclass(frozen=True, slots=True)
class _AcceptedTrace:
    number: int
    id: str
    sample: int
    size: int
    """Tokens, or characters where no check counts tokens."""


def select(
    ledger: Ledger, problems: ProblemIndex, selection: Selection, seed: int, unfiltered: bool
) -> Iterator[tuple[int, bytes]]:
    """(number, order key) of the traces to train on; keys order the set by content, not by who was sampled first.

    Args:
        unfiltered: draw as many as would be chosen from all traces, accepted or not.
    """
    chosen = _weighted(_capped(ledger, problems, selection, seed), selection, seed)
    if unfiltered:
        target_count = sum(1 for _ in chosen)
        keyed = ((order_key(seed, id), number) for _, _, id, number in ledger.rows("number"))
        yield from ((number, key) for key, number in heapq.nsmallest(target_count, keyed))
    else:
        yield from ((number, order_key(seed, id)) for number, id in chosen)


def order_key(seed: int, id: str) -> bytes:
    """Key by which a trace is ordered in the set: a hash, so that neighbours have nothing in common."""
    return blake2b(f"{seed}:{id}".encode(), digest_size=12).digest()


def _capped(
    ledger: Ledger, problems: ProblemIndex, selection: Selection, seed: int
) -> Iterator[tuple[list[_AcceptedTrace], float]]:
    """The picked traces of each problem and its pass rate: by the check `correct` if that is on, else by acceptance."""
    all_rows = ledger.rows("number, rejects, unsure, coalesce(tokens, characters)")
    mask = -1
    if "correct" in ledger.check_names:
        mask = 1 << list(ledger.check_names).index("correct")
    for _, rows in itertools.groupby(all_rows, key=lambda row: row[0]):
        accepted = []
        correct = 0
        decided = 0
        for _, sample, id, number, rejects, unsure, size in rows:
            decided += not unsure & mask
            correct += not (rejects | unsure) & mask
            if not rejects | unsure:
                accepted.append(_AcceptedTrace(number, id, sample, size))
        if accepted:
            yield _pick(accepted, ledger, problems, selection, seed), correct / max(1, decided)


def _pick(
    accepted: list[_AcceptedTrace], ledger: Ledger, problems: ProblemIndex, selection: Selection, seed: int
) -> list[_AcceptedTrace]:
    if selection.per_problem is None or len(accepted) <= selection.per_problem:
        return accepted
    if selection.pick == "diverse":
        loaded = ledger.load((candidate.number for candidate in accepted), problems)
        words_by_number = {number: set(trace.completion.split()) for number, _, trace in loaded}
        return _diverse(accepted, words_by_number, selection.per_problem)
    orders: dict[str, Callable[[_AcceptedTrace], tuple[int | str | bytes, ...]]] = {
        "first": lambda candidate: (candidate.sample, candidate.id),
        "shortest": lambda candidate: (candidate.size, candidate.id),
        "random": lambda candidate: (order_key(seed, candidate.id),),
    }
    return sorted(accepted, key=orders[selection.pick])[: selection.per_problem]


def _diverse(accepted: list[_AcceptedTrace], words_by_number: dict[int, set[str]], count: int) -> list[_AcceptedTrace]:
    """Farthest first: begin with the first, then always take the trace whose nearest taken one is the least like it."""
    chosen = accepted[:1]
    remaining = accepted[1:]
    nearest = dict.fromkeys((candidate.number for candidate in remaining), 0.0)
    while len(chosen) < count:
        last_words = words_by_number[chosen[-1].number]
        for candidate in remaining:
            similarity = _jaccard(words_by_number[candidate.number], last_words)
            nearest[candidate.number] = max(nearest[candidate.number], similarity)
        chosen.append(min(remaining, key=lambda trace: (nearest[trace.number], trace.sample, trace.id)))
        remaining.remove(chosen[-1])
    return chosen


def _jaccard(first: set[str], second: set[str]) -> float:
    """Jaccard index of two sets of words."""
    return len(first & second) / max(1, len(first | second))


def _weighted(
    groups: Iterable[tuple[list[_AcceptedTrace], float]], selection: Selection, seed: int
) -> Iterator[tuple[int, str]]:
    """Draw `rows` without replacement in proportion to the weights.

    Each trace gets the key log(u) / weight with u uniform from its hash, and the largest keys win (Efraimidis and
    Spirakis 2006, "Weighted random sampling with a reservoir"). A problem that is always solved keeps a small weight.
    """
    rated = ((trace, rate) for group, rate in groups for trace in group)
    if selection.rows is None:
        yield from ((trace.number, trace.id) for trace, _ in rated)
        return

    def sort_key(trace: _AcceptedTrace, rate: float) -> float:
        uniform = (int.from_bytes(order_key(seed, trace.id)[:6], "big") + 1) / (2**48 + 1)
        return math.log(uniform) / float(max(1 - rate, 0.01) ** selection.difficulty)

    drawn = heapq.nlargest(selection.rows, ((sort_key(trace, rate), trace.id, trace.number) for trace, rate in rated))
    yield from ((number, id) for _, id, number in drawn)
