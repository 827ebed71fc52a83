"""TRL's GRPOTrainer with less computed for padding.

A batch of `generate()` lasts as long as its longest completion, and the rows that ended long before are computed all
the same. Here it stops whenever half of the rows have ended, and the rest goes on with its share of the cache. The
update too takes rows of like length together. Samples and losses are those of TRL.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from distill.models import kv_cache

if TYPE_CHECKING:
    import torch
    from transformers import GenerationConfig, PreTrainedModel
    from trl import GRPOTrainer

_UPDATE_ROWS = 16
"""Rows of like length that are computed together."""


def trainer_class() -> type[GRPOTrainer]:
    """A subclass of GRPOTrainer; where vLLM samples, it is the same."""
    import torch
    from torch.nn.functional import pad
    from trl import GRPOTrainer
    from trl.models.utils import unwrap_model_for_generation

    class LengthGroupedGRPOTrainer(GRPOTrainer):  # type: ignore[misc]
        def _generate_single_turn(
            self, prompt_ids: list[list[int]], *args: object, **kwargs: object
        ) -> tuple[list[list[int]], object]:
            if self.use_vllm:
                sampled: tuple[list[list[int]], object] = super()._generate_single_turn(prompt_ids, *args, **kwargs)
                return sampled
            unwrapped = unwrap_model_for_generation(
                self.model_wrapped,
                self.accelerator,
                gather_deepspeed3_params=self.args.ds3_gather_for_generation,
                generation_kwargs=self.generation_kwargs,
                gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs,
            )
            with unwrapped as model, torch.no_grad(), _without_autocast(model):
                completions = sample(model, prompt_ids, self.max_completion_length, self.generation_config)
            return completions, None

        def _get_per_token_logps_and_entropies(
            self,
            model: PreTrainedModel,
            input_ids: torch.Tensor,
            attention_mask: torch.Tensor,
            logits_to_keep: int,
            *args: object,
            **kwargs: object,
        ) -> tuple[torch.Tensor | None, ...]:
            compute = super()._get_per_token_logps_and_entropies
            order = attention_mask.sum(dim=1).argsort()
            padded_parts: list[tuple[torch.Tensor | None, ...]] = []
            for rows in order.split(_UPDATE_ROWS):  # ranks have equally many rows, so they make equally many calls
                used_columns = attention_mask[rows].any(dim=0).nonzero()
                begin = int(used_columns[0])
                end = int(used_columns[-1]) + 1
                cut = min(input_ids.shape[1] - end, logits_to_keep - 1)  # a masked completion has no end
                end = input_ids.shape[1] - cut
                ids = input_ids[rows, begin:end]
                mask = attention_mask[rows, begin:end]
                parts = compute(model, ids, mask, logits_to_keep - cut, **{**kwargs, "batch_size": None})
                padded_parts.append(tuple(None if part is None else pad(part, (0, cut)) for part in parts[:2]))
            inverse = order.argsort()
            columns = zip(*padded_parts, strict=True)
            whole = [None if parts[0] is None else torch.cat(parts)[inverse] for parts in columns]
            return *whole, None

    return LengthGroupedGRPOTrainer


@contextlib.contextmanager
def _without_autocast(model: PreTrainedModel) -> Iterator[None]:
    """Switch accelerate's autocast off on a CPU, where it would convert all weights again for each token."""
    if model.device.type != "cpu" or not hasattr(model, "_original_forward"):
        yield
        return
    forward = model.forward
    model.forward = model._original_forward
    try:
        yield
    finally:
        model.forward = forward


def sample(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], max_tokens: int, config: GenerationConfig
) -> list[list[int]]:
    """One completion for each prompt, of up to `max_tokens` tokens, with its EOS; one without was cut.

    Args:
        model: a transformers model that keeps a cache.
        config: a GenerationConfig with `eos_token_id` as a list, and `pad_token_id`.
    """
    import torch

    longest = max(map(len, prompts))
    padding = [longest - len(prompt) for prompt in prompts]
    padded = [[config.pad_token_id] * size + list(prompt) for size, prompt in zip(padding, prompts, strict=True)]
    ids = torch.tensor(padded, device=model.device)
    mask = torch.tensor([[0] * size + [1] * (longest - size) for size in padding], device=model.device)
    cache = kv_cache.empty(model.config)
    completions = [list[int]() for _ in prompts]
    unfinished = list(range(len(prompts)))
    config = copy.copy(config)
    while unfinished:
        config.max_new_tokens = longest + max_tokens - ids.shape[1]
        ids = model.generate(
            ids,
            attention_mask=mask,
            past_key_values=cache,
            stopping_criteria=[_StopAtHalf(config.eos_token_id, ids)],
            generation_config=config,
        )
        new_ids = ids[:, mask.shape[1] :]
        for index, tokens in zip(unfinished, new_ids.tolist(), strict=True):
            completions[index] += _until_eos(tokens, config.eos_token_id)
        kept_rows = [
            row
            for row, index in enumerate(unfinished)
            if len(completions[index]) < max_tokens and completions[index][-1] not in config.eos_token_id
        ]
        unfinished = [unfinished[row] for row in kept_rows]
        if unfinished:
            selected = torch.tensor(kept_rows, device=model.device)
            ids = ids[selected]
            mask = torch.cat([mask, torch.ones_like(new_ids)], dim=1)[selected]
            cache.batch_select_indices(selected)
    return completions


class _StopAtHalf:
    """Stopping criterion: a row ends with EOS, and all of them once half have."""

    def __init__(self, eos: Sequence[int], ids: torch.Tensor) -> None:
        import torch

        self._eos_ids = torch.tensor(eos, device=ids.device)
        self._ended = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor, **_: object) -> torch.Tensor:
        import torch

        self._ended |= torch.isin(ids[:, -1], self._eos_ids)
        if 2 * int(self._ended.sum()) >= len(self._ended):
            return torch.ones_like(self._ended)
        return self._ended


def _until_eos(tokens: list[int], eos: Sequence[int]) -> list[int]:
    """A row's tokens without the padding that follows its end."""
    return next((tokens[: index + 1] for index, token in enumerate(tokens) if token in eos), tokens)
