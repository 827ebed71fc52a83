"""Samples in this process with transformers' `generate`, in batches: for machines without vLLM.

A batch of generate() waits for its longest row, so finished rows are handed out and dropped on the way, and the last
few of a batch join the next one. A tiny model on a CPU has two batches on their way at once, since it keeps one core
busy and no more. One random stream serves all of them, seeded by the ids and seeds in each that begins: no seed belongs
to a single completion, and which requests meet in a batch depends on when they come.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from distill.backends import Backend
from distill.errors import BackendError
from distill.models.in_process import Generator, PendingRequest
from distill.models.model import Model
from distill.models.request import Completion, Request, budget
from distill.types import NO_RESULT, Record


class Config(Record):
    batch: Annotated[int, NO_RESULT] = Field(128, ge=1)
    """Rows that are generated together."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Precision of the weights; `auto` is as saved. CPUs without AVX512-BF16 or AMX are faster in float32."""


def build(config: Config, model: Model, log: Path) -> Backend:
    return _Transformers(config, model)


class _Transformers(Backend):
    engine = "transformers"

    def __init__(self, config: Config, model: Model) -> None:
        self.config = config
        self.model = model
        self.concurrency = 2 * config.batch
        self._waiting: list[PendingRequest] = []
        self._wake = asyncio.Event()
        self._generator: Generator | None = None
        self._workers: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        self._generator = await asyncio.to_thread(Generator, self.model, self.config.dtype)
        self.engine = f"transformers {self._generator.version}"
        self.concurrency = 2 * self.config.batch * self._generator.lanes  # as many batches wait as run
        self._workers = [asyncio.create_task(self._work(self._generator)) for _ in range(self._generator.lanes)]

    async def complete(self, request: Request) -> Completion:
        assert self._workers, "open() first"
        max_length = len(request.ids) + budget(self.model, request)
        row = PendingRequest(list(request.ids), max_length, request, asyncio.get_running_loop().create_future())
        self._waiting.append(row)
        self._wake.set()
        return await row.answer

    async def close(self) -> None:
        if self._generator:
            self._generator.stop()
            self._wake.set()
            await asyncio.gather(*self._workers)
        for row in self._waiting:
            row.answer.cancel()
        self._generator = None

    async def _work(self, generator: Generator) -> None:
        loop = asyncio.get_running_loop()
        while not generator.stopped:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(0.01)  # requests that come together shall meet in one batch
            rows = self._next_batch()
            if not rows:
                continue
            max_leftover = len(rows) // 8 if self._waiting else 0
            try:
                leftover = await asyncio.to_thread(
                    generator.run, rows, max_leftover, lambda row, done: loop.call_soon_threadsafe(_answer, row, done)
                )
            except Exception as error:  # noqa: BLE001  whatever it is, those who wait must hear of it
                fix = "lower `batch`" if "memory" in str(error) else None
                for row in rows:
                    _answer(row, BackendError(f"generate() failed: {error}", fix=fix))
                leftover = []
            self._waiting = leftover + self._waiting
            if self._waiting:
                self._wake.set()

    def _next_batch(self) -> list[PendingRequest]:
        """Take the rows that are sampled like the first one, up to a batch; abandoned ones are dropped."""
        waiting = [row for row in self._waiting if not row.answer.done()]
        batch = [row for row in waiting if row.request.sampling.identity() == waiting[0].request.sampling.identity()]
        batch = batch[: self.config.batch]
        batch_ids = set(map(id, batch))
        self._waiting = [row for row in waiting if id(row) not in batch_ids]
        return batch


def _answer(row: PendingRequest, answer: Completion | Exception) -> None:
    if row.answer.done():  # its caller has gone
        return
    if isinstance(answer, Exception):
        row.answer.set_exception(answer)
    else:
        row.answer.set_result(answer)
