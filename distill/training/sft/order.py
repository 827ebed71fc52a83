"""In which order rows are trained on: a pure function of seed and epoch, so that a resumed run goes on where it was."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

_GROUPS_PER_POOL = 50
"""Batches whose rows are sorted by length together: enough for little padding, few enough to keep batches mixed."""


class Order:
    """A sampler over row indices: shuffled, or shuffled batches of rows of like length.

    Args:
        lengths: tokens of each row.
        group: rows that are padded to one length (micro batch × processes); 1 only shuffles.
    """

    def __init__(self, lengths: Sequence[int], group: int, seed: int) -> None:
        self._lengths = lengths
        self._group_size = group
        self._seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._lengths)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        rng = random.Random(f"{self._seed}:{self.epoch}")  # noqa: S311
        order = list(range(len(self._lengths)))
        rng.shuffle(order)
        if self._group_size > 1:
            order = self._grouped(order, rng)
        return iter(order)

    def _grouped(self, order: list[int], rng: random.Random) -> list[int]:
        group_size = self._group_size
        # what does not fill a group goes last: in the middle it would shift the groups after it
        filled_rows = len(order) // group_size * group_size
        filled = order[:filled_rows]
        remainder = order[filled_rows:]
        groups = []
        for start in range(0, len(filled), group_size * _GROUPS_PER_POOL):
            pool = sorted(filled[start : start + group_size * _GROUPS_PER_POOL], key=self._lengths.__getitem__)
            groups += [pool[begin : begin + group_size] for begin in range(0, len(pool), group_size)]
        # mixed again, so that an optimizer step of several groups sees short and long rows
        rng.shuffle(groups)
        return [row for members in groups for row in members] + remainder
