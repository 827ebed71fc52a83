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

from distill.filters import PASS, Candidates, Context, Filter
from distill.text.hashes import is_among, ngrams, sequence_hash
from distill.text.minhash import Repeat, find_repeats, signatures
from distill.text.tokens import DIGITS, SIGN, tokens
from distill.types import Outcome, Problem, Record, Trace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MAX_RUNS = 240  # hashes of a long problem that are compared, the smallest: a fair sample of its runs; 4 bytes each
_MIN_COMMON = 20  # problems that share a run at least before it counts as common
_BATCH = 4096  # problems whose signatures are made at once
_NUMBERS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million once twice
thrice half third quarter fourth fifth thirds quarters double triple dozen 一二三四五六七八九十百千万两半倍"""


class Config(Record):
    similarity: float = Field(0.85, ge=0.5, le=1)
    """Jaccard similarity of the sets of runs from which on problems are near duplicates."""
    words: int = Field(3, ge=1, le=20)
    """Length of the runs that are compared, in words; in scripts without blanks, in letters."""
    numbers: bool = True
    """Whether numbers, number words and signs of near duplicates must agree, in order."""
    common: float = Field(0.05, gt=0, le=1)
    """Share of the problems from which on a run of words is a template's, if more than 20 have it."""


class DuplicateProblems(Filter):
    def __init__(self, config: Config) -> None:
        self._config = config
        self._described = lru_cache(maxsize=1024)(self._describe)

    def __call__(self, problem: Problem, trace: Trace) -> Outcome:
        return PASS

    def feature(self, problem: Problem, trace: Trace) -> bytes | None:
        """Hash of all words, hash of the numbers, hashes of runs: 976 bytes at most; None if there is no word."""
        return self._described("\n\n".join(message.content for message in problem.messages))

    def _describe(self, text: str) -> bytes | None:
        import numpy as np

        words = tokens(text)
        if not len(words):
            return None
        is_numeric = (words.kinds == DIGITS) | (words.kinds == SIGN) | is_among(words.hashes, _number_words())
        numbers = sequence_hash(words.hashes[is_numeric]) if self._config.numbers else 0
        runs = ngrams(words.hashes, min(self._config.words, len(words)))
        smallest_runs = np.unique((runs >> np.uint64(32)).astype("<u4"))[:_MAX_RUNS]
        return np.array([sequence_hash(words.hashes), numbers], "<u8").tobytes() + smallest_runs.tobytes()

    def settle(self, candidates: Candidates) -> Iterator[tuple[int, Outcome]]:
        matches = {row: (original, similarity) for row, original, similarity in self._matches(candidates)}
        if not matches:  # the ledger of many traces is not read for nothing
            return
        needed = {original for original, _ in matches.values()}
        names: dict[int, str] = {}
        row = -1
        problem_id = None
        for candidate in candidates:
            if candidate.problem_id != problem_id:
                row += 1
                problem_id = candidate.problem_id
                if row in needed:
                    names[row] = problem_id
            if row in matches:  # what it repeats came before
                original, similarity = matches[row]
                detail = f"of problem {names[original]}, similarity {similarity:.2f}"
                yield (
                    candidate.number,
                    Outcome(passed=False, reason="duplicate_problem", score=round(similarity, 4), detail=detail),
                )

    def _matches(self, candidates: Candidates) -> Iterator[Repeat]:
        import numpy as np

        exact = array("Q")
        numbers = array("Q")
        sizes = array("Q")
        runs = bytearray()
        fit = bytearray()
        problem_id = None
        for candidate in candidates:
            if candidate.problem_id == problem_id:
                fit[-1] |= candidate.passes_others
                continue
            problem_id = candidate.problem_id
            # a problem without a word repeats none: its own id stands for its words
            feature = candidate.feature or sequence_hash(tokens(problem_id).hashes).to_bytes(16, "little")
            exact.append(int.from_bytes(feature[:8], "little"))
            numbers.append(int.from_bytes(feature[8:16], "little"))
            sizes.append(len(feature[16:]) // 4)
            runs += feature[16:]
            fit.append(candidate.passes_others)
        members, offsets = _without_common(
            np.frombuffer(runs, "<u4"), np.frombuffer(sizes, np.uint64), self._config.common
        )

        def similar(row: int, other_rows: list[int]) -> list[float]:
            own_runs = members[offsets[row] : offsets[row + 1]]
            return [_jaccard(own_runs, members[offsets[other] : offsets[other + 1]]) for other in other_rows]

        batches = (slice(start, start + _BATCH + 1) for start in range(0, len(sizes), _BATCH))
        rows = [signatures(*_rebased(members, offsets[batch])) for batch in batches]
        yield from find_repeats(
            np.frombuffer(exact, np.uint64),
            np.concatenate(rows) if rows else np.empty((0, 0), np.uint32),
            np.frombuffer(fit, np.bool_),
            similar,
            self._config.similarity,
            np.frombuffer(numbers, np.uint64),
        )


def _without_common(
    runs: NDArray[np.uint32], sizes: NDArray[np.uint64], share: float
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Drop runs that too many problems have; returns the rest, problem after problem, and each problem's offset."""
    import numpy as np

    values, inverse, counts = np.unique(runs, return_inverse=True, return_counts=True)
    is_rare = (counts <= max(_MIN_COMMON, share * len(sizes)))[inverse] if len(values) else np.empty(0, np.bool_)
    kept_before = np.concatenate([np.zeros(1, np.uint64), np.cumsum(is_rare, dtype=np.uint64)])
    ends = np.concatenate([np.zeros(1, np.uint64), np.cumsum(sizes, dtype=np.uint64)])
    return runs[is_rare].astype(np.uint64), kept_before[ends]


def _rebased(members: NDArray[np.uint64], offsets: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    return members[offsets[0] : offsets[-1]], offsets - offsets[0]


def _jaccard(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> float:
    """Similarity of two sorted sets; of the smallest hashes in both where a set was cut to those."""
    import numpy as np

    if not len(first) or not len(second):
        return 0.0
    cut_at = (hashes[-1] for hashes in (first, second) if len(hashes) >= _MAX_RUNS)
    bound = min(cut_at, default=max(first[-1], second[-1]))
    first = first[first <= bound]
    second = second[second <= bound]
    common = len(np.intersect1d(first, second, assume_unique=True))
    return common / max(1, len(first) + len(second) - common)


@cache
def _number_words() -> NDArray[np.uint64]:
    import numpy as np

    return np.sort(tokens(_NUMBERS).hashes)


def build(config: Config, context: Context) -> Filter:
    return DuplicateProblems(config)
