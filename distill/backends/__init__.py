"""Backends sample completions from a model. One file per kind.

A kind has a `Config` and `build(config, model, log) -> Backend`; a backend is opened once, asked concurrently, closed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

from pydantic import SkipValidation

from distill.models.chat import Tags
from distill.types import Finish, Message, Record, Sampling

Precision = Literal["fp32", "bf16", "fp16", "fp8", "int8", "int4"]


class Model(Record):
    """A model to sample from: facts that every backend needs. Presets and trained students both become one."""

    name: str
    path: str
    """Local folder or Hub id."""
    revision: str | None = None
    """Hub commit, or the fingerprint of a local folder's weights."""
    parameters: float | None = None
    """Total parameter count; None when unknown."""
    active: float | None = None
    """Parameters used per token by a mixture of experts; None for a dense model."""
    precision: Precision | None = None
    """Number format of the weights; None: as config.json says, else bf16."""
    heads: int | None = None
    """Attention heads: tensor parallelism must divide them. None: as config.json says."""
    kv_heads: int | None = None
    """Key-value heads that tensor parallelism can share out; 1 for latent attention, which every GPU holds whole. None:
    as config.json says."""
    cache: int | None = None
    """Bytes of key-value cache per token of context, in bf16. None: as config.json says."""
    context: int
    """Longest prompt + completion, tokens."""
    tags: Tags = Tags()
    sampling: Sampling = Sampling()
    """What the model's authors advise."""
    template: str | None = None
    """A chat template that replaces the model's own."""
    serve: dict[str, Any] = {}
    """Arguments of `vllm serve`, by name without dashes (`tensor-parallel-size: 8`); true stands for a bare flag."""


class Request(Record):
    """One completion wanted. `ids` is the rendered prompt, used as it is: no template, no BOS is added."""

    id: str
    ids: tuple[int, ...]
    """Token ids of the prompt, followed by the completion so far where a cut trace is continued."""
    sampling: Sampling
    """`max_tokens` is this request's own budget."""
    seed: int
    messages: tuple[Message, ...] = ()
    """What `ids` was rendered from, for engines that take no token ids."""
    tools: tuple[dict[str, Any], ...] | None = None
    affinity: str | None = None
    """The endpoint that sampled the trace's earlier part: it may still have the prefix cached."""


class Completion(Record):
    """One completion as the engine gave it; special tokens left out of `text`, tags kept."""

    text: str
    tokens: int
    """Tokens of `text`; the EOS is not counted."""
    ids: SkipValidation[Sequence[int] | None] = None
    """Token ids of `text`, EOS left out; None where the engine does not give them. Only the backend checks them, since
    there are thousands."""
    packed: str | None = None
    """`ids` as text, made by `pack_ids`; None from a backend that does not check its ids by packing them."""
    finish: Finish
    seed: int | None
    """The seed that belongs to this completion alone; None where the engine has none per request."""
    endpoint: str
    seconds: float
    prompt_tokens: int | None = None
    """Prompt tokens as a hosted API counts and bills them; None where `Request.ids` is the prompt."""
    reasoning_tokens: int | None = None
    """Tokens of the reasoning, a part of `tokens`, as a hosted API counts them; None where it does not."""


Journal = Callable[[Request, bytes], None]
"""Takes each reply of an engine before it is read."""


class Refused(Exception):
    """The engine will never answer this request (too long, bad parameters); it is recorded and the run goes on."""


def budget(model: Model, request: Request) -> int:
    """Tokens that may be generated: those asked for, as far as the context has room.

    Raises:
        Refused: the prompt leaves no room at all.
    """
    room = model.context - len(request.ids)
    if room < 1:
        raise Refused(f"the prompt has {len(request.ids)} tokens and leaves no room in a context of {model.context}")
    return min(request.sampling.max_tokens, room)


class Backend(Protocol):
    concurrency: int
    """Requests worth having in flight."""
    engine: str
    """Name and version, known after `open`."""

    async def open(self) -> None:
        """Start or reach the engine and check that it serves this model with enough context.

        Raises:
            BackendError: it cannot be started or reached (exit 1).
            InputError: it serves another model, or too short a context (exit 2).
        """
        ...

    async def complete(self, request: Request) -> Completion:
        """Sample one completion; cancelling the task aborts it.

        Raises:
            Refused: this request can never work.
            BackendError: the engine is gone, after retries.
        """
        ...

    async def close(self) -> None:
        """Free the engine; a server that was started here is stopped."""
        ...
