"""A model in this process, and batches of requests run through transformers' `generate`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill.backends import Completion, Model, Request
from distill.errors import BackendError, InputError
from distill.machine.hardware import keep_freed_memory, processors
from distill.models import kv_cache
from distill.models.chat import Tokenizer
from distill.types import Finish, content_id


@dataclass(eq=False)
class Row:
    """A request on its way."""

    request: Request
    answer: asyncio.Future[Completion]
    end: int
    """Length of `ids` at which the budget is used up."""
    ids: list[int]
    """The prompt, then what was generated."""
    start: float = field(default_factory=time.monotonic)

    @property
    def made(self) -> list[int]:
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
            net = transformers.AutoModelForCausalLM.from_pretrained(model.path, revision=revision, dtype=dtype)
        except (OSError, ValueError) as error:
            raise BackendError(f"cannot be loaded: {error}", where=model.path) from error
        longest = getattr(net.config.get_text_config(), "max_position_embeddings", None)
        if longest and longest < model.context:
            what = f"has a context of {longest} tokens, {model.context} are needed"
            raise InputError(what, where=model.path, fix="lower the context asked for")
        advice = net.generation_config
        self._eos = [advice.eos_token_id] if isinstance(advice.eos_token_id, int) else list(advice.eos_token_id or [])
        self._pad = int(advice.pad_token_id if advice.pad_token_id is not None else (self._eos or [0])[0])
        # What generation_config.json advises is not ours to apply: the request's sampling says it all.
        net.generation_config = transformers.GenerationConfig(eos_token_id=self._eos or None, pad_token_id=self._pad)
        self._net = net.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        if self._net.device.type == "cpu":
            keep_freed_memory()
        # Threads gain a tiny model little, and on a busy machine waiting for one another costs it ten times as much.
        self._single = net.num_parameters() < 20e6
        self._threads = torch.get_num_threads()
        self.lanes = 2 if self._single and self._net.device.type == "cpu" and len(processors()) > 1 else 1
        self.version, self.endpoint = str(transformers.__version__), f"transformers:{self._net.device.type}"
        self.stopped = False

    def stop(self) -> None:
        import torch

        self.stopped = True
        torch.set_num_threads(self._threads)

    def run(self, rows: list[Row], few: int, done: Callable[[Row, Completion], object]) -> list[Row]:
        """Generate until no more than `few` rows are left, and return those; the others go to `done` as they end.

        Whenever half of the rows have ended, the rest goes on in a smaller batch with its share of the cache.
        """
        import torch

        if self._single:
            torch.set_num_threads(1)
        torch.manual_seed(int(content_id([[row.request.id, row.request.seed] for row in rows]), 16) % 2**63)
        device, cache = self._net.device, kv_cache.empty(self._net.config)
        pads = [max(len(row.ids) for row in rows) - len(row.ids) for row in rows]
        ids = torch.tensor([[self._pad] * pad + row.ids for pad, row in zip(pads, rows, strict=True)], device=device)
        mask = torch.tensor([[0] * n + [1] * (ids.shape[1] - n) for n in pads], device=device)  # both (rows, length)
        while len(rows) > few and not self.stopped:
            with torch.inference_mode():
                ids = self._net.generate(
                    ids,
                    attention_mask=mask,
                    past_key_values=cache,
                    max_new_tokens=max(row.end - len(row.ids) for row in rows),
                    stopping_criteria=[_Halt(self, rows, self._eos, device)],
                    **_options(rows[0].request),
                )
            new = ids[:, mask.shape[1] :]
            for row, tokens in zip(rows, new.tolist(), strict=True):
                self._extend(row, tokens)
                if self._over(row):
                    done(row, self._completion(row))
            keep = [i for i, row in enumerate(rows) if not self._over(row) and not row.answer.done()]
            rows = [rows[i] for i in keep]
            if rows:
                at = torch.tensor(keep, device=device)
                ids, mask = ids[at], torch.cat([mask, torch.ones_like(new)], dim=1)[at]
                cache.batch_select_indices(at)
        return rows

    def _over(self, row: Row) -> bool:
        return len(row.ids) >= row.end or (row.made[-1:] != [] and row.ids[-1] in self._eos)

    def _extend(self, row: Row, tokens: list[int]) -> None:
        """Add new tokens, without the padding that follows a row's end."""
        ends = [i for i, token in enumerate(tokens) if token in self._eos]
        row.ids += tokens[: min(row.end - len(row.ids), ends[0] + 1 if ends else len(tokens))]

    def _completion(self, row: Row) -> Completion:
        made = row.made
        finish: Finish = "stop" if made[-1] in self._eos else "length"
        made = made[:-1] if finish == "stop" else made
        return Completion(
            text=self._tokenizer.decode(made),
            ids=tuple(made),
            tokens=len(made),
            finish=finish,
            seed=None,
            endpoint=self.endpoint,
            seconds=time.monotonic() - row.start,
        )


class _Halt:
    """Stopping criterion: a row ends with EOS, its own budget or its caller; the batch, once half its rows have."""

    def __init__(self, generator: Generator, rows: list[Row], eos: list[int], device: Any) -> None:
        import torch

        self._generator, self._rows = generator, rows
        self._eos = torch.tensor(eos, device=device)
        self._left = torch.tensor([row.end - len(row.ids) for row in rows], device=device)
        self._done = torch.zeros(len(rows), dtype=torch.bool, device=device)

    def __call__(self, ids: Any, scores: Any, **kwargs: Any) -> Any:
        import torch

        self._left -= 1
        self._done |= torch.isin(ids[:, -1], self._eos) | (self._left <= 0)
        self._done |= torch.tensor([row.answer.done() for row in self._rows], device=ids.device)
        halt = self._generator.stopped or 2 * int(self._done.sum()) >= len(self._rows)
        return torch.ones_like(self._done) if halt else self._done


def _options(request: Request) -> dict[str, Any]:
    sampling = request.sampling
    if sampling.temperature == 0:
        return {"do_sample": False}
    options = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k or 0}
    return {"do_sample": True, **options}
