"""The records that pass between stages. Frozen, closed (`extra="forbid"`), no I/O."""

from __future__ import annotations

import base64
import hashlib
import sys
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, Field, JsonValue

Finish = Literal["stop", "length", "repetition", "abort"]


class Record(BaseModel):
    """Base of all records and configs: immutable, and a field that does not exist is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class NoResult:
    """Marks a setting that changes how a stage works and nothing of what comes of it: `Annotated[int, NO_RESULT]`.

    Such a setting is in no fingerprint: a finished stage stays finished when it changes.
    """


NO_RESULT = NoResult()


def content_id(*parts: object) -> str:
    """80-bit hex id of JSON-able parts; equal content gives an equal id on every machine."""
    return hashlib.blake2b(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS), digest_size=10).hexdigest()


def pack_ids(ids: Sequence[int]) -> str:
    """Token ids as text: base64 of little-endian 16-bit numbers, or of 32-bit ones behind an `=`."""
    try:
        numbers = array("H", ids)
        prefix = ""
    except OverflowError:
        numbers = array("I", ids)
        prefix = "="
    if sys.byteorder == "big":
        numbers.byteswap()
    return prefix + base64.b64encode(numbers.tobytes()).decode()


def unpack_ids(packed: str) -> list[int]:
    """The inverse of `pack_ids`."""
    numbers = array("I" if packed.startswith("=") else "H")
    numbers.frombytes(base64.b64decode(packed.removeprefix("=")))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()


class Message(Record):
    role: Literal["system", "user", "assistant", "tool"]
    content: str
    tool_calls: tuple[dict[str, object], ...] | None = None


class Problem(Record):
    """One thing to solve. `id` is the hash of what the model is shown, so a corrected gold keeps its traces."""

    id: str
    messages: tuple[Message, ...] = Field(min_length=1)
    answer: object = None
    """Gold answer in the form its verifier reads; None when there is none."""
    verifier: dict[str, object] = Field(default_factory=lambda: dict[str, object](kind="math"))
    """`kind` and that kind's own settings."""
    set: str = ""
    language: str = "en"
    licence: str | None = None
    tools: tuple[dict[str, object], ...] | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    """`sampled`, for filters: the row of pass_rates.jsonl, where the problem was sampled until a rule stopped it."""

    @staticmethod
    def make(messages: tuple[Message, ...], **fields: object) -> Problem:
        shown = [message.model_dump(exclude_none=True) for message in messages]
        return Problem(id=content_id("problem", shown, fields.get("tools")), messages=messages, **fields)


class Sampling(Record):
    """Sampling parameters of a model. `max_tokens` is a budget and no part of a trace's identity."""

    temperature: float = Field(1.0, ge=0)
    """Sampling temperature, 0 for the most likely token each time."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Share of the probability that the tokens to choose from make up; 1 allows all."""
    top_k: int | None = Field(None, ge=1)
    """Most tokens to choose from at each step; None allows all."""
    max_tokens: int = Field(32768, ge=1)
    """Most tokens of a completion, reasoning included."""

    def identity(self) -> dict[str, float | int | None]:
        return self.model_dump(exclude={"max_tokens"})


class Usage(Record):
    """Token counts of one trace, in the tokens of the model that wrote it."""

    prompt: int
    reasoning: int
    answer: int

    @property
    def completion(self) -> int:
        return self.reasoning + self.answer


class Segment(Record):
    """One request's share of a trace: the completion up to character `end` came from it."""

    end: int
    tokens: int
    finish: Finish
    seed: int | None
    """None where the engine samples a whole batch from one stream and no seed belongs to a single trace."""
    endpoint: str
    seconds: float
    full: bool = False
    """Whether the model's context cut the completion, so that no larger budget helps."""


class Trace(Record):
    """One model's attempt at one problem: the completion exactly as sampled and where it came from."""

    schema_version: Literal[1] = 1
    id: str
    problem_id: str
    sample: int
    """Index among the samples of this problem; part of the id."""
    model: str
    revision: str | None
    template: str
    """Hash of the chat template."""
    sampling: Sampling
    prompt_hash: str
    prefill: str
    """The assistant's text with which the rendered prompt already ends (R1: `<think>\\n`); precedes `completion`."""
    completion: str
    reasoning_span: tuple[int, int] | None
    """Character range of the reasoning in `completion`, tags excluded; None if the model did not open one."""
    answer_span: tuple[int, int] | None
    """Character range of all that follows the closing tag; None if it never came."""
    finish: Finish
    usage: Usage
    engine: str
    segments: tuple[Segment, ...]
    prompt_ids: str | None = None
    """The prompt's token ids as sent, packed by `pack_ids`; None where the engine takes text only."""
    completion_ids: str | None = None
    """The completion's token ids as sampled, EOS left out, packed by `pack_ids`; None where only text is known."""
    source: str | None = None
    source_id: str | None = None
    steering: dict[str, JsonValue] | None = Field(None, exclude_if=lambda fields: fields is None)
    """What the request held beyond the sampling that steers the model, such as `reasoning_effort`; None: nothing, and
    the row has no such key."""

    @property
    def reasoning(self) -> str | None:
        return self.completion[slice(*self.reasoning_span)] if self.reasoning_span else None

    @property
    def answer(self) -> str | None:
        return self.completion[slice(*self.answer_span)] if self.answer_span else None

    @property
    def text(self) -> str:
        """The whole assistant turn."""
        return self.prefill + self.completion


def trace_id(
    problem_id: str,
    model: str,
    revision: str | None,
    template: str,
    sampling: Sampling,
    sample: int,
    steering: Mapping[str, JsonValue] | None = None,
) -> str:
    """Identity of an attempt: never a position in a file, never n or a token budget.

    `steering` is all else of the request that steers the model. It counts only where there is any.
    """
    parts: list[object] = [problem_id, model, revision, template, sampling.identity(), sample]
    if steering:
        parts.append(dict(steering))
    return content_id("trace", *parts)


class Outcome(Record):
    """The word of a verifier or a filter on one trace. `passed` None means undecidable, which is not wrong."""

    passed: bool | None
    reason: str = ""
    """Short code such as `wrong_answer`; empty when passed."""
    score: float | None = None
    detail: str = ""


class Verdict(Record):
    """One row of the ledger: one check on one trace, or its `decision`."""

    trace_id: str
    check: str
    passed: bool | None
    reason: str = ""
    score: float | None = None
    detail: str = ""


class Examples(NamedTuple):
    """Answers by which a gold is tried before anything is sampled."""

    type: str
    """Form of the gold, as `GoldReport` names it."""
    right: list[str]
    """Answers equal to the gold, the gold as it stands first."""
    wrong: list[str]
    """Answers that differ from the gold; none where refusing takes algebra."""


class TrainingRow(Record):
    """One row of the set to train on, sft/train.parquet."""

    messages: tuple[dict[str, str], ...]
    """`role` and `content` of the problem's turns and the assistant's, `<think>` block included."""
    trace_id: str
    problem_id: str
    teacher: str | None = None
    """The model that wrote the reply, as the trace names it."""
    set: str
    language: str
    licence: str | None
    source: str | None
    tokens: int
    """Length of the assistant's turn, in the student's tokens."""


class Metric(Record):
    """A value with its 95 % interval (None where an interval has no meaning)."""

    value: float
    low: float | None = None
    high: float | None = None


class Score(Record):
    """What one model reached on one problem set, metric by metric."""

    model: str
    role: Literal["teacher", "base", "sft", "grpo"]
    set: str
    n: int
    """Samples per problem."""
    metrics: dict[str, Metric]
