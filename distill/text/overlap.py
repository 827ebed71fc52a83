"""Which of many known problems a text contains: runs of n words nominate, the share of the words confirms.

Runs that many problems of a set have in common are its template, not its problems: they nominate nothing and their
words count for nothing. Punctuation and signs are left out, so that spacing, case and markup do not hide a copy.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distill.text.hashes import is_among, ngrams, sequence_hash
from distill.text.shared_phrases import own_tokens, shared_paragraphs, shared_runs, without_signs
from distill.text.tokens import SIGN, Tokens, tokens, tokens_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from distill.text.hashes import Hashes

_NUMBER = re.compile(r"\d+(?:\{?,\}?\d{3}(?!\d))*(?:\.\d+)?")
_SLOTS = 16  # of the table that is asked first, a known run: most words of a text end there


@dataclass(frozen=True, slots=True)
class ProblemMatch:
    problem_index: int
    """Index of the problem among those the index was made of."""
    coverage: float
    """Share of the problem's own words that the text has in the same order, in one place."""
    quote: str


class OverlapIndex:
    """An index of problems; made once per process, about 25 bytes a word and 16 a run of words."""

    def __init__(self, sets: Sequence[Sequence[str]], n: int, coverage: float, numbers: float, common: float) -> None:
        """Index the problems of one or more sets, numbered through.

        Args:
            n: words in a run; a problem with fewer words of its own is known only by all of them.
            coverage: share of a problem's own words that a text must have.
            numbers: share of its numbers that must be among them.
            common: share of a set's problems that makes a run its template.
        """
        import numpy as np

        self._n = n
        self._coverage = coverage
        self._numbers = numbers
        self._own_words: list[tuple[Hashes, list[str]]] = []
        self._short_problems: dict[int, int] = {}
        self._template = np.empty(0, np.uint64)
        postings: list[tuple[Hashes, NDArray[np.int64], int]] = []
        self._shared_paragraphs: set[int] = set()
        for prompts in sets:
            shared = shared_paragraphs(prompts, common)
            self._shared_paragraphs |= shared
            texts = tokens_of([_without_paragraphs(text, shared) for text in prompts])
            template = shared_runs([ngrams(without_signs(text).hashes, n) for text in texts], common)
            self._template = np.union1d(self._template, template)
            postings += [self._add(text, template) for text in texts]
        runs = np.concatenate([np.empty(0, np.uint64), *(own_runs for own_runs, _, _ in postings)])
        order = np.argsort(runs, kind="stable")
        self._runs, self._starts = np.unique(runs[order], return_index=True)
        self._ends = np.append(self._starts[1:], len(runs))
        owners = [np.full(len(own_runs), index, np.int32) for own_runs, _, index in postings]
        self._owners = np.concatenate([np.empty(0, np.int32), *owners])[order]
        self._offsets = np.concatenate([np.empty(0, np.int64), *(offsets for _, offsets, _ in postings)])[order]
        self._shift = np.uint64(64 - max(12, int(_SLOTS * len(runs)).bit_length()))
        self._table = np.zeros(1 << (64 - int(self._shift)), np.bool_)
        self._table[self._runs >> self._shift] = True

    def _add(self, text: Tokens, template: Hashes) -> tuple[Hashes, NDArray[np.int64], int]:
        """Note the own words of a problem; returns its runs, their offsets among its own words, and its index."""
        import numpy as np

        index = len(self._own_words)
        is_own = own_tokens(text, template, self._n)
        words = without_signs(text)
        is_own_word = is_own[text.kinds != SIGN]
        own_words = words.select(is_own_word)
        stretches = [_text_between(words, first, last) for first, last in _true_runs(is_own_word)]
        numbers = [number for stretch in stretches for number in _numbers(stretch)]
        self._own_words.append((own_words.hashes, numbers))
        if 0 < len(own_words) < self._n:
            self._short_problems.setdefault(sequence_hash(text.hashes[is_own]), index)
        own_before = np.concatenate([np.zeros(1, np.int64), np.cumsum(is_own_word)])
        own_in_run = own_before[self._n :] - own_before[: max(0, len(own_before) - self._n)]  # own words of each run
        chosen = np.flatnonzero(own_in_run * 2 >= self._n) if len(own_words) >= self._n else np.empty(0, np.int64)
        runs = ngrams(words.hashes, self._n)[chosen]
        is_new = ~is_among(runs, template)
        return runs[is_new], own_before[chosen][is_new], index

    def equal_problems(self, text: str) -> Iterator[ProblemMatch]:
        """Short problems that equal a text, or a paragraph of it, template apart."""
        parts = {_without_paragraphs(text, self._shared_paragraphs): None, **dict.fromkeys(text.split("\n\n"))}
        for part in tokens_of(list(parts)):
            index = self._short_problems.get(sequence_hash(part.hashes[own_tokens(part, self._template, self._n)]))
            if index is not None and len(part):
                yield ProblemMatch(index, 1.0, _quote(part, 0, len(part)))

    def contained_problems(self, text: str) -> Iterator[ProblemMatch]:
        """The longer problems that a text contains."""
        import numpy as np

        words = tokens(text)
        runs = ngrams(words.hashes[words.kinds != SIGN], self._n)
        nominated = np.flatnonzero(self._table.take(runs >> self._shift, mode="clip"))
        if not len(nominated) or not len(self._runs):
            return
        run_ids = np.minimum(np.searchsorted(self._runs, runs[nominated]), len(self._runs) - 1)
        is_known = self._runs[run_ids] == runs[nominated]
        run_ids, first = np.unique(run_ids[is_known], return_index=True)  # a text that repeats itself adds nothing
        if not len(run_ids):
            return
        sizes = self._ends[run_ids] - self._starts[run_ids]
        skipped = np.cumsum(sizes) - sizes
        posting_ids = np.repeat(self._starts[run_ids] - skipped, sizes) + np.arange(sizes.sum())
        words = without_signs(words)
        begins = np.repeat(nominated[is_known][first], sizes) - self._offsets[posting_ids]
        for index in np.unique(self._owners[posting_ids]).tolist():
            match = self._confirm(index, words, begins[self._owners[posting_ids] == index])
            if match:
                yield match

    def _confirm(self, index: int, words: Tokens, begins: NDArray[np.int64]) -> ProblemMatch | None:
        """Compare a problem with the text where most of its runs are; by each of these it would begin at `begins`."""
        import numpy as np
        from rapidfuzz.distance import LCSseq

        own_hashes, numbers = self._own_words[index]
        slack = max(self._n, len(own_hashes) // 4)
        begins = np.sort(begins)
        begin = int(begins[np.argmax(np.searchsorted(begins, begins + slack, side="right") - np.arange(len(begins)))])
        start = max(0, begin - slack)
        end = begin + slack + len(own_hashes) + slack
        common = LCSseq.similarity(own_hashes.tolist(), words.hashes[start:end].tolist())
        common_numbers = LCSseq.similarity(numbers, _numbers(_text_between(words, start, end)))
        if common < self._coverage * len(own_hashes) or common_numbers < self._numbers * len(numbers):
            return None
        return ProblemMatch(index, common / len(own_hashes), _quote(words, max(0, begin), begin + len(own_hashes)))


def _without_paragraphs(text: str, shared: set[int]) -> str:
    """A text without a set's shared paragraphs, each of the others once."""
    parts = [*dict.fromkeys(text.split("\n\n"))]
    if shared:
        keys = [sequence_hash(paragraph.hashes) for paragraph in tokens_of(parts)]
        parts = [part for part, key in zip(parts, keys, strict=True) if key not in shared]
    return "\n\n".join(parts)


def _true_runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and past-the-last index of each run of true values."""
    import numpy as np

    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8))).tolist()
    return [*zip(edges[::2], edges[1::2], strict=True)]


def _text_between(words: Tokens, first: int, last: int) -> str:
    """The text from one word up to another."""
    begin = int(words.starts[first]) if first < len(words) else len(words.text)
    return words.text[begin : int(words.starts[last]) if last < len(words) else None]


def _numbers(text: str) -> list[str]:
    """The numbers of a text, marks of thousands taken out: 1,000 and 1{,}000 are 1000."""
    matches = _NUMBER.findall(unicodedata.normalize("NFKC", text))
    return [re.sub(r"[{},]", "", number) for number in matches]


def _quote(words: Tokens, first: int, last: int) -> str:
    return " ".join(_text_between(words, first, last)[:60].split())
