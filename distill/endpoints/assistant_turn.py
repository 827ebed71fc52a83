"""An assistant's turn as chat APIs give it, put together again as the model said it."""

from __future__ import annotations

from collections.abc import Callable

import orjson
from pydantic import JsonValue, ValidationError

from distill.endpoints.failures import RequestFailure
from distill.models.reasoning import Tags
from distill.models.request import Completion, Refused, Request


class AssistantTurn:
    """Fed with a whole reply or with the pieces of a stream.

    APIs give the reasoning as `reasoning` (vLLM, OpenRouter), `reasoning_content` (DeepSeek, older vLLM), or within the
    content. The text is rebuilt as opening tag, reasoning, closing tag, content. That is what the model said but for
    the white space around the tags, which many APIs strip: it is not lossless, and there are no token ids.
    """

    def __init__(self, tags: Tags) -> None:
        self._tags = tags
        self._reasoning: list[str] = []
        self._content: list[str] = []
        self._finish: str | None = None
        self._usage: JsonValue = {}
        self._calls_tool = False
        self.pieces = 0
        """How many pieces held text: about as many as there are tokens."""

    def read_reply(self, raw: bytes) -> None:
        self._read(raw, "message")

    def read_piece(self, raw: bytes) -> None:
        self._read(raw, "delta")

    def _read(self, raw: bytes, key: str) -> None:
        try:
            reply = orjson.loads(raw)
            if error := reply.get("error"):
                explanation = error.get("message") if isinstance(error, dict) else error
                raise RequestFailure(f"broke off with: {str(explanation)[:200]}")
            self._usage = reply.get("usage") or self._usage
            for choice in reply["choices"][:1]:
                message = choice.get(key) or {}
                reasoning = message.get("reasoning") or message.get("reasoning_content") or ""
                text = message.get("content") or ""
                if not (isinstance(reasoning, str) and isinstance(text, str)):
                    raise TypeError
                self._reasoning.append(reasoning)
                self._content.append(text)
                self.pieces += bool(reasoning or text)
                self._calls_tool = self._calls_tool or bool(message.get("tool_calls"))
                self._finish = choice.get("finish_reason") or self._finish
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise RequestFailure(f"sent no completion but {raw[:80]!r}") from error

    @property
    def text(self) -> str:
        tags = self._tags
        reasoning = "".join(self._reasoning)
        content = "".join(self._content)
        if reasoning and content:
            return tags.open + reasoning + tags.close + content
        if reasoning:
            return tags.open + reasoning
        # a server without a reasoning parser, behind a template that opened the tag in the prompt
        has_opening_tag = content.lstrip().startswith(tags.open) or tags.close not in content
        return content if has_opening_tag else tags.open + content

    def raw(self) -> bytes:
        """The whole turn as one reply, for the record."""
        message = {"reasoning": "".join(self._reasoning), "content": "".join(self._content)}
        return orjson.dumps({"message": message, "finish_reason": self._finish, "usage": self._usage})

    def completion(
        self, request: Request, endpoint: str, seconds: float, takes_seed: bool, count_tokens: Callable[[str], int]
    ) -> Completion:
        """The turn, when it is over; `count_tokens` counts the tokens of a text where the API does not.

        Raises:
            RequestFailure: it is not over, or not readable.
            Refused: the API will not have this request answered, or the model called a tool.
        """
        if self._finish is None:
            raise RequestFailure("broke off before the end", gone=True)
        if self._finish == "content_filter":
            raise Refused("was stopped by the API's content filter")
        if self._calls_tool or self._finish in ("tool_calls", "function_call"):
            raise Refused("calls a tool, which has no place in a trace")
        if self._finish == "insufficient_system_resource":  # DeepSeek's word for too much load
            raise RequestFailure("gave the request up for lack of resources", blames_request=False, busy=True)
        if self._finish not in ("stop", "length", "repetition"):
            raise RequestFailure(f"gave the request up ({str(self._finish)[:40]})")
        try:
            usage = _mapping(self._usage)
            details = _mapping(usage.get("completion_tokens_details"))
            tokens = usage.get("completion_tokens")
            if tokens is None:
                tokens = count_tokens(self.text)
            return Completion(
                text=self.text,
                tokens=tokens,
                finish=self._finish,
                seed=request.seed if takes_seed else None,
                endpoint=endpoint,
                seconds=seconds,
                prompt_tokens=usage.get("prompt_tokens"),
                reasoning_tokens=details.get("reasoning_tokens"),
            )
        except (TypeError, ValidationError) as error:
            raise RequestFailure(f"sent a strange usage: {str(self._usage)[:80]}") from error


def _mapping(value: JsonValue) -> dict[str, JsonValue]:
    """A mapping of a reply, empty where it has none; raises TypeError for what is no mapping."""
    mapping = value or {}
    if not isinstance(mapping, dict):
        raise TypeError
    return mapping
