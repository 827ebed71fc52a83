"""A fake that replies from a script: no engine, no GPU, the same replies every time.

For trying out a pipeline and for tests. A reply is drawn by the request's id and seed, so a run repeats exactly; one
that was cut by its budget goes on where it ended. With `file`, each line is `{"contains": "…", "replies": ["…", …]}`;
the first line whose text occurs in the prompt is used (no `contains` matches all), and `replies` of the config when no
line matches.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import orjson
from pydantic import Field, ValidationError

from distill.backends import Backend, Completion, Model, Refused, Request, budget
from distill.errors import BackendError, InputError, from_validation
from distill.models.chat import Tokenizer
from distill.types import Record, content_id


class Config(Record):
    replies: tuple[str, ...] = ()
    """Replies to any prompt."""
    file: Path | None = None
    """JSONL of replies to prompts that contain a text."""
    delay: float = Field(0, ge=0)
    """Seconds that each reply takes."""
    fail_first: int = Field(0, ge=0)
    """So many requests fail with a BackendError before the first reply."""
    fail_after: int | None = Field(None, ge=0)
    """After so many replies all requests fail with a BackendError."""
    concurrency: int = Field(64, ge=1)
    """Requests in flight."""


class Row(Record):
    contains: str = ""
    replies: tuple[str, ...] = Field(min_length=1)


def build(config: Config, model: Model, log: Path) -> Backend:
    return _Scripted(config, model)


class _Scripted:
    engine = "scripted"

    def __init__(self, config: Config, model: Model) -> None:
        self.config, self.model, self.concurrency = config, model, config.concurrency
        self._rows: list[Row] = []
        self._tokenizer: Tokenizer | None = None
        self._failures, self._replies = config.fail_first, 0

    async def open(self) -> None:
        if not self.config.replies and not self.config.file:
            raise InputError("has nothing to say", where="scripted", fix="give `replies` or a `file`")
        self._rows = _read(self.config.file) if self.config.file else []
        if self.config.replies:
            self._rows.append(Row(replies=self.config.replies))
        self._tokenizer = Tokenizer(self.model.path, self.model.revision, self.model.template)

    async def complete(self, request: Request) -> Completion:
        start = time.monotonic()
        room = budget(self.model, request)
        await asyncio.sleep(self.config.delay)
        if self._failures or self._replies == self.config.fail_after:
            self._failures -= self._failures > 0
            raise BackendError("the scripted backend fails as told", fix="change `fail_first` or `fail_after`")
        assert self._tokenizer, "open() first"
        prompt = self._tokenizer.decode(request.ids)
        row = next((row for row in self._rows if row.contains in prompt), None)
        if row is None:
            raise Refused("no scripted reply matches the prompt")
        replies = [self._tokenizer.encode(reply) for reply in row.replies]
        said, drawn = max((_said(reply, request.ids), -n) for n, reply in enumerate(replies))
        reply = replies[-drawn if said else int(content_id(request.id, request.seed), 16) % len(replies)]
        ids = reply[said : said + room]
        self._replies += 1
        return Completion(
            text=self._tokenizer.decode(ids),
            ids=tuple(ids),
            tokens=len(ids),
            finish="stop" if len(reply) - said <= room else "length",
            seed=request.seed,
            endpoint="scripted",
            seconds=time.monotonic() - start,
        )

    async def close(self) -> None:
        pass


def _said(reply: list[int], ids: tuple[int, ...]) -> int:
    """How much of a reply the prompt already ends in."""
    return next((n for n in range(len(reply), 0, -1) if ids[-n:] == tuple(reply[:n])), 0)


def _read(path: Path) -> list[Row]:
    if not path.is_file():
        raise InputError("no such file", where=str(path), fix="paths are relative to the working directory")
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        where = f"{path}:{number}"
        try:
            if line.strip():
                rows.append(Row.model_validate(orjson.loads(line)))
        except orjson.JSONDecodeError as error:
            raise InputError(f"is not JSON: {error}", where=where) from error
        except ValidationError as error:
            raise from_validation(error, where) from error
    return rows
