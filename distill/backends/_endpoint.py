"""One OpenAI-compatible vLLM server over HTTP: what it serves, and one completion at a time."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

import orjson

from distill.backends import Completion, Model, Refused, Request, budget
from distill.errors import BackendError, InputError

if TYPE_CHECKING:
    from aiohttp import ClientSession

_UNAVAILABLE = {429, 502, 503, 504}  # overloaded, starting or behind a proxy: says nothing about the request


class Failure(Exception):
    """An attempt that is worth repeating; `counts` unless the request has no part in it."""

    def __init__(self, what: str, *, counts: bool = True) -> None:
        super().__init__(what)
        self.counts = counts


def session(api_key: str | None) -> ClientSession:
    """A client without aiohttp's usual limits: 100 connections, 5 minutes a reply."""
    from aiohttp import ClientSession, ClientTimeout, TCPConnector

    # Servers close idle connections after 5 s; closing first avoids sending into one that is just going.
    connector = TCPConnector(limit=0, keepalive_timeout=3, socket_factory=_keepalive)
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {})
    timeout = ClientTimeout(total=None, sock_connect=10)
    return ClientSession(connector=connector, headers=headers, timeout=timeout, read_bufsize=2**20)


def _keepalive(info: tuple[Any, ...]) -> socket.socket:
    """A reply may take an hour: without probes, a machine that vanished would be waited for like one that works."""
    made = socket.socket(*info[:3])
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
    return made


class Endpoint:
    """`url` without `/v1`. `in_flight` and `away_until` are the caller's bookkeeping."""

    def __init__(self, url: str, client: ClientSession) -> None:
        self.url, self._client = url, client
        self.version = ""
        self.in_flight, self.away_until = 0, 0.0
        self._served = ""

    async def healthy(self) -> bool:
        try:
            return (await self._http("GET", "/health"))[0] == 200
        except Failure:
            return False

    async def check(self, model: Model) -> None:
        """Learn the name under which the model is served, and the engine's version.

        Raises:
            BackendError: not reached, or no such server.
            InputError: another model, or too short a context.
        """
        try:
            status, raw = await self._http("GET", "/v1/models")
            if status != 200:
                raise self._rejection(status, raw)
            served = {str(card["id"]): card.get("max_model_len") for card in orjson.loads(raw)["data"]}
            status, raw = await self._http("GET", "/version")
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

    async def complete(self, model: Model, request: Request) -> Completion:
        """One attempt.

        Raises:
            Failure: worth another attempt.
            Refused: never will be.
            BackendError: the server does not let us in, or has lost the model.
        """
        sampling = request.sampling
        body = {
            "model": self._served,
            "prompt": request.ids,
            "max_tokens": budget(model, request),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k or -1,
            "seed": request.seed,
            # left unsaid, these come from the model's generation_config.json, unseen by the trace
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "add_special_tokens": False,
            "skip_special_tokens": True,
        }
        start = time.monotonic()
        status, raw = await self._http("POST", "/v1/completions", body)
        if status != 200:
            raise self._rejection(status, raw)
        try:
            reply = orjson.loads(raw)
            choice, tokens = reply["choices"][0], int(reply["usage"]["completion_tokens"])
            text, finish = choice["text"], choice["finish_reason"]
            assert isinstance(text, str)
        except (ValueError, LookupError, TypeError, AssertionError) as error:
            raise Failure(f"sent no completion but {raw[:80]!r}") from error
        if finish not in ("stop", "length", "repetition"):
            raise Failure(f"gave the request up ({finish})")
        return Completion(
            text=text,
            tokens=tokens - (finish == "stop"),  # vLLM counts the EOS, which is no part of the text
            finish=finish,
            seed=request.seed,
            endpoint=self.url,
            seconds=time.monotonic() - start,
        )

    async def _http(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        from aiohttp import ClientConnectorError, ClientError, ConnectionTimeoutError

        data = None if body is None else orjson.dumps(body)
        try:
            async with self._client.request(method, self.url + path, data=data) as response:
                return response.status, await response.read()
        except (ClientConnectorError, ConnectionTimeoutError) as error:
            raise Failure(f"cannot be reached: {error.__cause__ or error}", counts=False) from error
        except (ClientError, OSError) as error:
            raise Failure(f"broke off: {error or type(error).__name__}") from error

    def _rejection(self, status: int, raw: bytes) -> Exception:
        """What an error status means for the request."""
        said = f"answered {status}: {_message(raw)}"
        if status in _UNAVAILABLE or status == 408:
            return Failure(said, counts=False)
        if status >= 500:
            return Failure(said)
        if status in (401, 403):
            return BackendError(said, where=self.url, fix="name the variable that holds its key in `api_key_env`")
        if status == 404:
            return BackendError(said, where=self.url, fix="does it still serve the model? finished traces are saved")
        return Refused(said)


def _message(raw: bytes) -> str:
    """The message in vLLM's error reply, `{"error": {"message": …}}`; else the reply's beginning."""
    try:
        reply = orjson.loads(raw)
        return str(reply.get("error", reply)["message"])[:500]
    except (ValueError, LookupError, TypeError, AttributeError):
        return raw.decode(errors="replace").strip()[:200] or "nothing"
