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

from distill.text.hashes import among, ngrams, sequence
from distill.text.shared_phrases import own_tokens, shared_paragraphs, shared_runs, words_of
from distill.text.tokens import SIGN, Tokens, tokens, tokens_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from distill.text.hashes import Hashes

_NUMBER = re.compile(r"\d+(?:\{?,\}?\d{3}(?!\d))*(?:\.\d+)?")
_SLOTS = 16  # of the table that is asked first, a known run: most words of a text end there


@dataclass(frozen=True, slots=True)
class Match:
    place: int
    """Index of the problem among those the index was made of."""
    coverage: float
    """Share of the problem's own words that the text has in the same order, in one place."""
    quote: str


class Overlap:
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

        self._n, self._coverage, self._numbers = n, coverage, numbers
        self._own: list[tuple[Hashes, list[str]]] = []
        self._short: dict[int, int] = {}
        self._template = np.empty(0, np.uint64)
        found: list[tuple[Hashes, NDArray[np.int64], int]] = []
        self._shared: set[int] = set()
        for whole in sets:
            shared = shared_paragraphs(whole, common)
            self._shared |= shared
            texts = tokens_of([_without(text, shared) for text in whole])
            template = shared_runs([ngrams(words_of(text).hashes, n) for text in texts], common)
            self._template = np.union1d(self._template, template)
            found += [self._add(text, template) for text in texts]
        runs = np.concatenate([np.empty(0, np.uint64), *(part for part, _, _ in found)])
        order = np.argsort(runs, kind="stable")
        self._runs, self._first = np.unique(runs[order], return_index=True)
        self._last = np.append(self._first[1:], len(runs))
        owners = [np.full(len(part), place, np.int32) for part, _, place in found]
        self._owner = np.concatenate([np.empty(0, np.int32), *owners])[order]
        self._at = np.concatenate([np.empty(0, np.int64), *(at for _, at, _ in found)])[order]
        self._shift = np.uint64(64 - max(12, int(_SLOTS * len(runs)).bit_length()))
        self._table = np.zeros(1 << (64 - int(self._shift)), np.bool_)
        self._table[self._runs >> self._shift] = True

    def _add(self, text: Tokens, template: Hashes) -> tuple[Hashes, NDArray[np.int64], int]:
        """Note a problem's own words; returns its runs, their places among its own words, and its number."""
        import numpy as np

        place = len(self._own)
        own = own_tokens(text, template, self._n)
        words = words_of(text)
        own_words = own[text.kinds != SIGN]
        mine = words.only(own_words)
        numbers = (number for first, last in _stretches(own_words) for number in _numbers(_cut(words, first, last)))
        self._own.append((mine.hashes, [*numbers]))
        if 0 < len(mine) < self._n:
            self._short.setdefault(sequence(text.hashes[own]), place)
        before = np.concatenate([np.zeros(1, np.int64), np.cumsum(own_words)])
        inside = before[self._n :] - before[: max(0, len(before) - self._n)]  # own words of each run
        chosen = np.flatnonzero(inside * 2 >= self._n) if len(mine) >= self._n else np.empty(0, np.int64)
        runs = ngrams(words.hashes, self._n)[chosen]
        fresh = ~among(runs, template)
        return runs[fresh], before[chosen][fresh], place

    def same(self, text: str) -> Iterator[Match]:
        """The short problem that a text, or a paragraph of it, is, template apart."""
        parts = {_without(text, self._shared): None, **dict.fromkeys(text.split("\n\n"))}
        for all_of_it in tokens_of(list(parts)):
            place = self._short.get(sequence(all_of_it.hashes[own_tokens(all_of_it, self._template, self._n)]))
            if place is not None and len(all_of_it):
                yield Match(place, 1.0, _quote(all_of_it, 0, len(all_of_it)))

    def within(self, text: str) -> Iterator[Match]:
        """The longer problems that a text contains."""
        import numpy as np

        words = tokens(text)
        runs = ngrams(words.hashes[words.kinds != SIGN], self._n)
        maybe = np.flatnonzero(self._table.take(runs >> self._shift, mode="clip"))
        if not len(maybe) or not len(self._runs):
            return
        known = np.minimum(np.searchsorted(self._runs, runs[maybe]), len(self._runs) - 1)
        hit = self._runs[known] == runs[maybe]
        known, first = np.unique(known[hit], return_index=True)  # a text that repeats itself adds nothing
        if not len(known):
            return
        sizes = self._last[known] - self._first[known]
        before = np.cumsum(sizes) - sizes
        posts = np.repeat(self._first[known] - before, sizes) + np.arange(sizes.sum())
        words = words_of(words)
        begins = np.repeat(maybe[hit][first], sizes) - self._at[posts]
        for place in np.unique(self._owner[posts]).tolist():
            match = self._confirm(place, words, begins[self._owner[posts] == place])
            if match:
                yield match

    def _confirm(self, place: int, words: Tokens, begins: NDArray[np.int64]) -> Match | None:
        """Compare a problem with the part of the text where most of its runs are.

        Args:
            begins: where in the text the problem would begin, by each of its runs.
        """
        import numpy as np
        from rapidfuzz.distance import LCSseq

        own, numbers = self._own[place]
        slack = max(self._n, len(own) // 4)
        begins = np.sort(begins)
        at = int(begins[np.argmax(np.searchsorted(begins, begins + slack, side="right") - np.arange(len(begins)))])
        first, last = max(0, at - slack), at + slack + len(own) + slack
        common = LCSseq.similarity(own.tolist(), words.hashes[first:last].tolist())
        common_numbers = LCSseq.similarity(numbers, _numbers(_cut(words, first, last)))
        if common < self._coverage * len(own) or common_numbers < self._numbers * len(numbers):
            return None
        return Match(place, common / len(own), _quote(words, max(0, at), at + len(own)))


def _without(text: str, shared: set[int]) -> str:
    """A text without a set's shared paragraphs, each of the others once."""
    parts = [*dict.fromkeys(text.split("\n\n"))]
    if shared:
        own = tokens_of(parts)
        parts = [part for part, found in zip(parts, own, strict=True) if sequence(found.hashes) not in shared]
    return "\n\n".join(parts)


def _stretches(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and past-the-last place of each run of true values."""
    import numpy as np

    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8))).tolist()
    return [*zip(edges[::2], edges[1::2], strict=True)]


def _cut(words: Tokens, first: int, last: int) -> str:
    """The text from one word up to another."""
    begin = int(words.starts[first]) if first < len(words) else len(words.text)
    return words.text[begin : int(words.starts[last]) if last < len(words) else None]


def _numbers(text: str) -> list[str]:
    """The numbers of a text, marks of thousands taken out: 1,000 and 1{,}000 are 1000."""
    found = _NUMBER.findall(unicodedata.normalize("NFKC", text))
    return [re.sub(r"[{},]", "", number) for number in found]


def _quote(words: Tokens, first: int, last: int) -> str:
    return " ".join(_cut(words, first, last)[:60].split())
