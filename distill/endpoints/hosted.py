"""One hosted chat API over HTTP: a conversation out, the assistant's turn back, as a stream or in one piece."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from distill.backends import Completion, Model, Refused, Request, budget
from distill.endpoints.assistant_turn import Turn
from distill.endpoints.failures import Failure, rejection
from distill.endpoints.http import Gateway, Http
from distill.endpoints.rate_limit import Rate
from distill.endpoints.window import Gauge
from distill.errors import BackendError, InputError

if TYPE_CHECKING:
    from aiohttp import ClientResponse

_SOON = 30.0  # seconds for what an API answers at once


class Terms(NamedTuple):
    """How an API is to be asked."""

    served: str
    """The model's name there."""
    limit: str
    """The field that holds the token budget."""
    extra: dict[str, Any]
    """More fields of every request; None leaves one out."""
    stream: bool
    timeout: float
    silence: float
    """Seconds a stream may pass without a byte."""
    requests_per_minute: int | None
    tokens_per_minute: int | None


class Hosted:
    """`url` is what `/chat/completions` follows; `keep` gets replies before they are read; `count` counts tokens."""

    version = ""

    def __init__(
        self,
        url: str,
        model: Model,
        gateway: Gateway,
        terms: Terms,
        keep: Callable[[Request, bytes], None],
        count: Callable[[str], int],
    ) -> None:
        self.url, self._model, self._terms, self._keep, self._count = url, model, terms, keep, count
        self._http = Http(url, gateway)
        self._requests, self._tokens = Rate(terms.requests_per_minute), Rate(terms.tokens_per_minute)
        self._let_in = False
        self._typical: float | None = None
        """Tokens of a reply, so far."""

    async def check(self) -> None:
        """Whether the API lets us in and has the model, as far as it lists its models.

        Raises:
            Failure, BackendError: it cannot be used now.
            InputError: it serves other models.
        """
        async with self._http.ask("GET", "/models", within=_SOON) as response:
            status, raw = response.status, await response.read()
        if status in (404, 405, 501):  # not every gateway lists its models
            return
        if status != 200:
            raise rejection(self.url, status, raw, response.headers)
        try:
            listed = [str(card["id"]) for card in orjson.loads(raw)["data"]]
        except (ValueError, LookupError, TypeError):
            return
        if listed and self._terms.served not in listed:
            shown = ", ".join(listed[:8]) + (", …" if len(listed) > 8 else "")
            what = f"serves {shown}, not {self._terms.served}"
            raise InputError(what, where=self.url, fix="name one of them: `backend: {kind: chat, model: …}`")

    async def pulse(self) -> Gauge | None:
        return None  # it says nothing of its load

    async def complete(self, request: Request) -> Completion:
        """One attempt.

        Raises:
            Failure: worth another attempt.
            Refused: never will be.
            BackendError: the API does not let us in, wants to be paid, or does not have the model.
        """
        terms, sampling, room = self._terms, request.sampling, budget(self._model, request)
        body = {
            "model": terms.served,
            "messages": [message.model_dump(exclude_none=True) for message in request.messages],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "seed": request.seed,
            "tools": request.tools,
            "stream": terms.stream,
            "stream_options": {"include_usage": True} if terms.stream else None,
            terms.limit: room,
            **terms.extra,
        }
        body = {name: value for name, value in body.items() if value is not None}
        expected = len(request.ids) + (room if self._typical is None else self._typical)
        await self._requests.spend(1)
        await self._tokens.spend(expected)
        start = time.monotonic()
        turn = Turn(self._model.tags)
        try:
            await self._ask(request, body, turn)
            done = turn.completion(request, self.url, time.monotonic() - start, "seed" in body, self._count)
        except Failure as failure:
            failure.wasted = failure.wasted or turn.pieces
            self._tokens.correct(turn.pieces - expected)
            raise
        self._typical = done.tokens if self._typical is None else 0.9 * self._typical + 0.1 * done.tokens
        self._tokens.correct(len(request.ids) + done.tokens - expected)
        return done

    async def _ask(self, request: Request, body: dict[str, Any], turn: Turn) -> None:
        terms = self._terms
        silence = terms.silence if terms.stream else None
        async with self._http.ask("POST", "/chat/completions", body, within=terms.timeout, silence=silence) as response:
            if response.status != 200:
                raise self._rejection(response, await response.read())
            if response.content_type == "text/event-stream":
                await _follow(response, turn)
                self._keep(request, turn.raw())
            else:
                raw = await response.read()
                self._keep(request, raw)
                turn.whole(raw)
        self._let_in = True

    def _rejection(self, response: ClientResponse, raw: bytes) -> Exception:
        error = rejection(self.url, response.status, raw, response.headers)
        # who was let in before is not turned away for the key: it is about what was asked, as of moderation
        if response.status == 403 and self._let_in and isinstance(error, BackendError):
            return Refused(error.what)
        return error

    async def reset(self) -> None:
        await self._http.reset()

    async def close(self) -> None:
        await self._http.close()


async def _follow(response: ClientResponse, turn: Turn) -> None:
    """Read server-sent events to the end; comments, which keep the connection alive, are passed over."""
    try:
        async for line in response.content:
            if line.startswith(b"data:"):
                if (data := line[5:].strip()) == b"[DONE]":
                    return
                turn.piece(data)
    except ValueError as error:  # aiohttp's word for a line that does not end
        raise Failure("sent no completion but one endless line") from error
