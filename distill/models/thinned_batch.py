"""One batch through transformers' `generate`, which gets smaller as its rows end.

`generate` lasts as long as its longest row, and rows that ended long before are computed all the same. Here it stops
whenever half of the rows have ended, and the rest goes on with its share of the cache of keys and values.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from distill.models import kv_cache

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import GenerationConfig, PreTrainedModel


@dataclass(eq=False)
class BatchRow:
    """A prompt and what is generated behind it."""

    ids: list[int]
    """The prompt's token ids, to which those that are generated are added, EOS included."""
    max_length: int
    """Length of `ids` at which the budget is used up."""
    prompt_length: int = field(init=False)

    def __post_init__(self) -> None:
        self.prompt_length = len(self.ids)

    @property
    def generated(self) -> list[int]:
        return self.ids[self.prompt_length :]

    @property
    def abandoned(self) -> bool:
        """Whether nobody wants the row any more; it is dropped without having ended."""
        return False

    def has_ended(self, eos: Collection[int]) -> bool:
        ends_in_eos = len(self.ids) > self.prompt_length and self.ids[-1] in eos
        return ends_in_eos or len(self.ids) >= self.max_length

    def extend(self, tokens: list[int], eos: Collection[int]) -> None:
        """Add new tokens, without the padding that follows a row's end."""
        own_length = next((index + 1 for index, token in enumerate(tokens) if token in eos), len(tokens))
        self.ids += tokens[: min(self.max_length - len(self.ids), own_length)]


R = TypeVar("R", bound=BatchRow)


def generate(
    network: PreTrainedModel,
    rows: list[R],
    config: GenerationConfig,
    on_end: Callable[[R], object] = lambda row: None,
    max_leftover: int = 0,
    stopped: Callable[[], bool] = lambda: False,
) -> list[R]:
    """Generate until at most `max_leftover` rows are left and return those; to be called without gradients.

    Args:
        network: a model that keeps a cache.
        config: how to sample, with `eos_token_id` as a list or None, and `pad_token_id`.
        on_end: takes each row as it ends.
        stopped: asked at each token; once it says so, the rows that are left are returned.
    """
    import torch

    config = copy.copy(config)
    eos: list[int] = config.eos_token_id or []
    device = network.device
    longest = max(len(row.ids) for row in rows)
    padding = [longest - len(row.ids) for row in rows]
    padded = [[config.pad_token_id] * size + row.ids for size, row in zip(padding, rows, strict=True)]
    ids = torch.tensor(padded, device=device)
    mask = torch.tensor([[0] * size + [1] * (longest - size) for size in padding], device=device)  # both (rows, length)
    cache = kv_cache.empty(network.config)
    while len(rows) > max_leftover and not stopped():
        config.max_new_tokens = max(row.max_length - len(row.ids) for row in rows)
        ids = network.generate(
            ids,
            attention_mask=mask,
            past_key_values=cache,
            stopping_criteria=[_StopAtHalf(rows, eos, device, stopped)],
            generation_config=config,
        )
        new_ids = ids[:, mask.shape[1] :]
        for row, tokens in zip(rows, new_ids.tolist(), strict=True):
            row.extend(tokens, eos)
            if row.has_ended(eos):
                on_end(row)
        survivors = [index for index, row in enumerate(rows) if not row.has_ended(eos) and not row.abandoned]
        rows = [rows[index] for index in survivors]
        if rows:
            indices = torch.tensor(survivors, device=device)
            ids = ids[indices]
            mask = torch.cat([mask, torch.ones_like(new_ids)], dim=1)[indices]
            cache.batch_select_indices(indices)
    return rows


class _StopAtHalf:
    """Stopping criterion: a row ends with EOS, its own budget or its caller; the batch, once half its rows have."""

    def __init__(self, rows: list[R], eos: list[int], device: object, stopped: Callable[[], bool]) -> None:
        import torch

        self._rows: list[BatchRow] = [*rows]
        self._stopped = stopped
        self._eos = torch.tensor(eos, device=device)
        self._remaining = torch.tensor([row.max_length - len(row.ids) for row in rows], device=device)
        self._ended = torch.zeros(len(rows), dtype=torch.bool, device=device)

    def __call__(self, ids: Tensor, scores: object, **_: object) -> Tensor:
        import torch

        self._remaining -= 1
        self._ended |= torch.isin(ids[:, -1], self._eos) | (self._remaining <= 0)
        self._ended |= torch.tensor([row.abandoned for row in self._rows], device=ids.device)
        end_batch = self._stopped() or 2 * int(self._ended.sum()) >= len(self._rows)
        return torch.ones_like(self._ended) if end_batch else self._ended
