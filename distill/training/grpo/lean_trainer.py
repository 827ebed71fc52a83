"""TRL's GRPOTrainer with less computed for padding.

A batch of `generate()` lasts as long as its longest completion, and the rows that ended long before are computed all
the same. Here it stops whenever half of the rows have ended, and the rest goes on with its share of the cache. The
update too takes rows of like length together. Samples and losses are those of TRL.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import Any

from distill.models import kv_cache

_ALIKE = 16
"""Rows of like length that are computed together."""


def trainer() -> Any:
    """A subclass of GRPOTrainer; where vLLM samples, it is the same."""
    import torch
    from torch.nn.functional import pad
    from trl import GRPOTrainer
    from trl.models.utils import unwrap_model_for_generation

    class Trainer(GRPOTrainer):  # type: ignore[misc]
        def _generate_single_turn(self, prompt_ids: list[list[int]], *other: Any, **options: Any) -> Any:
            if self.use_vllm:
                return super()._generate_single_turn(prompt_ids, *other, **options)
            unwrapped = unwrap_model_for_generation(
                self.model_wrapped,
                self.accelerator,
                gather_deepspeed3_params=self.args.ds3_gather_for_generation,
                generation_kwargs=self.generation_kwargs,
                gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs,
            )
            with unwrapped as net, torch.no_grad(), _plain(net):
                made = sample(net, prompt_ids, self.max_completion_length, self.generation_config)
            return made, None

        def _get_per_token_logps_and_entropies(
            self, model: Any, input_ids: Any, attention_mask: Any, logits_to_keep: int, *other: Any, **options: Any
        ) -> Any:
            ask = super()._get_per_token_logps_and_entropies
            order = attention_mask.sum(dim=1).argsort()
            found: list[tuple[Any, ...]] = []
            for rows in order.split(_ALIKE):  # ranks have equally many rows, so they make equally many calls
                seen = attention_mask[rows].any(dim=0).nonzero()
                begin, end = int(seen[0]), int(seen[-1]) + 1
                behind = min(input_ids.shape[1] - end, logits_to_keep - 1)  # a masked completion has no end
                end = input_ids.shape[1] - behind
                ids, mask = input_ids[rows, begin:end], attention_mask[rows, begin:end]
                parts = ask(model, ids, mask, logits_to_keep - behind, **{**options, "batch_size": None})
                found.append(tuple(None if one is None else pad(one, (0, behind)) for one in parts[:2]))
            back = order.argsort()
            whole = [None if parts[0] is None else torch.cat(parts)[back] for parts in zip(*found, strict=True)]
            return *whole, None

    return Trainer


@contextlib.contextmanager
def _plain(net: Any) -> Iterator[None]:
    """On a CPU, without accelerate's autocast, which would convert all weights again for each token."""
    if net.device.type != "cpu" or not hasattr(net, "_original_forward"):
        yield
        return
    forward, net.forward = net.forward, net._original_forward
    try:
        yield
    finally:
        net.forward = forward


def sample(net: Any, prompts: Sequence[Sequence[int]], most: int, config: Any) -> list[list[int]]:
    """One completion for each prompt, of up to `most` tokens, with its EOS; one without was cut.

    Args:
        net: a transformers model that keeps a cache.
        config: a GenerationConfig with `eos_token_id` as a list, and `pad_token_id`.
    """
    import torch

    longest, pad = max(map(len, prompts)), config.pad_token_id
    ids = torch.tensor([[pad] * (longest - len(prompt)) + list(prompt) for prompt in prompts], device=net.device)
    mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in prompts], device=net.device)
    cache, made, alive = kv_cache.empty(net.config), [list[int]() for _ in prompts], list(range(len(prompts)))
    config = copy.copy(config)
    while alive:
        config.max_new_tokens = longest + most - ids.shape[1]
        ids = net.generate(
            ids,
            attention_mask=mask,
            past_key_values=cache,
            stopping_criteria=[_Half(config.eos_token_id, ids)],
            generation_config=config,
        )
        new = ids[:, mask.shape[1] :]
        for at, tokens in zip(alive, new.tolist(), strict=True):
            made[at] += _ended(tokens, config.eos_token_id)
        keep = [row for row, at in enumerate(alive) if len(made[at]) < most and made[at][-1] not in config.eos_token_id]
        alive = [alive[row] for row in keep]
        if alive:
            rows = torch.tensor(keep, device=net.device)
            ids, mask = ids[rows], torch.cat([mask, torch.ones_like(new)], dim=1)[rows]
            cache.batch_select_indices(rows)
    return made


class _Half:
    """Stopping criterion: a row ends with EOS, and all of them once half have."""

    def __init__(self, eos: Sequence[int], ids: Any) -> None:
        import torch

        self._eos = torch.tensor(eos, device=ids.device)
        self._over = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)

    def __call__(self, ids: Any, scores: Any, **_: Any) -> Any:
        import torch

        self._over |= torch.isin(ids[:, -1], self._eos)
        return torch.ones_like(self._over) if 2 * int(self._over.sum()) >= len(self._over) else self._over


def _ended(tokens: list[int], eos: Sequence[int]) -> list[int]:
    """Without the padding that follows a row's end."""
    return next((tokens[: at + 1] for at, token in enumerate(tokens) if token in eos), tokens)
