"""Which of the accepted traces to train on: a cap per problem, a way to pick, a total that leans to hard problems."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal

from pydantic import Field

from distill.filtering.ledger import Ledger
from distill.filtering.problems import Problems
from distill.types import Record


class Selection(Record):
    """Recipe settings `filter.select`."""

    per_problem: int | None = Field(None, ge=1)
    """At most so many accepted traces of one problem."""
    pick: Literal["first", "shortest", "random", "diverse"] = "first"
    """Which of them: the lowest sample indices; the fewest tokens (characters where no check counts tokens); any;
    or those that share the fewest words with the ones taken before."""
    rows: int | None = Field(None, ge=1)
    """At most so many traces in all, drawn with the weights that `difficulty` gives."""
    difficulty: float = Field(0.0, ge=0)
    """Weight of a trace: (1 − the pass rate of its problem) to this power; 0 draws all alike (Kimi k1.5 §2.3.4 samples
    problems in proportion to 1 − success)."""


@dataclass(frozen=True, slots=True)
class _Accepted:
    number: int
    id: str
    sample: int
    size: int


def select(
    ledger: Ledger, problems: Problems, how: Selection, seed: int, unfiltered: bool
) -> Iterator[tuple[int, bytes]]:
    """(number, place) of the traces to train on; places order the set by content, not by who was sampled first.

    Args:
        unfiltered: draw as many as would be chosen from all traces, accepted or not.
    """
    chosen = _weighted(_capped(ledger, problems, how, seed), how, seed)
    if unfiltered:
        wanted = sum(1 for _ in chosen)
        everything = ((place(seed, id), number) for _, _, id, number in ledger.rows("number"))
        yield from ((number, key) for key, number in heapq.nsmallest(wanted, everything))
    else:
        yield from ((number, place(seed, id)) for number, id in chosen)


def place(seed: int, id: str) -> bytes:
    """Where a trace comes in the set: by a hash, so that neighbours have nothing in common."""
    return blake2b(f"{seed}:{id}".encode(), digest_size=12).digest()


def _capped(ledger: Ledger, problems: Problems, how: Selection, seed: int) -> Iterator[tuple[list[_Accepted], float]]:
    """The picked traces of each problem and its pass rate: by the check `correct` if that is on, else by acceptance."""
    every = ledger.rows("number, rejects, unsure, coalesce(tokens, characters)")
    mask = 1 << list(ledger.names).index("correct") if "correct" in ledger.names else -1
    for _, rows in itertools.groupby(every, key=lambda row: row[0]):
        accepted, right, decided = [], 0, 0
        for _, sample, id, number, rejects, unsure, size in rows:
            decided += not unsure & mask
            right += not (rejects | unsure) & mask
            if not rejects | unsure:
                accepted.append(_Accepted(number, id, sample, size))
        if accepted:
            yield _pick(accepted, ledger, problems, how, seed), right / max(1, decided)


def _pick(accepted: list[_Accepted], ledger: Ledger, problems: Problems, how: Selection, seed: int) -> list[_Accepted]:
    if how.per_problem is None or len(accepted) <= how.per_problem:
        return accepted
    if how.pick == "diverse":
        texts = ledger.load((one.number for one in accepted), problems)
        return _diverse(
            accepted, {number: set(trace.completion.split()) for number, _, trace in texts}, how.per_problem
        )
    orders: dict[str, Callable[[_Accepted], tuple[Any, ...]]] = {
        "first": lambda one: (one.sample, one.id),
        "shortest": lambda one: (one.size, one.id),
        "random": lambda one: (place(seed, one.id),),
    }
    return sorted(accepted, key=orders[how.pick])[: how.per_problem]


def _diverse(accepted: list[_Accepted], words: dict[int, set[str]], count: int) -> list[_Accepted]:
    """Farthest first: begin with the first, then always take the trace whose nearest taken one is the least like it."""
    taken, left = accepted[:1], accepted[1:]
    nearest = dict.fromkeys((one.number for one in left), 0.0)
    while len(taken) < count:
        last = words[taken[-1].number]
        for one in left:
            nearest[one.number] = max(nearest[one.number], _likeness(words[one.number], last))
        taken.append(min(left, key=lambda one: (nearest[one.number], one.sample, one.id)))
        left.remove(taken[-1])
    return taken


def _likeness(left: set[str], right: set[str]) -> float:
    """Jaccard index of two sets of words."""
    return len(left & right) / max(1, len(left | right))


def _weighted(groups: Iterable[tuple[list[_Accepted], float]], how: Selection, seed: int) -> Iterator[tuple[int, str]]:
    """Draw `rows` without replacement in proportion to the weights.

    Each trace gets the key log(u) / weight with u uniform from its hash, and the largest keys win (Efraimidis and
    Spirakis 2006, "Weighted random sampling with a reservoir"). A problem that is always solved keeps a small weight.
    """
    everything = ((one, rate) for group, rate in groups for one in group)
    if how.rows is None:
        yield from ((one.number, one.id) for one, _ in everything)
        return

    def key(one: _Accepted, rate: float) -> float:
        uniform = (int.from_bytes(place(seed, one.id)[:6], "big") + 1) / (2**48 + 1)
        return math.log(uniform) / float(max(1 - rate, 0.01) ** how.difficulty)

    drawn = heapq.nlargest(how.rows, ((key(one, rate), one.id, one.number) for one, rate in everything))
    yield from ((number, id) for _, id, number in drawn)
