"""In which order rows are trained on: a pure function of seed and epoch, so that a resumed run goes on where it was."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

_POOL = 50
"""Batches whose rows are sorted by length together: enough for little padding, few enough to keep batches mixed."""


class Order:
    """A sampler over row indices: shuffled, or shuffled batches of rows of like length.

    Args:
        lengths: tokens of each row.
        group: rows that are padded to one length (micro batch × processes); 1 only shuffles.
    """

    def __init__(self, lengths: Sequence[int], group: int, seed: int) -> None:
        self._lengths, self._group, self._seed = lengths, group, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._lengths)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        draw = random.Random(f"{self._seed}:{self.epoch}")  # noqa: S311
        order = list(range(len(self._lengths)))
        draw.shuffle(order)
        if self._group > 1:
            order = self._grouped(order, draw)
        return iter(order)

    def _grouped(self, order: list[int], draw: random.Random) -> list[int]:
        size = self._group
        # what does not fill a group goes last: in the middle it would shift the groups after it
        whole, rest = order[: len(order) // size * size], order[len(order) // size * size :]
        groups = []
        for start in range(0, len(whole), size * _POOL):
            pool = sorted(whole[start : start + size * _POOL], key=self._lengths.__getitem__)
            groups += [pool[at : at + size] for at in range(0, len(pool), size)]
        # mixed again, so that an optimizer step of several groups sees short and long rows
        draw.shuffle(groups)
        return [row for group in groups for row in group] + rest
