"""transformers' cache of keys and values, with room to grow.

Its own copies all that it holds for each new token, which on a CPU takes most of the time of sampling from a small
model. Here the states are views of a larger tensor, which is copied only when it is full.
"""

from __future__ import annotations

from functools import cache
from typing import Any

_ROOM = 64
"""Tokens to come that there is room for at least, when states are copied."""


def empty(config: Any) -> Any:
    """A DynamicCache for a model of this config; for use without gradients."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    made = DynamicCache(config=config)
    made.layers = [_layer()() if type(layer) is DynamicLayer else layer for layer in made.layers]
    return made


@cache
def _layer() -> Any:
    import torch
    from transformers.cache_utils import DynamicLayer

    class Layer(DynamicLayer):  # type: ignore[misc]
        keys: Any
        values: Any

        def lazy_initialization(self, key_states: Any, value_states: Any) -> None:
            super().lazy_initialization(key_states, value_states)
            self._room = (self.keys, self.values)

        def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
            held = self.get_seq_length()
            end = held + key_states.shape[-2]
            # rows that were selected, or a cache that was reset, are tensors of their own
            if self.keys.data_ptr() != self._room[0].data_ptr() or not held or end > self._room[0].shape[-2]:
                self._room = _wider(self.keys, key_states, end), _wider(self.values, value_states, end)
            self.keys, self.values = (room[..., :end, :] for room in self._room)
            self.keys[..., held:, :], self.values[..., held:, :] = key_states, value_states
            return self.keys, self.values

    def _wider(old: Any, new: Any, end: int) -> Any:
        *outer, _, inner = new.shape
        room = torch.empty(*outer, end + max(_ROOM, end // 4), inner, dtype=new.dtype, device=new.device)
        if old.numel():
            room[..., : old.shape[-2], :] = old
        return room

    return Layer
