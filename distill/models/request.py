"""One completion: how it is asked for, what the engine gives, and why it may be refused for good."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypedDict

from pydantic import SkipValidation

from distill.models.model import Model
from distill.types import Finish, Message, Record, Sampling


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
    tools: tuple[dict[str, object], ...] | None = None
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


class Refused(Exception):
    """The engine will never answer this request (too long, bad parameters); it is recorded and the run goes on."""


class GivenUp(Refused):
    """The engine failed at this request again and again, or died with it, while it answered others."""


def budget(model: Model, request: Request) -> int:
    """Tokens that may be generated: those asked for, as far as the context has room.

    Raises:
        Refused: the prompt leaves no room at all.
    """
    room = model.context - len(request.ids)
    if room < 1:
        raise Refused(f"the prompt has {len(request.ids)} tokens and leaves no room in a context of {model.context}")
    return min(request.sampling.max_tokens, room)


Journal = Callable[[Request, bytes], None]
"""Takes each reply of an engine before it is read."""


class EndpointReport(TypedDict, total=False):
    """One endpoint of a pool, as it is now; counts are since the start."""

    url: str
    state: str
    """`up`, `ejected` or `draining`."""
    in_flight: int
    limit: int
    requests: int
    tokens: int
    failures: int
    wasted_tokens: int
    running: int
    """Requests that the engine runs, by its own word."""
    queued: int
    """Requests that wait in the engine, by its own word."""
    cache: float
    """Used share of the engine's cache."""
    reason: str
    """Why it was ejected."""


class BackendStatus(TypedDict, total=False):
    """What a backend says of its engine; counts of requests and tokens are since the start."""

    up: int
    """Endpoints that work."""
    ejected: int
    """Endpoints that do not work."""
    draining: int
    """Endpoints that finish and begin nothing."""
    in_flight: int
    waiting: int
    """Requests that wait here for a place."""
    queued: int
    """Requests that wait in the engines."""
    limit: int
    retries: int
    wasted_tokens: int
    each: list[EndpointReport]
    prompt_tokens: int
    """Prompt tokens that an API billed."""
