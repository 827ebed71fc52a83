"""transformers' cache of keys and values, with room to grow.

Its own copies all that it holds for each new token, which on a CPU takes most of the time of sampling from a small
model. Here the states are views of a larger tensor, which is copied only when it is full.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import DynamicCache, PretrainedConfig

_SPARE_TOKENS = 64
"""Further tokens for which there is room, at least, when states are copied."""


def empty(config: PretrainedConfig) -> DynamicCache:
    """A DynamicCache for a model of this config; for use without gradients."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    dynamic_cache = DynamicCache(config=config)
    dynamic_cache.layers = [_layer()() if type(layer) is DynamicLayer else layer for layer in dynamic_cache.layers]
    return dynamic_cache


@cache
def _layer() -> type[object]:
    import torch
    from transformers.cache_utils import DynamicLayer

    class Layer(DynamicLayer):  # type: ignore[misc]
        keys: Tensor
        values: Tensor

        def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
            super().lazy_initialization(key_states, value_states)
            self._allocated = (self.keys, self.values)

        def update(
            self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
        ) -> tuple[Tensor, Tensor]:
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
            held_tokens = self.get_seq_length()
            end = held_tokens + key_states.shape[-2]
            # rows that were selected, or a cache that was reset, are tensors of their own
            allocated = self._allocated[0]
            if self.keys.data_ptr() != allocated.data_ptr() or not held_tokens or end > allocated.shape[-2]:
                self._allocated = (_enlarged(self.keys, key_states, end), _enlarged(self.values, value_states, end))
            self.keys, self.values = (buffer[..., :end, :] for buffer in self._allocated)
            self.keys[..., held_tokens:, :] = key_states
            self.values[..., held_tokens:, :] = value_states
            return self.keys, self.values

    def _enlarged(held_states: Tensor, added_states: Tensor, length: int) -> Tensor:
        *outer, _, inner = added_states.shape
        size = (*outer, length + max(_SPARE_TOKENS, length // 4), inner)
        buffer = torch.empty(size, dtype=added_states.dtype, device=added_states.device)
        if held_states.numel():
            buffer[..., : held_states.shape[-2], :] = held_states
        return buffer

    return Layer
