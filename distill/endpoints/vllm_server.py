"""One OpenAI-compatible vLLM server over HTTP: what it serves, how busy it is, and one completion at a time."""

from __future__ import annotations

import time
from collections.abc import Mapping

import orjson
from pydantic import JsonValue, ValidationError

from distill.endpoints.failures import RequestFailure, rejection
from distill.endpoints.http import Gateway, Http
from distill.endpoints.window import Gauge, read_gauge
from distill.errors import BackendError, InputError
from distill.models.model import Model
from distill.models.request import Completion, Journal, Refused, Request, budget
from distill.types import pack_ids

_PROBE_TIMEOUT = 10.0  # seconds for what a living server answers at once


class Endpoint:
    """A client of one server.

    `url` is without `/v1`, `timeout` is that of a reply in seconds, `extra` are more fields of each request, `journal`
    gets replies as they came.
    """

    def __init__(
        self, url: str, model: Model, gateway: Gateway, timeout: float, extra: Mapping[str, JsonValue], journal: Journal
    ) -> None:
        self.url = url
        self._model = model
        self._timeout = timeout
        self._extra = extra
        self._journal = journal
        self._http = Http(url, gateway)
        self.version = ""
        self._served_name = ""
        self._shows_load = True

    async def healthy(self) -> bool:
        try:
            status, _ = await self._get("/health")
        except RequestFailure:
            return False
        return status == 200

    async def pulse(self) -> Gauge | None:
        """How busy the engine is; None if the server lives but does not say.

        Raises:
            RequestFailure: no sign of life.
        """
        if self._shows_load:
            status, raw = await self._get("/metrics")
            gauge = read_gauge(raw) if status == 200 else None
            if gauge:
                return gauge
            self._shows_load = False
        if not await self.healthy():
            raise RequestFailure("is not healthy")
        return None

    async def check(self) -> None:
        """See whether the server can be used now; learn the model's name there and the engine's version.

        Raises:
            BackendError: not reached, no such server, or one whose engine does not work.
            InputError: another model, or too short a context.
        """
        model = self._model
        self._shows_load = True
        try:
            status, _ = await self._get("/health")
            if status not in (200, 404):  # a gateway may not pass it on
                raise RequestFailure(f"answered {status} at /health")
            status, raw = await self._get("/v1/models")
            if status != 200:
                raise rejection(self.url, status, raw, {})
            contexts = {str(card["id"]): card.get("max_model_len") for card in orjson.loads(raw)["data"]}
            status, raw = await self._get("/version")
            self.version = str(orjson.loads(raw)["version"]) if status == 200 else ""
        except (RequestFailure, Refused, ValueError, LookupError, TypeError) as error:
            message = "does not answer like an OpenAI-compatible server"
            if isinstance(error, RequestFailure | Refused):
                message = str(error)
            fix = "is it running, and is the address right? Without `endpoints`, distill starts a server itself"
            raise BackendError(message, where=self.url, fix=fix) from error
        self._served_name = next((name for name in (model.name, model.path) if name in contexts), "")
        if not self._served_name:
            raise InputError(
                f"serves {', '.join(contexts) or 'no model'}, not {model.name}",
                where=self.url,
                fix=f"start it with `--served-model-name {model.name}`, or choose the model that it serves",
            )
        context = contexts[self._served_name]
        if context is not None and context < model.context:
            raise InputError(
                f"serves {self._served_name} with a context of {context} tokens, {model.context} are needed",
                where=self.url,
                fix=f"start it with `--max-model-len {model.context}`, or lower the context asked for",
            )

    async def complete(self, request: Request) -> Completion:
        """Ask once.

        Raises:
            RequestFailure: worth another attempt.
            Refused: never will be.
            BackendError: the server does not let us in, has lost the model, or changes prompts.
        """
        sampling = request.sampling
        body = {
            "model": self._served_name,
            "prompt": request.ids,
            "max_tokens": budget(self._model, request),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k or -1,
            "seed": request.seed,
            # left unsaid, these come from the model's generation_config.json, unseen by the trace
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "add_special_tokens": False,
            "skip_special_tokens": True,
            "return_token_ids": True,
            **self._extra,
        }
        started_at = time.monotonic()
        async with self._http.ask("POST", "/v1/completions", body, timeout=self._timeout) as response:
            raw = await response.read()
        if response.status != 200:
            raise rejection(self.url, response.status, raw, response.headers)
        self._journal(request, raw)
        return self._parse(raw, request, time.monotonic() - started_at)

    def _parse(self, raw: bytes, request: Request, seconds: float) -> Completion:
        try:
            reply = orjson.loads(raw)
            choice = reply["choices"][0]
            tokens = int(reply["usage"]["completion_tokens"])
            finish = choice["finish_reason"]
            ids = choice.get("token_ids")
            prompt_ids = choice.get("prompt_token_ids")
            if finish not in ("stop", "length", "repetition"):
                raise RequestFailure(f"gave the request up ({finish})", wasted_tokens=tokens)
            ended_by_eos = finish == "stop"  # vLLM counts and lists the EOS, which is no part of the text
            if ids and ended_by_eos:
                del ids[-1]
            completion = Completion(
                text=choice["text"],
                tokens=tokens - ended_by_eos,
                ids=ids,
                packed=None if ids is None else pack_ids(ids),  # refuses what is no token id
                finish=finish,
                seed=request.seed,
                endpoint=self.url,
                seconds=seconds,
            )
            if prompt_ids is not None and tuple(prompt_ids) != request.ids:
                message = f"answered a prompt of {len(prompt_ids)} tokens, not the {len(request.ids)} that were sent"
                fix = "does it, or a gateway before it, truncate or rewrite prompts?"
                raise BackendError(message, where=self.url, fix=fix)
        except (ValueError, OverflowError, LookupError, TypeError, AttributeError, ValidationError) as error:
            raise RequestFailure(f"sent no completion but {raw[:80]!r}") from error
        if completion.ids is not None and len(completion.ids) != completion.tokens:
            raise RequestFailure(
                f"sent {len(completion.ids)} token ids and counts {completion.tokens}", wasted_tokens=tokens
            )
        return completion

    async def _get(self, path: str) -> tuple[int, bytes]:
        async with self._http.ask("GET", path, timeout=_PROBE_TIMEOUT) as response:
            return response.status, await response.read()

    async def reset(self) -> None:
        await self._http.reset()

    async def close(self) -> None:
        await self._http.close()
