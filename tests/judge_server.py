"""A judge to ask in tests: a real server on 127.0.0.1 that speaks the chat completions protocol, in a thread."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

Answer = Callable[[web.Request, str], Awaitable[web.StreamResponse]]


def says(text: str | None, finish: str = "stop") -> Answer:
    async def answer(request: web.Request, prompt: str) -> web.Response:
        message = {"role": "assistant", "content": text}
        return web.json_response({"choices": [{"index": 0, "message": message, "finish_reason": finish}]})

    return answer


def fails(status: int, **headers: str) -> Answer:
    async def answer(request: web.Request, prompt: str) -> web.Response:
        return web.json_response({"error": {"message": "no luck"}}, status=status, headers=headers)

    return answer


def raw(body: str) -> Answer:
    async def answer(request: web.Request, prompt: str) -> web.Response:
        return web.Response(text=body)

    return answer


async def resets(request: web.Request, prompt: str) -> web.StreamResponse:
    assert request.transport
    request.transport.abort()
    return web.Response()


async def breaks_off(request: web.Request, prompt: str) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"choices": [{"mess')
    assert request.transport
    request.transport.abort()
    return response


async def compares(request: web.Request, prompt: str) -> web.StreamResponse:
    """A judge of its own mind: right if the candidate holds the reference as a word."""
    gold, said = section(prompt, "reference"), section(prompt, "candidate")
    right = re.search(rf"(?<!\w){re.escape(gold)}(?!\w)", said)
    return await says(f"I compare.\nVERDICT: {'RIGHT' if right else 'WRONG'}")(request, prompt)


def section(prompt: str, name: str) -> str:
    found = re.findall(rf"<{name}-(\w+)>\n(.*?)\n</{name}-\1>", prompt, re.DOTALL)
    assert len(found) == 1, prompt
    return str(found[0][1])


class Server:
    """Answers the n-th request with the n-th of `script`, the last one for ever."""

    def __init__(self, *script: Answer, key: str | None = None) -> None:
        self.script, self.key = list(script), key
        self.bodies: list[dict[str, Any]] = []
        self.prompts: list[str] = []
        self.most = self._now = self.cancelled = 0
        self.url = ""

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response({"error": "Unauthorized"}, status=401)
        body = await request.json()
        self.bodies.append(body)
        self.prompts.append(body["messages"][0]["content"])
        answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            return await answer(request, self.prompts[-1])
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self._now -= 1

    @contextmanager
    def running(self) -> Iterator[str]:
        loop, ready, end = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

        async def serve() -> None:
            app = web.Application()
            app.router.add_post("/v1/chat/completions", self._complete)
            async with TestServer(app, host="127.0.0.1", handler_cancellation=True) as server:
                self.url = f"http://127.0.0.1:{server.port}"
                ready.set()
                await end.wait()

        thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
        thread.start()
        assert ready.wait(10)
        try:
            yield self.url
        finally:
            loop.call_soon_threadsafe(end.set)
            thread.join()
            loop.close()
