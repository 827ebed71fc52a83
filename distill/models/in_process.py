"""A model in this process, and batches of requests run through transformers' `generate`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill.errors import BackendError, InputError
from distill.machine.hardware import keep_freed_memory, processors
from distill.models import kv_cache
from distill.models.chat import Tokenizer
from distill.models.model import Model
from distill.models.request import Completion, Request
from distill.types import Finish, content_id


@dataclass(eq=False)
class PendingRequest:
    """A request on its way."""

    request: Request
    answer: asyncio.Future[Completion]
    max_length: int
    """Length of `ids` at which the budget is used up."""
    ids: list[int]
    """The prompt, then what was generated."""
    started_at: float = field(default_factory=time.monotonic)

    @property
    def generated(self) -> list[int]:
        return self.ids[len(self.request.ids) :]


class Generator:
    """Loads a model; `stop()`, from any thread, ends the batches that run at their next token.

    `lanes` is how many threads may `run` at once with a gain: torch lets go of the interpreter while it computes.
    """

    def __init__(self, model: Model, dtype: str) -> None:
        import torch
        import transformers

        self._tokenizer = Tokenizer(model.path, model.revision, model.template)
        transformers.utils.logging.disable_progress_bar()
        revision = None if Path(model.path).is_dir() else model.revision
        try:
            network = transformers.AutoModelForCausalLM.from_pretrained(model.path, revision=revision, dtype=dtype)
        except (OSError, ValueError) as error:
            raise BackendError(f"cannot be loaded: {error}", where=model.path) from error
        longest = getattr(network.config.get_text_config(), "max_position_embeddings", None)
        if longest and longest < model.context:
            message = f"has a context of {longest} tokens, {model.context} are needed"
            raise InputError(message, where=model.path, fix="lower the context asked for")
        defaults = network.generation_config
        if isinstance(defaults.eos_token_id, int):
            self._eos = [defaults.eos_token_id]
        else:
            self._eos = list(defaults.eos_token_id or [])
        pad = (self._eos or [0])[0] if defaults.pad_token_id is None else defaults.pad_token_id
        self._pad = int(pad)
        # What generation_config.json advises is not ours to apply: the request's sampling says it all.
        settings = transformers.GenerationConfig(eos_token_id=self._eos or None, pad_token_id=self._pad)
        network.generation_config = settings
        self._network = network.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        device = self._network.device.type
        if device == "cpu":
            keep_freed_memory()
        # Threads gain a tiny model little, and on a busy machine waiting for one another costs it ten times as much.
        self._single_thread = network.num_parameters() < 20e6
        self._threads = torch.get_num_threads()
        two_lanes = self._single_thread and device == "cpu" and len(processors()) > 1
        self.lanes = 2 if two_lanes else 1
        self.version = str(transformers.__version__)
        self.endpoint = f"transformers:{device}"
        self.stopped = False

    def stop(self) -> None:
        import torch

        self.stopped = True
        torch.set_num_threads(self._threads)

    def run(
        self, rows: list[PendingRequest], max_leftover: int, on_done: Callable[[PendingRequest, Completion], object]
    ) -> list[PendingRequest]:
        """Generate until at most `max_leftover` rows are left and return those; `on_done` takes the others as they end.

        Whenever half of the rows have ended, the rest goes on in a smaller batch with its share of the cache.
        """
        import torch

        if self._single_thread:
            torch.set_num_threads(1)
        torch.manual_seed(int(content_id([[row.request.id, row.request.seed] for row in rows]), 16) % 2**63)
        device = self._network.device
        cache = kv_cache.empty(self._network.config)
        pads = [max(len(row.ids) for row in rows) - len(row.ids) for row in rows]
        ids = torch.tensor([[self._pad] * pad + row.ids for pad, row in zip(pads, rows, strict=True)], device=device)
        mask = torch.tensor([[0] * n + [1] * (ids.shape[1] - n) for n in pads], device=device)  # both (rows, length)
        while len(rows) > max_leftover and not self.stopped:
            with torch.inference_mode():
                ids = self._network.generate(
                    ids,
                    attention_mask=mask,
                    past_key_values=cache,
                    max_new_tokens=max(row.max_length - len(row.ids) for row in rows),
                    stopping_criteria=[_Halt(self, rows, self._eos, device)],
                    **_sampling_options(rows[0].request),
                )
            new_ids = ids[:, mask.shape[1] :]
            for row, tokens in zip(rows, new_ids.tolist(), strict=True):
                self._extend(row, tokens)
                if self._has_ended(row):
                    on_done(row, self._completion(row))
            survivors = [i for i, row in enumerate(rows) if not self._has_ended(row) and not row.answer.done()]
            rows = [rows[i] for i in survivors]
            if rows:
                indices = torch.tensor(survivors, device=device)
                ids = ids[indices]
                mask = torch.cat([mask, torch.ones_like(new_ids)], dim=1)[indices]
                cache.batch_select_indices(indices)
        return rows

    def _has_ended(self, row: PendingRequest) -> bool:
        return len(row.ids) >= row.max_length or (row.generated[-1:] != [] and row.ids[-1] in self._eos)

    def _extend(self, row: PendingRequest, tokens: list[int]) -> None:
        """Add new tokens, without the padding that follows a row's end."""
        own_length = next((i + 1 for i, token in enumerate(tokens) if token in self._eos), len(tokens))
        row.ids += tokens[: min(row.max_length - len(row.ids), own_length)]

    def _completion(self, row: PendingRequest) -> Completion:
        generated = row.generated
        finish: Finish = "length"
        if generated[-1] in self._eos:
            finish = "stop"
            generated = generated[:-1]
        return Completion(
            text=self._tokenizer.decode(generated),
            ids=tuple(generated),
            tokens=len(generated),
            finish=finish,
            seed=None,
            endpoint=self.endpoint,
            seconds=time.monotonic() - row.started_at,
        )


class _Halt:
    """Stopping criterion: a row ends with EOS, its own budget or its caller; the batch, once half its rows have."""

    def __init__(self, generator: Generator, rows: list[PendingRequest], eos: list[int], device: Any) -> None:
        import torch

        self._generator = generator
        self._rows = rows
        self._eos = torch.tensor(eos, device=device)
        self._remaining = torch.tensor([row.max_length - len(row.ids) for row in rows], device=device)
        self._ended = torch.zeros(len(rows), dtype=torch.bool, device=device)

    def __call__(self, ids: Any, scores: Any, **kwargs: Any) -> Any:
        import torch

        self._remaining -= 1
        self._ended |= torch.isin(ids[:, -1], self._eos) | (self._remaining <= 0)
        self._ended |= torch.tensor([row.answer.done() for row in self._rows], device=ids.device)
        end_batch = self._generator.stopped or 2 * int(self._ended.sum()) >= len(self._rows)
        return torch.ones_like(self._ended) if end_batch else self._ended


def _sampling_options(request: Request) -> dict[str, Any]:
    sampling = request.sampling
    if sampling.temperature == 0:
        return {"do_sample": False}
    options = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k or 0}
    return {"do_sample": True, **options}
