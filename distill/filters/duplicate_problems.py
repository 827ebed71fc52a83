"""Duplicate problems: no problem is another one over again, word for word or nearly.

Compared is the prompt without what many prompts share (instructions, templates): runs of words that occur in a large
share of all problems do not count. Numbers, number words and signs must agree one by one, since the same story with
other numbers is another problem. All traces of the later problem are rejected, problems taken by id; a problem of which
nothing else is kept makes no other a duplicate.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from pydantic import Field

from distill.filters import PASS, Candidates, Context, SetFilter
from distill.text.hashes import among, ngrams, sequence
from distill.text.minhash import Match, repeats, signatures
from distill.text.tokens import DIGITS, SIGN, tokens
from distill.types import Outcome, Problem, Record, Trace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_KEPT = 240  # hashes of a long problem that are compared, the smallest: a fair sample of its runs; 4 bytes each
_COMMON = 20  # problems that share a run at least before it counts as common
_BATCH = 4096  # problems whose signatures are made at once
_NUMBERS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million once twice
thrice half third quarter fourth fifth thirds quarters double triple dozen 一二三四五六七八九十百千万两半倍"""


class Config(Record):
    similarity: float = Field(0.85, ge=0.5, le=1)
    """Jaccard similarity of the sets of runs from which on problems are near duplicates."""
    words: int = Field(3, ge=1, le=20)
    """Length of the runs, in words; in scripts without blanks, in letters."""
    numbers: bool = True
    """Numbers, number words and signs of near duplicates must agree, in order."""
    common: float = Field(0.05, gt=0, le=1)
    """Share of the problems from which on a run of words is a template's, if more than 20 have it."""


class DuplicateProblems:
    def __init__(self, config: Config) -> None:
        self._config = config
        self._feature = lru_cache(maxsize=1024)(self._describe)

    def __call__(self, problem: Problem, trace: Trace) -> Outcome:
        return PASS

    def feature(self, problem: Problem, trace: Trace) -> bytes | None:
        """Hash of all words, hash of the numbers, hashes of runs: 976 bytes at most; None if there is no word."""
        return self._feature("\n\n".join(message.content for message in problem.messages))

    def _describe(self, text: str) -> bytes | None:
        import numpy as np

        words = tokens(text)
        if not len(words):
            return None
        figures = (words.kinds == DIGITS) | (words.kinds == SIGN) | among(words.hashes, _number_words())
        numbers = sequence(words.hashes[figures]) if self._config.numbers else 0
        runs = ngrams(words.hashes, min(self._config.words, len(words)))
        kept = np.unique((runs >> np.uint64(32)).astype("<u4"))[:_KEPT]
        return np.array([sequence(words.hashes), numbers], "<u8").tobytes() + kept.tobytes()

    def settle(self, candidates: Candidates) -> Iterator[tuple[int, Outcome]]:
        found = {row: (of, similarity) for row, of, similarity in self._matches(candidates)}
        if not found:  # the ledger of many traces is not read for nothing
            return
        needed = {of for of, _ in found.values()}
        names: dict[int, str] = {}
        row, last = -1, None
        for candidate in candidates:
            if candidate.problem_id != last:
                row, last = row + 1, candidate.problem_id
                if row in needed:
                    names[row] = last
            if row in found:  # what it repeats came before
                of, similarity = found[row]
                detail = f"of problem {names[of]}, similarity {similarity:.2f}"
                yield (
                    candidate.number,
                    Outcome(passed=False, reason="duplicate_problem", score=round(similarity, 4), detail=detail),
                )

    def _matches(self, candidates: Candidates) -> Iterator[Match]:
        import numpy as np

        exact, apart, sizes = array("Q"), array("Q"), array("Q")
        runs, fit = bytearray(), bytearray()
        last = None
        for candidate in candidates:
            if candidate.problem_id == last:
                fit[-1] |= candidate.fit
                continue
            last = candidate.problem_id
            # a problem without a word repeats none: its own id stands for its words
            feature = candidate.feature or sequence(tokens(last).hashes).to_bytes(16, "little")
            exact.append(int.from_bytes(feature[:8], "little"))
            apart.append(int.from_bytes(feature[8:16], "little"))
            sizes.append(len(feature[16:]) // 4)
            runs += feature[16:]
            fit.append(candidate.fit)
        members, offsets = _without_common(
            np.frombuffer(runs, "<u4"), np.frombuffer(sizes, np.uint64), self._config.common
        )

        def similar(row: int, others: list[int]) -> list[float]:
            mine = members[offsets[row] : offsets[row + 1]]
            return [_jaccard(mine, members[offsets[other] : offsets[other + 1]]) for other in others]

        batches = (slice(at, at + _BATCH + 1) for at in range(0, len(sizes), _BATCH))
        rows = [signatures(*_part(members, offsets[batch])) for batch in batches]
        yield from repeats(
            np.frombuffer(exact, np.uint64),
            np.concatenate(rows) if rows else np.empty((0, 0), np.uint32),
            np.frombuffer(fit, np.bool_),
            similar,
            self._config.similarity,
            np.frombuffer(apart, np.uint64),
        )


def _without_common(
    runs: NDArray[np.uint32], sizes: NDArray[np.uint64], share: float
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Drop runs that too many problems have: those left, one problem after the other, and where each one's begin."""
    import numpy as np

    values, places, counts = np.unique(runs, return_inverse=True, return_counts=True)
    rare = (counts <= max(_COMMON, share * len(sizes)))[places] if len(values) else np.empty(0, np.bool_)
    left = np.concatenate([np.zeros(1, np.uint64), np.cumsum(rare, dtype=np.uint64)])
    ends = np.concatenate([np.zeros(1, np.uint64), np.cumsum(sizes, dtype=np.uint64)])
    return runs[rare].astype(np.uint64), left[ends]


def _part(members: NDArray[np.uint64], offsets: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    return members[offsets[0] : offsets[-1]], offsets - offsets[0]


def _jaccard(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> float:
    """Similarity of two sorted sets; of the smallest hashes in both where a set was cut to those."""
    import numpy as np

    if not len(one) or not len(other):
        return 0.0
    bound = min((s[-1] for s in (one, other) if len(s) >= _KEPT), default=max(one[-1], other[-1]))
    one, other = one[one <= bound], other[other <= bound]
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / max(1, len(one) + len(other) - common)


@cache
def _number_words() -> NDArray[np.uint64]:
    import numpy as np

    return np.sort(tokens(_NUMBERS).hashes)


def build(config: Config, context: Context) -> SetFilter:
    return DuplicateProblems(config)
