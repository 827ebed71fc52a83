"""Texts as arrays of 64-bit hashes: of words and of runs of words, equal on every machine and in every process."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]

CHUNK = 1 << 16  # characters hashed at a time: bounds the memory that a giant text takes
BASE = 0x9E3779B97F4A7C15


def ngrams(hashes: Hashes, n: int) -> Hashes:
    """Hash of each run of n tokens; empty if there are fewer. A run is put together from two of half its length."""
    import numpy as np

    if len(hashes) < n:
        return np.empty(0, np.uint64)
    powers, _ = powers_of(n)
    total = hashes
    size = 1
    for digit in f"{n:b}"[1:]:
        total = total[:-size] * powers[size] + total[size:]
        size *= 2
        if digit == "1":
            total = total[:-1] * powers[1] + hashes[size:]
            size += 1
    return total


def is_among(hashes: Hashes, sorted_values: Hashes) -> NDArray[np.bool_]:
    """Which of the hashes are among the sorted values; cheaper than np.isin where these are few."""
    import numpy as np

    if not len(sorted_values):
        return np.zeros(len(hashes), np.bool_)
    result: NDArray[np.bool_] = sorted_values.take(sorted_values.searchsorted(hashes), mode="clip") == hashes
    return result


def sequence_hash(hashes: Hashes) -> int:
    """One hash of a whole sequence; 0 for an empty one."""
    import numpy as np

    total = 0
    for start in range(0, len(hashes), CHUNK):
        chunk = hashes[start : start + CHUNK]
        powers = powers_of(len(chunk))[0][: len(chunk)]
        total = (total * BASE + int(np.add.reduce(chunk * powers)) + len(chunk)) % (1 << 64)
    return total


class SplitWords:
    """`text.split()` as numbers, whatever the words are made of; control characters separate like blanks."""

    def __init__(self, text: str) -> None:
        import numpy as np

        self._codes = code_points(text)
        padded = np.zeros(len(self._codes) + 2, np.bool_)
        self._in_word = padded[1:-1]
        np.greater(self._codes, ord(" "), out=self._in_word)
        if self._codes.itemsize > 1:
            beyond_ascii = np.flatnonzero(self._codes > 127)
            if len(beyond_ascii):
                self._in_word[beyond_ascii] = _is_word_part().take(self._codes[beyond_ascii], mode="clip")
        edges = np.flatnonzero(padded[1:] != padded[:-1])
        self._starts = edges[::2].copy()
        self._last = edges[1::2] - 1

    def __len__(self) -> int:
        return len(self._starts)

    def shapes(self) -> Hashes:
        """Length and outer letters of each word as a number: made quickly, and equal for equal words."""
        import numpy as np

        outer = self._codes.take(self._starts).astype(np.uint64) << np.uint64(21) | self._codes.take(self._last)
        shapes: Hashes = outer << np.uint64(21) ^ (self._last - self._starts).astype(np.uint64)
        return shapes

    def hashes(self) -> Hashes:
        """Hash of each word."""
        import numpy as np

        if not len(self):
            return np.empty(0, np.uint64)
        powers, inverses = powers_of(len(self._codes))
        weighted = np.multiply(self._codes, self._in_word, dtype=np.uint64)
        weighted *= powers[: len(self._codes)]
        hashes = segment_sums(weighted, self._starts)
        hashes *= inverses[self._starts]
        return scramble(hashes)


@cache
def _is_word_part() -> NDArray[np.bool_]:
    """Whether each code point is part of a word; none above these is a blank."""
    import numpy as np

    return np.array([code > ord(" ") and not chr(code).isspace() for code in range(0x3002)])


def code_points(text: str) -> NDArray[np.unsignedinteger]:
    """Code points, in as many bytes as the text needs."""
    import numpy as np

    if text.isascii():
        return np.frombuffer(text.encode(), np.uint8)
    codes: NDArray[np.unsignedinteger] = np.frombuffer(text.encode("utf-16-le", "surrogatepass"), "<u2")
    if len(codes) > len(text):
        return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    return codes


def scramble(values: Hashes) -> Hashes:
    """Spread values over all 64 bits, one to one and in place (the finaliser of SplitMix64, Steele et al. 2014)."""
    import numpy as np

    values ^= values >> np.uint64(30)
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def segment_sums(values: Hashes, starts: NDArray[np.int64]) -> Hashes:
    """Sums modulo 2^64 of the values from each start up to the next."""
    import numpy as np

    return np.add.reduceat(values, starts, dtype=np.uint64)


def powers_of(minimum: int) -> tuple[Hashes, Hashes]:
    """Powers of the (odd) base modulo 2^64, at least `minimum` of them, and their inverses."""
    return _first_powers(max(CHUNK, 1 << (minimum - 1).bit_length()))


@lru_cache(maxsize=2)  # the usual, and what a giant text needs
def _first_powers(count: int) -> tuple[Hashes, Hashes]:
    import numpy as np

    def powers(base: int) -> Hashes:
        factors = np.full(count, base, np.uint64)
        factors[0] = 1
        return np.multiply.accumulate(factors)

    return powers(BASE), powers(pow(BASE, -1, 1 << 64))
