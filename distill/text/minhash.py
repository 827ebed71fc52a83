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
_MAX_COMPARED = 32  # kept rows looked at in one band's chain: bounds the time that look-alikes take

Repeat = tuple[int, int, float]
"""A row, the earlier kept row that it repeats, their similarity."""


def signatures(members: Hashes, offsets: NDArray[np.uint64]) -> Signatures:
    """Signatures of sets that lie one behind the other: set i is members[offsets[i] : offsets[i + 1]], not empty."""
    import numpy as np
    from rensa import RMinHash  # type: ignore[import-untyped]

    matrix = RMinHash.digest_matrix_from_flat_token_hashes(members, offsets, SIZE, _SEED)
    return np.array(matrix.to_rows(), dtype="<u4")


def estimate_similarity(matrix: Signatures, row: int, other_rows: list[int]) -> list[float]:
    """Similarity of a row to others, by the share of equal values."""
    similarities: list[float] = (matrix[other_rows] == matrix[row]).mean(axis=1).tolist()
    return similarities


def find_repeats(
    exact: Hashes,
    matrix: Signatures,
    fit: NDArray[np.bool_],
    similarity_to: Callable[[int, list[int]], list[float]],
    threshold: float,
    group_keys: Hashes | None = None,
) -> Iterator[Repeat]:
    """Rows, in order, that repeat an earlier row which is kept: one that is fit and repeats none itself.

    Takes 80 bytes a row besides its arguments.

    Args:
        exact: hashes of whole rows: those that agree here are equal, with similarity 1.
        similarity_to: the similarity of a row to earlier ones, asked for those that agree with it in a band.
        group_keys: rows that differ here are never compared.
    """
    import numpy as np

    previous = np.empty((len(exact), 1 + _BANDS), np.int32)  # the last earlier row with the same key
    previous[:, 0] = _previous_equal(exact)
    for band in range(_BANDS):
        previous[:, 1 + band] = _previous_equal(_band_keys(matrix, band, group_keys))
    is_kept = fit.copy()
    for row in np.flatnonzero((previous >= 0).any(axis=1)).tolist():
        chains = [_chain(previous, is_kept, row, column) for column in range(1 + _BANDS)]
        match = _best(row, chains, similarity_to, threshold)
        if match:
            is_kept[row] = False
            yield match


def _best(
    row: int, chains: list[list[int]], similarity_to: Callable[[int, list[int]], list[float]], threshold: float
) -> Repeat | None:
    if chains[0]:
        return row, chains[0][0], 1.0
    earlier_rows = sorted({earlier for chain in chains for earlier in chain})
    if not earlier_rows:
        return None
    pairs = zip(similarity_to(row, earlier_rows), earlier_rows, strict=True)
    similarity, earlier = max(pairs, key=lambda pair: (pair[0], -pair[1]))
    if similarity < threshold:
        return None
    return row, earlier, similarity


def _chain(previous: NDArray[np.int32], is_kept: NDArray[np.bool_], row: int, column: int) -> list[int]:
    """Kept rows with this row's key, the nearest first; links past rows that are not kept are shortened for later."""
    chain: list[int] = []
    earlier = int(previous[row, column])
    while earlier >= 0 and len(chain) < _MAX_COMPARED:
        if is_kept[earlier]:
            chain.append(earlier)
        earlier = int(previous[earlier, column])
    if int(previous[row, column]) >= 0:
        previous[row, column] = chain[0] if chain else -1
    return chain


def _band_keys(matrix: Signatures, band: int, group_keys: Hashes | None) -> Hashes:
    import numpy as np

    width = SIZE // _BANDS
    keys = np.zeros(len(matrix), np.uint64) if group_keys is None else group_keys.copy()
    for column in range(band * width, (band + 1) * width):
        keys ^= matrix[:, column]
        keys = scramble(keys)
    return keys


def _previous_equal(keys: Hashes) -> NDArray[np.int32]:
    """For each row the last earlier one with an equal key, or -1."""
    import numpy as np

    order = np.argsort(keys, kind="stable")
    equal = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
    result = np.full(len(keys), -1, np.int32)
    result[order[equal + 1]] = order[equal]
    return result
