"""A model in this process, and batches of requests run through transformers' `generate`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from distill.errors import BackendError, InputError
from distill.machine.hardware import keep_freed_memory, processors
from distill.models import thinned_batch
from distill.models.chat import Tokenizer
from distill.models.model import Model
from distill.models.request import Completion, Request
from distill.models.thinned_batch import BatchRow
from distill.types import Finish, content_id

if TYPE_CHECKING:
    from transformers import GenerationConfig


@dataclass(eq=False)
class PendingRequest(BatchRow):
    """A request on its way."""

    request: Request
    answer: asyncio.Future[Completion]
    started_at: float = field(default_factory=time.monotonic)

    @property
    def abandoned(self) -> bool:
        return self.answer.done()


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
        """Generate until at most `max_leftover` rows are left; return those, and hand the others out as they end."""
        import torch

        if self._single_thread:
            torch.set_num_threads(1)
        torch.manual_seed(int(content_id([[row.request.id, row.request.seed] for row in rows]), 16) % 2**63)
        with torch.inference_mode():
            return thinned_batch.generate(
                self._network,
                rows,
                self._generation_config(rows[0].request),
                on_end=lambda row: on_done(row, self._completion(row)),
                max_leftover=max_leftover,
                stopped=lambda: self.stopped,
            )

    def _generation_config(self, request: Request) -> GenerationConfig:
        from transformers import GenerationConfig

        sampling = request.sampling
        options: dict[str, object] = {"do_sample": False}
        if sampling.temperature:
            top_k = sampling.top_k or 0
            options = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": top_k}
        return GenerationConfig(eos_token_id=self._eos or None, pad_token_id=self._pad, **options)

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
