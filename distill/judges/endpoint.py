"""One OpenAI-compatible chat endpoint: a user turn out, a reply back."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from distill.endpoints.failures import RequestFailure, rejection
from distill.endpoints.http import Gateway, Http


class Reply(NamedTuple):
    text: str
    complete: bool
    """Whether the model itself ended it; False where its budget did."""


class Chat:
    """A client of one endpoint, to be made in an event loop.

    `url` is without `/v1`, `body` is what every request holds, `timeout` is in seconds.
    """

    def __init__(self, url: str, gateway: Gateway, body: dict[str, Any], timeout: float) -> None:
        self._url = url
        self._body = body
        self._timeout = timeout
        self._http = Http(url, gateway)

    async def reply(self, text: str) -> Reply:
        """Ask once.

        Raises:
            RequestFailure: worth another attempt.
            Refused: never will be.
            BackendError: the server does not let us in, or does not know the model.
        """
        body = {**self._body, "messages": [{"role": "user", "content": text}]}
        async with self._http.ask("POST", "/v1/chat/completions", body, timeout=self._timeout) as response:
            raw = await response.read()
        if response.status != 200:
            raise rejection(self._url, response.status, raw, response.headers)
        try:
            choice = orjson.loads(raw)["choices"][0]
            content = choice["message"]["content"]
            finish = choice["finish_reason"]
            assert content is None or isinstance(content, str)  # a reply that is all reasoning has no content
        except (ValueError, LookupError, TypeError, AssertionError) as error:
            raise RequestFailure(f"sent no completion but {raw[:80]!r}") from error
        return Reply(content or "", finish == "stop")

    async def close(self) -> None:
        await self._http.close()
