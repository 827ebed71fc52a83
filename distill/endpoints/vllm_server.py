"""One OpenAI-compatible vLLM server over HTTP: what it serves, how busy it is, and one completion at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import orjson
from pydantic import ValidationError

from distill.backends import Completion, Model, Refused, Request, budget
from distill.endpoints.failures import Failure, rejection
from distill.endpoints.http import Gateway, Http
from distill.endpoints.window import Gauge, read_gauge
from distill.errors import BackendError, InputError
from distill.types import pack_ids

_SOON = 10.0  # seconds for what a living server answers at once


class Endpoint:
    """`url` without `/v1`, `timeout` of a reply in seconds, `extra` fields of each request; `keep` gets raw replies."""

    def __init__(
        self,
        url: str,
        model: Model,
        gateway: Gateway,
        timeout: float,
        extra: dict[str, Any],
        keep: Callable[[Request, bytes], None],
    ) -> None:
        self.url, self._model, self._timeout, self._extra, self._keep = url, model, timeout, extra, keep
        self._http = Http(url, gateway)
        self.version = ""
        self._served = ""
        self._gauged = True

    async def healthy(self) -> bool:
        try:
            return (await self._get("/health"))[0] == 200
        except Failure:
            return False

    async def pulse(self) -> Gauge | None:
        """How busy the engine is; None if the server lives but does not say.

        Raises:
            Failure: no sign of life.
        """
        if self._gauged:
            status, raw = await self._get("/metrics")
            if gauge := read_gauge(raw if status == 200 else b""):
                return gauge
            self._gauged = False
        if not await self.healthy():
            raise Failure("is not healthy")
        return None

    async def check(self) -> None:
        """Whether it can be used now; learns the name under which the model is served, and the engine's version.

        Raises:
            BackendError: not reached, no such server, or one whose engine does not work.
            InputError: another model, or too short a context.
        """
        model, self._gauged = self._model, True
        try:
            if (status := (await self._get("/health"))[0]) not in (200, 404):  # a gateway may not pass it on
                raise Failure(f"answered {status} at /health")
            status, raw = await self._get("/v1/models")
            if status != 200:
                raise rejection(self.url, status, raw, {})
            served = {str(card["id"]): card.get("max_model_len") for card in orjson.loads(raw)["data"]}
            status, raw = await self._get("/version")
            self.version = str(orjson.loads(raw)["version"]) if status == 200 else ""
        except (Failure, Refused, ValueError, LookupError, TypeError) as error:
            what = error if isinstance(error, Failure | Refused) else "does not answer like an OpenAI-compatible server"
            fix = "is it running, and is the address right? Without `endpoints`, distill starts a server itself"
            raise BackendError(str(what), where=self.url, fix=fix) from error
        self._served = next((name for name in (model.name, model.path) if name in served), "")
        if not self._served:
            raise InputError(
                f"serves {', '.join(served) or 'no model'}, not {model.name}",
                where=self.url,
                fix=f"start it with `--served-model-name {model.name}`, or choose the model that it serves",
            )
        context = served[self._served]
        if context is not None and context < model.context:
            raise InputError(
                f"serves {self._served} with a context of {context} tokens, {model.context} are needed",
                where=self.url,
                fix=f"start it with `--max-model-len {model.context}`, or lower the context asked for",
            )

    async def complete(self, request: Request) -> Completion:
        """One attempt.

        Raises:
            Failure: worth another attempt.
            Refused: never will be.
            BackendError: the server does not let us in, has lost the model, or changes prompts.
        """
        sampling = request.sampling
        body = {
            "model": self._served,
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
        start = time.monotonic()
        async with self._http.ask("POST", "/v1/completions", body, within=self._timeout) as response:
            raw = await response.read()
        if response.status != 200:
            raise rejection(self.url, response.status, raw, response.headers)
        self._keep(request, raw)
        return self._read(raw, request, time.monotonic() - start)

    def _read(self, raw: bytes, request: Request, seconds: float) -> Completion:
        try:
            reply = orjson.loads(raw)
            choice, tokens = reply["choices"][0], int(reply["usage"]["completion_tokens"])
            finish, ids, prompt = choice["finish_reason"], choice.get("token_ids"), choice.get("prompt_token_ids")
            if finish not in ("stop", "length", "repetition"):
                raise Failure(f"gave the request up ({finish})", wasted=tokens)
            ended = finish == "stop"  # vLLM counts and lists the EOS, which is no part of the text
            if ids and ended:
                del ids[-1]
            completion = Completion(
                text=choice["text"],
                tokens=tokens - ended,
                ids=ids,
                packed=None if ids is None else pack_ids(ids),  # refuses what is no token id
                finish=finish,
                seed=request.seed,
                endpoint=self.url,
                seconds=seconds,
            )
            if prompt is not None and tuple(prompt) != request.ids:
                what = f"answered a prompt of {len(prompt)} tokens, not the {len(request.ids)} that were sent"
                fix = "does it, or a gateway before it, truncate or rewrite prompts?"
                raise BackendError(what, where=self.url, fix=fix)
        except (ValueError, OverflowError, LookupError, TypeError, AttributeError, ValidationError) as error:
            raise Failure(f"sent no completion but {raw[:80]!r}") from error
        if completion.ids is not None and len(completion.ids) != completion.tokens:
            raise Failure(f"sent {len(completion.ids)} token ids and counts {completion.tokens}", wasted=tokens)
        return completion

    async def _get(self, path: str) -> tuple[int, bytes]:
        async with self._http.ask("GET", path, within=_SOON) as response:
            return response.status, await response.read()

    async def reset(self) -> None:
        await self._http.reset()

    async def close(self) -> None:
        await self._http.close()
