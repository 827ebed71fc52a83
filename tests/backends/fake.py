"""A small server that speaks vLLM's protocol, and requests to ask it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from distill.models.model import Model
from distill.models.request import Request
from distill.types import Sampling

MODEL = Model(name="tiny", path="some/where", context=64)
Answer = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


class Fake:
    """Answers the n-th request with the n-th of `script`, the last one for ever."""

    def __init__(self, *script: Answer, model: str = "tiny", context: int | None = 64, key: str | None = None) -> None:
        self.script, self.model, self.context, self.key = list(script), model, context, key
        self.bodies: list[dict[str, Any]] = []
        self.cancelled = self.now = self.most = 0
        self.health = 200
        self.stuck = False
        """Say nothing any more, as a stopped process does."""
        self.slots: int | None = None
        """Requests that run at once by what /metrics says, the rest waits; None: there is no /metrics."""
        self.cache = 0.0

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[str]:
        app = web.Application(middlewares=[self.stick])
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/version", self.version)
        app.router.add_get("/health", self.healthy)
        app.router.add_get("/metrics", self.metrics)
        app.router.add_post("/v1/completions", self.completions)
        app.router.add_post("/v1/chat/completions", self.completions)
        # at its end it drops whatever is under way, as a process does that is killed
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.01)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port, backlog=2048).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    @web.middleware
    async def stick(self, request: web.Request, handler: Any) -> Any:
        while self.stuck:
            await asyncio.sleep(0.02)
        return await handler(request)

    async def metrics(self, request: web.Request) -> web.Response:
        if self.slots is None:
            return web.Response(status=404)
        read = {
            "num_requests_running": min(self.slots, self.now),
            "num_requests_waiting": max(0, self.now - self.slots),
        }
        read |= {"kv_cache_usage_perc": self.cache, "num_requests_waiting_by_reason": 99.0}
        lines = [f'vllm:{name}{{engine="0",model_name="a}}b"}} {float(value)}' for name, value in read.items()]
        return web.Response(text="# HELP vllm:num_requests_running 7\n" + "\n".join(lines) + "\n")

    async def models(self, request: web.Request) -> web.Response:
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response({"error": "Unauthorized"}, status=401)
        card = {"id": self.model, "max_model_len": self.context}
        return web.json_response({"data": [card]})

    async def version(self, request: web.Request) -> web.Response:
        return web.json_response({"version": "9.9"})

    async def healthy(self, request: web.Request) -> web.Response:
        return web.Response(status=self.health)

    async def completions(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            return await answer(request, body)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.now -= 1


def reply(text: str = "hello", finish: str = "stop", tokens: int = 6, **more: Any) -> Answer:
    async def answer(request: web.Request, body: dict[str, Any]) -> web.Response:
        choice = {"index": 0, "text": text, "finish_reason": finish, **more}
        return web.json_response({"choices": [choice], "usage": {"completion_tokens": tokens}})

    return answer


def status(code: int, message: str = "no luck", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def answer(request: web.Request, body: dict[str, Any]) -> web.Response:
        return web.json_response({"error": {"message": message}}, status=code, headers=named)

    return answer


def raw(body: str) -> Answer:
    async def answer(request: web.Request, _: dict[str, Any]) -> web.Response:
        return web.Response(text=body)

    return answer


async def half(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"choices": [{"text": "hal')
    assert request.transport
    request.transport.abort()
    return response


def after(seconds: float, then: Answer | None = None) -> Answer:
    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return await (then or reply())(request, body)

    return answer


async def never(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    await asyncio.sleep(60)
    raise AssertionError


def request(name: str = "r", prompt: int = 5, **sampling: Any) -> Request:
    return Request(id=name, ids=tuple(range(prompt)), sampling=Sampling(**sampling), seed=7)
