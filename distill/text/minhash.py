"""MinHash: sets that share most of their members, found without comparing each with each.

Broder, "On the resemblance and containment of documents" (1997); banding as in Leskovec, Rajaraman and Ullman, Mining
of Massive Datasets, §3.4. With 16 bands of 8 a pair of Jaccard similarity 0.85 is compared with probability 0.994, one
of 0.5 with 0.06. Signatures are rensa's; a signature's estimate has a standard error of sqrt(J(1-J)/128), 0.03 at 0.85.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from distill.text.hashes import scramble

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from distill.text.hashes import Hashes

    Signatures = NDArray[np.uint32]  # rows × SIZE

SIZE = 128
"""Values in a signature, 4 bytes each."""
_BANDS = 16
_SEED = 42
_COMPARED = 32  # kept rows looked at in one band's chain: bounds the time that look-alikes take

Match = tuple[int, int, float]
"""A row, the earlier kept row that it repeats, their similarity."""


def signatures(members: Hashes, offsets: NDArray[np.uint64]) -> Signatures:
    """Signatures of sets that lie one behind the other: set i is members[offsets[i] : offsets[i + 1]], not empty."""
    import numpy as np
    from rensa import RMinHash  # type: ignore[import-untyped]

    matrix = RMinHash.digest_matrix_from_flat_token_hashes(members, offsets, SIZE, _SEED)
    return np.array(matrix.to_rows(), dtype="<u4")


def estimate(of: Signatures, row: int, others: list[int]) -> list[float]:
    """Similarity of a row to others, by the share of equal values."""
    found: list[float] = (of[others] == of[row]).mean(axis=1).tolist()
    return found


def repeats(
    exact: Hashes,
    of: Signatures,
    fit: NDArray[np.bool_],
    similar: Callable[[int, list[int]], list[float]],
    threshold: float,
    apart: Hashes | None = None,
) -> Iterator[Match]:
    """Rows, in order, that repeat an earlier row which is kept: one that is fit and repeats none itself.

    Takes 80 bytes a row besides its arguments.

    Args:
        exact: rows that agree here are equal, with similarity 1.
        similar: the similarity of a row to earlier ones, asked for those that agree with it in a band.
        apart: rows that differ here are never compared.
    """
    import numpy as np

    before = np.empty((len(exact), 1 + _BANDS), np.int32)  # the last earlier row with the same key
    before[:, 0] = _before(exact)
    for number in range(_BANDS):
        before[:, 1 + number] = _before(_band(of, number, apart))
    kept = fit.copy()
    for row in np.flatnonzero((before >= 0).any(axis=1)).tolist():
        chains = [_chain(before, kept, row, column) for column in range(1 + _BANDS)]
        match = _best(row, chains, similar, threshold)
        if match:
            kept[row] = False
            yield match


def _best(
    row: int, chains: list[list[int]], similar: Callable[[int, list[int]], list[float]], threshold: float
) -> Match | None:
    if chains[0]:
        return row, chains[0][0], 1.0
    others = sorted({other for chain in chains for other in chain})
    if not others:
        return None
    value, other = max(zip(similar(row, others), others, strict=True), key=lambda pair: (pair[0], -pair[1]))
    return (row, other, value) if value >= threshold else None


def _chain(before: NDArray[np.int32], kept: NDArray[np.bool_], row: int, column: int) -> list[int]:
    """Kept rows with this row's key, the nearest first; the way past rows that are not kept is cut short for later."""
    found: list[int] = []
    at = int(before[row, column])
    while at >= 0 and len(found) < _COMPARED:
        if kept[at]:
            found.append(at)
        at = int(before[at, column])
    if int(before[row, column]) >= 0:
        before[row, column] = found[0] if found else -1
    return found


def _band(of: Signatures, number: int, apart: Hashes | None) -> Hashes:
    import numpy as np

    width = SIZE // _BANDS
    key = np.zeros(len(of), np.uint64) if apart is None else apart.copy()
    for column in range(number * width, (number + 1) * width):
        key ^= of[:, column]
        key = scramble(key)
    return key


def _before(keys: Hashes) -> NDArray[np.int32]:
    """For each place the last earlier one with an equal key, or -1."""
    import numpy as np

    order = np.argsort(keys, kind="stable")
    equal = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
    result = np.full(len(keys), -1, np.int32)
    result[order[equal + 1]] = order[equal]
    return result
