"""What the problems of a set have in common: instructions and set phrases, which make no two of them alike.

Whole paragraphs are found first, since a run of words may reach from the template into the problem.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from distill.text.hashes import is_among, ngrams, sequence_hash
from distill.text.tokens import DIGITS, SIGN, Tokens, tokens_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from distill.text.hashes import Hashes

_COMMON = 3  # problems of a set at least that share what is to be its template


def without_signs(text: Tokens) -> Tokens:
    """The tokens of a text that are no signs."""
    return text.select(text.kinds != SIGN)


def shared_paragraphs(texts: Sequence[str], share: float) -> set[int]:
    """Hashes of the paragraphs that occur in at least `share` of the texts, and in three."""
    paragraphs_of_texts = [text.split("\n\n") for text in texts]
    paragraphs = [paragraph for of_text in paragraphs_of_texts for paragraph in of_text]
    keys = (sequence_hash(paragraph.hashes) for paragraph in tokens_of(paragraphs))
    counts = Counter(key for of_text in paragraphs_of_texts for key in {next(keys) for _ in of_text})
    return {key for key, count in counts.items() if count >= max(_COMMON, share * len(texts))}


def shared_runs(runs: Sequence[Hashes], share: float) -> Hashes:
    """Runs that occur in at least `share` of the texts, and in three."""
    import numpy as np

    values, counts = np.unique(np.concatenate([np.empty(0, np.uint64), *map(np.unique, runs)]), return_counts=True)
    return values[counts >= max(_COMMON, share * len(runs))]


def own_tokens(text: Tokens, template: Hashes, n: int) -> NDArray[np.bool_]:
    """Which tokens belong to no run of the template: numbers never do, and a sign goes with the word before it."""
    import numpy as np

    is_word = text.kinds != SIGN
    if not len(template):
        return np.ones(len(text), np.bool_)
    is_template = is_among(ngrams(text.hashes[is_word], n), template)
    edges = np.zeros(int(is_word.sum()) + 1, np.int64)
    np.add.at(edges, np.flatnonzero(is_template), 1)
    np.add.at(edges, np.flatnonzero(is_template) + n, -1)
    is_free = np.concatenate([[True], np.cumsum(edges[:-1]) == 0])
    result: NDArray[np.bool_] = is_free[np.cumsum(is_word)] | (text.kinds == DIGITS)
    return result
