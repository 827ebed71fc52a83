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
from typing import Annotated

import orjson
from pydantic import Field, ValidationError

from distill.backends import Backend
from distill.errors import BackendError, InputError, from_validation
from distill.models.chat import Tokenizer
from distill.models.model import Model
from distill.models.request import Completion, Refused, Request, budget
from distill.types import NO_RESULT, Record, content_id


class Config(Record):
    replies: tuple[str, ...] = ()
    """Replies to prompts that no line of `file` fits, one of which is drawn for each request."""
    file: Path | None = None
    """JSONL file of replies to prompts that contain a text; None for `replies` only."""
    delay: Annotated[float, NO_RESULT] = Field(0, ge=0)
    """Seconds that each reply takes."""
    fail_first: Annotated[int, NO_RESULT] = Field(0, ge=0)
    """Requests that fail with a BackendError before the first reply."""
    fail_after: Annotated[int | None, NO_RESULT] = Field(None, ge=0)
    """Replies after which all requests fail with a BackendError; None: they never do."""
    concurrency: Annotated[int, NO_RESULT] = Field(64, ge=1)
    """Most requests in flight."""


class ScriptLine(Record):
    contains: str = ""
    replies: tuple[str, ...] = Field(min_length=1)


def build(config: Config, model: Model, log: Path) -> Backend:
    return _Scripted(config, model)


class _Scripted(Backend):
    engine = "scripted"

    def __init__(self, config: Config, model: Model) -> None:
        self.config = config
        self.model = model
        self.concurrency = config.concurrency
        self._rows: list[ScriptLine] = []
        self._tokenizer: Tokenizer | None = None
        self._failures_left = config.fail_first
        self._replies = 0

    async def open(self) -> None:
        if not self.config.replies and not self.config.file:
            raise InputError("has nothing to say", where="scripted", fix="give `replies` or a `file`")
        self._rows = _read_script(self.config.file) if self.config.file else []
        if self.config.replies:
            self._rows.append(ScriptLine(replies=self.config.replies))
        self._tokenizer = Tokenizer(self.model.path, self.model.revision, self.model.template)

    async def complete(self, request: Request) -> Completion:
        started_at = time.monotonic()
        token_budget = budget(self.model, request)
        await asyncio.sleep(self.config.delay)
        if self._failures_left or self._replies == self.config.fail_after:
            self._failures_left -= self._failures_left > 0
            raise BackendError("the scripted backend fails as told", fix="change `fail_first` or `fail_after`")
        assert self._tokenizer, "open() first"
        prompt = self._tokenizer.decode(request.ids)
        row = next((row for row in self._rows if row.contains in prompt), None)
        if row is None:
            raise Refused("no scripted reply matches the prompt")
        replies = [self._tokenizer.encode(reply) for reply in row.replies]
        overlaps = [_overlap(reply, request.ids) for reply in replies]
        start = max(overlaps)
        if start:
            reply = replies[overlaps.index(start)]
        else:
            reply = replies[int(content_id(request.id, request.seed), 16) % len(replies)]
        ids = reply[start : start + token_budget]
        self._replies += 1
        return Completion(
            text=self._tokenizer.decode(ids),
            ids=tuple(ids),
            tokens=len(ids),
            finish="stop" if len(reply) - start <= token_budget else "length",
            seed=request.seed,
            endpoint="scripted",
            seconds=time.monotonic() - started_at,
        )

    async def close(self) -> None:
        pass


def _overlap(reply: list[int], ids: tuple[int, ...]) -> int:
    """How many of a reply's first tokens the prompt already ends in."""
    return next((n for n in range(len(reply), 0, -1) if ids[-n:] == tuple(reply[:n])), 0)


def _read_script(path: Path) -> list[ScriptLine]:
    if not path.is_file():
        raise InputError("no such file", where=str(path), fix="paths are relative to the working directory")
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        where = f"{path}:{number}"
        try:
            if line.strip():
                rows.append(ScriptLine.model_validate(orjson.loads(line)))
        except orjson.JSONDecodeError as error:
            raise InputError(f"is not JSON: {error}", where=where) from error
        except ValidationError as error:
            raise from_validation(error, where) from error
    return rows
