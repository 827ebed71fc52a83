"""Samples from a hosted chat API that speaks OpenAI's protocol, for a teacher that cannot be served here.

Less exact than `vllm`: the API applies its own template and gives no token ids, so that a trace is rebuilt from
reasoning and answer (not byte for byte), a cut one cannot be continued, and a seed is kept as far as the API keeps it.
Replies are streamed unless told otherwise: many gateways drop a connection on which nothing moves for a minute or two,
and a long chain of thought would be paid and lost.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, JsonValue, field_validator

from distill.backends import Backend
from distill.endpoints.failures import RequestFailure
from distill.endpoints.hosted import ApiTerms, Hosted
from distill.endpoints.http import Gateway, allow_sockets
from distill.endpoints.pool import Pool
from distill.errors import BackendError
from distill.models.chat import Tokenizer
from distill.models.model import Model
from distill.models.request import BackendStatus, Completion, Request
from distill.types import NO_RESULT


class Config(Gateway):
    base_url: Annotated[str, NO_RESULT]
    """Address of the API, version included, such as `https://host/v1`."""
    model: str | None = None
    """Name of the model at the API; None takes the preset's name."""
    concurrency: Annotated[int, NO_RESULT] = Field(64, ge=1)
    """Most requests in flight; fewer where the API turns them away."""
    requests_per_minute: Annotated[int | None, NO_RESULT] = Field(None, ge=1)
    """Requests per minute that the API allows; None goes by its replies."""
    tokens_per_minute: Annotated[int | None, NO_RESULT] = Field(None, ge=1)
    """Tokens per minute that the API allows, prompt and completion together; None goes by its replies."""
    stream: Annotated[bool, NO_RESULT] = True
    """Whether the reply is taken piece by piece."""
    silence: Annotated[float, NO_RESULT] = Field(600, gt=0)
    """Seconds that may pass without a byte of a stream before it counts as lost."""
    timeout: Annotated[float, NO_RESULT] = Field(7200, gt=0)
    """Seconds that one completion may take before it counts as lost."""
    patience: Annotated[float, NO_RESULT] = Field(600, gt=0)
    """Seconds to keep trying while nothing works."""
    budget_field: Annotated[Literal["max_tokens", "max_completion_tokens"], NO_RESULT] = "max_tokens"
    """Field of the request that holds the token budget, as the API calls it."""
    extra: dict[str, JsonValue] = {}
    """Fields of the request besides the usual ones, as the API knows them; null leaves one out (`seed: null`). All
    count in a trace's identity: another effort makes other traces."""
    price_in: Annotated[float | None, NO_RESULT] = Field(None, ge=0)
    """Price of a million prompt tokens; None for free ones."""
    price_out: Annotated[float | None, NO_RESULT] = Field(None, ge=0)
    """Price of a million completion tokens, those of the reasoning included; None for free ones."""
    proxy: Annotated[str | None, NO_RESULT] = "env"
    """Address of an HTTP proxy, or `$NAME`; `env` takes what the environment says, None goes directly."""

    @field_validator("base_url")
    @classmethod
    def _address(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise ValueError("write https://host/v1, and the key's variable in `api_key_env`")
        return url.rstrip("/").removesuffix("/chat/completions")


def build(config: Config, model: Model, log: Path) -> Backend:
    return _Chat(config, model)


class _Chat(Backend):
    takes_ids = False
    is_remote = True

    def __init__(self, config: Config, model: Model) -> None:
        self.config = config
        self.model = model
        self.concurrency = config.concurrency
        self.timeout = config.timeout
        self.steering = config.extra
        self.engine = f"chat {urlsplit(config.base_url).netloc}"
        self._pool = Pool(config.concurrency, config.patience)
        self._prompt_tokens = 0

    @property
    def limit(self) -> int:
        return self._pool.limit

    def status(self) -> BackendStatus:
        """What `Pool.status` says, and the prompt tokens that were paid."""
        return {**self._pool.status(), "prompt_tokens": self._prompt_tokens}

    async def open(self) -> None:
        allow_sockets(self.config.concurrency)
        try:
            errors = await self._pool.join([self._endpoint()])
            if errors and isinstance(errors[0], RequestFailure) and not errors[0].busy:
                fix = "is it running, is the address right, and does it need `proxy` or `ca`?"
                raise BackendError(str(errors[0]), where=self.config.base_url, fix=fix)
            if errors and not isinstance(errors[0], RequestFailure):
                raise errors[0]
        except BaseException:
            await self.close()
            raise

    async def complete(self, request: Request) -> Completion:
        completion = await self._pool.complete(request)
        self._prompt_tokens += completion.prompt_tokens or 0
        return completion

    async def close(self) -> None:
        await self._pool.close()

    def _endpoint(self) -> Hosted:
        config = self.config
        terms = ApiTerms(
            model_name=config.model or self.model.name,
            budget_field=config.budget_field,
            extra=config.extra,
            stream=config.stream,
            timeout=config.timeout,
            silence=config.silence,
            requests_per_minute=config.requests_per_minute,
            tokens_per_minute=config.tokens_per_minute,
        )
        return Hosted(config.base_url, self.model, config, terms, self._journal_reply, self._count_tokens)

    def _journal_reply(self, request: Request, raw: bytes) -> None:
        if self.journal:
            self.journal(request, raw)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return Tokenizer(self.model.path, self.model.revision, self.model.template)

    def _count_tokens(self, text: str) -> int:
        if not self.model.path:  # about
            return len(text) // 4
        return len(self._tokenizer.encode(text))
