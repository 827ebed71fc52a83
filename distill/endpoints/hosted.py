"""One hosted chat API over HTTP: a conversation out, the assistant's turn back, as a stream or in one piece."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import orjson
from pydantic import JsonValue

from distill.endpoints.assistant_turn import AssistantTurn
from distill.endpoints.failures import RequestFailure, rejection
from distill.endpoints.http import Gateway, Http
from distill.endpoints.rate_limit import RateLimit
from distill.endpoints.window import Gauge
from distill.errors import BackendError, InputError
from distill.models.model import Model
from distill.models.request import Completion, Journal, Refused, Request, budget

if TYPE_CHECKING:
    from aiohttp import ClientResponse

_LIST_TIMEOUT = 30.0  # seconds for what an API answers at once


class ApiTerms(NamedTuple):
    """How an API is to be asked."""

    model_name: str
    """The model's name at the API."""
    budget_field: str
    """The request's field that holds the token budget."""
    extra: dict[str, JsonValue]
    """Further fields of every request; a value None leaves its field out."""
    stream: bool
    timeout: float
    silence: float
    """Seconds a stream may pass without a byte."""
    requests_per_minute: int | None
    tokens_per_minute: int | None


TokenCounter = Callable[[str], int]


class Hosted:
    """A client of one API; `url` is what `/chat/completions` follows, `journal` gets replies before they are read."""

    version = ""

    def __init__(
        self, url: str, model: Model, gateway: Gateway, terms: ApiTerms, journal: Journal, count_tokens: TokenCounter
    ) -> None:
        self.url = url
        self._model = model
        self._terms = terms
        self._journal = journal
        self._count_tokens = count_tokens
        self._http = Http(url, gateway)
        self._request_rate = RateLimit(terms.requests_per_minute)
        self._token_rate = RateLimit(terms.tokens_per_minute)
        self._was_let_in = False
        self._mean_tokens: float | None = None
        """Tokens of a reply, averaged over the latest ones."""

    async def check(self) -> None:
        """See whether the API lets us in and has the model, as far as it lists its models.

        Raises:
            RequestFailure, BackendError: it cannot be used now.
            InputError: it serves other models.
        """
        async with self._http.ask("GET", "/models", timeout=_LIST_TIMEOUT) as response:
            status = response.status
            raw = await response.read()
        if status in (404, 405, 501):  # not every gateway lists its models
            return
        if status != 200:
            raise rejection(self.url, status, raw, response.headers)
        try:
            model_names = [str(card["id"]) for card in orjson.loads(raw)["data"]]
        except (ValueError, LookupError, TypeError):
            return
        if model_names and self._terms.model_name not in model_names:
            shown = ", ".join(model_names[:8])
            if len(model_names) > 8:
                shown += ", …"
            message = f"serves {shown}, not {self._terms.model_name}"
            raise InputError(message, where=self.url, fix="name one of them in `model`, beside its address")

    async def pulse(self) -> Gauge | None:
        return None  # it says nothing of its load

    async def complete(self, request: Request) -> Completion:
        """Ask once.

        Raises:
            RequestFailure: worth another attempt.
            Refused: never will be.
            BackendError: the API does not let us in, wants to be paid, or does not have the model.
        """
        terms = self._terms
        sampling = request.sampling
        token_budget = budget(self._model, request)
        body = {
            "model": terms.model_name,
            "messages": [message.model_dump(exclude_none=True) for message in request.messages],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "seed": request.seed,
            "tools": request.tools,
            "stream": terms.stream,
            "stream_options": {"include_usage": True} if terms.stream else None,
            terms.budget_field: token_budget,
            **terms.extra,
        }
        body = {name: value for name, value in body.items() if value is not None}
        expected_reply = token_budget if self._mean_tokens is None else self._mean_tokens
        prompt_tokens = _prompt_tokens(request)
        expected_tokens = prompt_tokens + expected_reply
        await self._request_rate.spend(1)
        await self._token_rate.spend(expected_tokens)
        started_at = time.monotonic()
        turn = AssistantTurn(self._model.tags)
        try:
            await self._send(request, body, turn)
            seconds = time.monotonic() - started_at
            completion = turn.completion(request, self.url, seconds, "seed" in body, self._count_tokens)
        except RequestFailure as failure:
            failure.wasted_tokens = failure.wasted_tokens or turn.pieces
            self._token_rate.correct(turn.pieces - expected_tokens)
            raise
        if self._mean_tokens is None:
            self._mean_tokens = completion.tokens
        else:
            self._mean_tokens = 0.9 * self._mean_tokens + 0.1 * completion.tokens
        self._token_rate.correct(prompt_tokens + completion.tokens - expected_tokens)
        return completion

    async def _send(self, request: Request, body: Mapping[str, object], turn: AssistantTurn) -> None:
        terms = self._terms
        silence = terms.silence if terms.stream else None
        async with self._http.ask(
            "POST", "/chat/completions", body, timeout=terms.timeout, silence=silence
        ) as response:
            if response.status != 200:
                raise self._rejection(response, await response.read())
            if response.content_type == "text/event-stream":
                await _read_events(response, turn)
                self._journal(request, turn.raw())
            else:
                raw = await response.read()
                self._journal(request, raw)
                turn.read_reply(raw)
        self._was_let_in = True

    def _rejection(self, response: ClientResponse, raw: bytes) -> Exception:
        error = rejection(self.url, response.status, raw, response.headers)
        # who was let in before is not turned away for the key: it is about what was asked, as of moderation
        if response.status == 403 and self._was_let_in and isinstance(error, BackendError):
            return Refused(error.message)
        return error

    async def reset(self) -> None:
        await self._http.reset()

    async def close(self) -> None:
        await self._http.close()


def _prompt_tokens(request: Request) -> int:
    """Tokens of a request's prompt: about a quarter of its characters where nobody here has its tokenizer."""
    return len(request.ids) or sum(len(message.content) for message in request.messages) // 4


async def _read_events(response: ClientResponse, turn: AssistantTurn) -> None:
    """Read server-sent events to the end; comments, which keep the connection alive, are passed over."""
    try:
        async for line in response.content:
            if line.startswith(b"data:"):
                if (data := line[5:].strip()) == b"[DONE]":
                    return
                turn.read_piece(data)
    except ValueError as error:  # aiohttp's word for a line that does not end
        raise RequestFailure("sent no completion but one endless line") from error
