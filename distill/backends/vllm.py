"""Samples from vLLM: joins OpenAI-compatible servers that run already, or starts replicas here and stops them again.

Prompts go out as token ids to `/v1/completions`, so no template is applied and no BOS added. A seed repeats its
completion as far as the engine's arithmetic does not depend on what else is in the batch.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from distill.backends import Backend
from distill.endpoints.addresses import AddressList, checked_address
from distill.endpoints.failures import RequestFailure
from distill.endpoints.http import Gateway, allow_sockets
from distill.endpoints.pool import Pool
from distill.endpoints.vllm_server import Endpoint
from distill.errors import BackendError, InputError
from distill.models.model import Model
from distill.models.request import BackendStatus, Completion, Request
from distill.serving import Serving, local
from distill.serving.fleet import Fleet
from distill.types import NO_RESULT, Record

_REREAD_INTERVAL = 3.0  # seconds between two readings of the endpoints' file


class Repetition(Record):
    """When the engine ends a completion as a loop: its last tokens are one pattern again and again (vLLM's names)."""

    max_pattern_size: int = Field(ge=1)
    """Longest pattern that is looked for, in tokens."""
    min_pattern_size: int = Field(1, ge=1)
    """Shortest pattern that is looked for, in tokens."""
    min_count: int = Field(ge=2)
    """Times in a row that a pattern must occur to be a loop."""


class Config(Gateway):
    endpoints: Annotated[tuple[str, ...], NO_RESULT] = ()
    """Addresses of running servers, such as `http://node1:8000`; none, and no `endpoints_file`: start here."""
    endpoints_file: Annotated[Path | None, NO_RESULT] = None
    """File of more addresses, one per line, read every few seconds: servers may join and leave; None: no file."""
    replicas: Annotated[int | None, NO_RESULT] = Field(None, ge=1)
    """Servers to start here; None takes as many as the GPUs hold, one on a CPU."""
    port: Annotated[int | None, NO_RESULT] = Field(None, ge=1, le=65535)
    """Port of the first server started here; None takes free ones."""
    concurrency: Annotated[int, NO_RESULT] = Field(1024, ge=1)
    """Most requests in flight, over all endpoints; fewer where the engines would only queue them."""
    timeout: Annotated[float, NO_RESULT] = Field(7200, gt=0)
    """Seconds that one completion may take before it counts as lost; 32k tokens at 25 tokens/s take 1,300."""
    patience: Annotated[float, NO_RESULT] = Field(600, gt=0)
    """Seconds to keep trying while no endpoint works."""
    start_timeout: Annotated[float, NO_RESULT] = Field(3600, gt=0)
    """Seconds that a server started here may take to load the model."""
    cpu_cache: Annotated[int, NO_RESULT] = Field(1, ge=1)
    """Memory in GiB for the KV cache of each server started here, on a CPU build of vLLM."""
    repetition: Repetition | None = None
    """Rule by which loops are ended early, with finish `repetition`; None lets them go on."""

    @field_validator("endpoints")
    @classmethod
    def _addresses(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(checked_address(url) for url in urls))


def build(config: Config, model: Model, log: Path) -> Backend:
    return _Vllm(config, model, log)


class _Vllm(Backend):
    engine = "vllm"
    is_remote = True

    def __init__(self, config: Config, model: Model, log: Path) -> None:
        self.config = config
        self.model = model
        self.log = log
        self.concurrency = config.concurrency
        self.timeout = config.timeout
        self._pool = Pool(config.concurrency, config.patience, self._fatal_error)
        self._address_list = AddressList(config.endpoints_file) if config.endpoints_file else None
        self._follower: asyncio.Task[None] | None = None
        self._fleet: Fleet | None = None

    @property
    def limit(self) -> int:
        return self._pool.limit

    def status(self) -> BackendStatus:
        """Endpoints, requests and tokens at this moment; see `Pool.status`."""
        return self._pool.status()

    async def open(self) -> None:
        allow_sockets(self.config.concurrency)
        try:
            errors = await self._pool.join(self._endpoint(url) for url in self.config.endpoints)
            # a typo in the recipe is told at once; with one endpoint that works, dead ones are waited for
            if wrong_input := next((error for error in errors if isinstance(error, InputError)), None):
                raise wrong_input
            if errors and not self._pool.limit and not self._address_list:
                raise BackendError(str(errors[0])) if isinstance(errors[0], RequestFailure) else errors[0]
            if self._address_list:
                await self._wait_for_first(self._address_list.read, str(self.config.endpoints_file))
            elif not self.config.endpoints:
                self._fleet = await self._start()
                await self._wait_for_first(self._fleet.urls, "here")
        except BaseException:  # Ctrl-C while the model loads must not leave the server behind
            await self.close()
            raise
        self.engine = f"vllm {self._pool.version}".strip()

    async def close(self) -> None:
        if self._follower:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)
        await self._pool.close()
        if self._fleet:
            await asyncio.to_thread(self._fleet.stop)

    async def complete(self, request: Request) -> Completion:
        return await self._pool.complete(request)

    def _endpoint(self, url: str) -> Endpoint:
        extra = {"repetition_detection": self.config.repetition.model_dump()} if self.config.repetition else {}
        return Endpoint(url, self.model, self.config, self.config.timeout, extra, self._journal_reply)

    def _journal_reply(self, request: Request, raw: bytes) -> None:
        if self.journal:
            self.journal(request, raw)

    async def _wait_for_first(self, read_urls: Callable[[], Sequence[str]], source: str) -> None:
        """Wait until one of the servers that `read_urls` lists works, then follow the list."""
        deadline = time.monotonic() + self.config.patience
        while not self._pool.limit:
            await self._update(read_urls)
            if time.monotonic() > deadline and not self._pool.limit:
                reports = "; ".join(f"{m['url']} {m.get('reason', '')}" for m in self._pool.status()["each"])
                message = f"no server in it has worked for {self.config.patience:g} s: {reports or 'it is empty'}"
                raise BackendError(message, where=source, fix="start one: `distill serve`")
            await asyncio.sleep(min(0.25, _REREAD_INTERVAL))
        self._follower = asyncio.create_task(self._follow(read_urls))

    async def _follow(self, read_urls: Callable[[], Sequence[str]]) -> None:
        while True:
            await asyncio.sleep(_REREAD_INTERVAL)
            await self._update(read_urls)

    async def _update(self, read_urls: Callable[[], Sequence[str]]) -> None:
        new_urls = self._pool.retain_only({*self.config.endpoints, *await asyncio.to_thread(read_urls)})
        await self._pool.join(self._endpoint(url) for url in sorted(new_urls))

    def _fatal_error(self) -> BackendError | None:
        if self._fleet and not self._fleet.alive:
            message = f"the vLLM server died: {self._fleet.last_words()}"
            return BackendError(message, fix="finished traces are saved; the same command goes on from there")
        return None

    async def _start(self) -> Fleet:
        """Start servers here and wait until the first is ready; others join when they are."""
        config = self.config
        options = Serving(
            replicas=config.replicas, port=config.port, start_timeout=config.start_timeout, cpu_cache=config.cpu_cache
        )
        self._fleet = local.fleet(self.model, options, self.log)
        self._fleet.start()
        while not self._fleet.urls():
            if not self._fleet.alive:
                reason = self._fleet.last_words()
                fix = "raise `start_timeout` if it only needs longer" if "not ready" in reason else None
                raise BackendError(f"the vLLM server did not start: {reason}", fix=fix)
            await asyncio.sleep(0.25)
        return self._fleet
