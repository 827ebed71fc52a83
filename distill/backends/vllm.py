"""Samples from vLLM: joins OpenAI-compatible servers that run already, or starts one and stops it again.

Prompts go out as token ids to `/v1/completions`, so no template is applied and no BOS added. A seed repeats its
completion as far as the engine's arithmetic does not depend on what else is in the batch.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from distill.backends import Backend, Completion, Model, Refused, Request
from distill.backends._endpoint import Endpoint, Failure, session
from distill.backends._server import Server, claim_port, is_cpu_build, vllm_command
from distill.errors import BackendError, InputError
from distill.types import Record

if TYPE_CHECKING:
    from aiohttp import ClientSession

_ATTEMPTS = 6  # failures of one request while others succeed, after which it is given up
_AWAY = 10.0  # seconds for which an endpoint that failed is asked last
_RESUME = "finished traces are saved; the same command goes on from there"


class Config(Record):
    endpoints: tuple[str, ...] = ()
    """Addresses of running servers, such as `http://node1:8000`; none: start one here."""
    port: int | None = Field(None, ge=1, le=65535)
    """Port of the server started here; None takes a free one."""
    concurrency: int = Field(256, ge=1)
    """Requests in flight, over all endpoints."""
    patience: float = Field(600, gt=0)
    """Seconds to keep trying while no endpoint works."""
    start_timeout: float = Field(3600, gt=0)
    """Seconds that the server started here may take to load the model."""
    cpu_cache: int = Field(1, ge=1)
    """KV cache of the server started here, GiB, on a CPU build of vLLM."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the servers' API key."""

    @field_validator("endpoints")
    @classmethod
    def _addresses(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        if bad := [url for url in given if not url.startswith(("http://", "https://"))]:
            raise ValueError(f"write http://host:port, not {bad[0]}")
        return tuple(url.rstrip("/").removesuffix("/v1") for url in given)


def build(config: Config, model: Model, log: Path) -> Backend:
    return _Vllm(config, model, log)


class _Vllm:
    engine = "vllm"

    def __init__(self, config: Config, model: Model, log: Path) -> None:
        self.config, self.model, self.log, self.concurrency = config, model, log, config.concurrency
        self._endpoints: list[Endpoint] = []
        self._client: ClientSession | None = None
        self._server: Server | None = None
        self._last_success = 0.0

    async def open(self) -> None:
        name = self.config.api_key_env
        if name and not os.environ.get(name):
            raise InputError(f"the environment variable {name} is not set", where="api_key_env")
        self._client = session(os.environ[name] if name else None)
        self._endpoints = [Endpoint(url, self._client) for url in self.config.endpoints]
        try:
            if not self._endpoints:
                self._endpoints = [await self._start(self._client)]
            for endpoint in self._endpoints:
                await endpoint.check(self.model)
        except BaseException:  # Ctrl-C while the model loads must not leave the server behind
            await self.close()
            raise
        self.engine = f"vllm {self._endpoints[0].version}".strip()

    async def close(self) -> None:
        if self._client:
            await self._client.close()
        if self._server:
            await asyncio.to_thread(self._server.stop)

    async def complete(self, request: Request) -> Completion:
        counted, first = 0, 0.0
        for attempt in itertools.count():
            endpoint = min(self._endpoints, key=lambda e: (e.away_until > time.monotonic(), e.in_flight))
            endpoint.in_flight += 1
            try:
                completion = await endpoint.complete(self.model, request)
            except Failure as failure:
                self._note(endpoint, failure)
                first = first or time.monotonic()
                counted += failure.counts
                if counted >= _ATTEMPTS and self._last_success > first:
                    raise Refused(f"failed {counted} times while others succeeded; at last it {failure}") from failure
                await self._lose_patience(endpoint, failure, first, counted >= _ATTEMPTS)
            else:
                self._last_success = time.monotonic()
                return completion
            finally:
                endpoint.in_flight -= 1
            await asyncio.sleep(min(30.0, 0.5 * 2 ** min(attempt, 6)) * random.uniform(0.5, 1.5))  # noqa: S311
        raise AssertionError

    def _note(self, endpoint: Endpoint, failure: Failure) -> None:
        if endpoint.away_until < time.monotonic():
            logging.getLogger(__name__).warning("%s %s; trying again", endpoint.url, failure)
        endpoint.away_until = time.monotonic() + _AWAY

    async def _lose_patience(self, endpoint: Endpoint, failure: Failure, first: float, often: bool) -> None:
        """Raise if our server is dead, or if no request has succeeded for too long since the `first` failure."""
        if self._server and not self._server.alive:
            raise BackendError(f"the vLLM server died: {self._server.last_words()}", fix=_RESUME) from failure
        waited = time.monotonic() - max(first, self._last_success)
        # Without a success for long, all may still be well: traces can take an hour, a busy server turns requests away.
        if waited > self.config.patience and (often or not any([await e.healthy() for e in self._endpoints])):
            what = f"no endpoint has worked for {waited:.0f} s; this one {failure}"
            raise BackendError(what, where=endpoint.url, fix=_RESUME) from failure

    async def _start(self, client: ClientSession) -> Endpoint:
        """Start a server and wait until it is ready."""
        cpu = is_cpu_build()
        port = claim_port(self.config.port)
        env = {"VLLM_CPU_KVCACHE_SPACE": str(self.config.cpu_cache)} if cpu else {}
        server = Server(vllm_command(self.model, port, cpu), {"VLLM_NO_USAGE_STATS": "1", **env}, self.log / "vllm.log")
        self._server = server
        endpoint = Endpoint(f"http://127.0.0.1:{port}", client)
        deadline = time.monotonic() + self.config.start_timeout
        while server.alive and time.monotonic() < deadline:
            if await endpoint.healthy():
                return endpoint
            await asyncio.sleep(0.25)
        if server.alive:
            what = f"the vLLM server was not ready after {self.config.start_timeout:g} s: {server.last_words()}"
            raise BackendError(what, fix="raise `start_timeout` if it only needs longer")
        raise BackendError(f"the vLLM server did not start: {server.last_words()}")
