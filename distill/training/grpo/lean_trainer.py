"""TRL's GRPOTrainer with less computed for padding.

A batch that samples gets smaller as its rows end (`models/thinned_batch.py`), and the update takes rows of like length
together. Samples and losses are those of TRL.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from distill.models import thinned_batch
from distill.models.thinned_batch import BatchRow

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
    rows = [BatchRow(list(prompt), len(prompt) + max_tokens) for prompt in prompts]
    thinned_batch.generate(model, rows, config)
    return [row.generated for row in rows]
