"""Completions to traces: one request's, or several of a trace that was cut and continued."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property

from distill.models.chat import Prompt, Tokenizer
from distill.models.model import Model
from distill.models.reasoning import split
from distill.models.request import Completion
from distill.sampling.queue import Attempt, Identity
from distill.types import Segment, Trace, Usage, content_id, pack_ids, unpack_ids


class Assembler:
    """Makes traces of one model with one tokenizer."""

    def __init__(self, model: Model, tokenizer: Tokenizer, identity: Identity) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._identity = identity

    @cached_property
    def _close_ids(self) -> list[int]:
        """Token ids of the closing think tag: one, where it is a token of its own."""
        return self._tokenizer.encode(self._model.tags.close)

    def ids_so_far(self, prompt: Prompt, cut_trace: Trace | None) -> tuple[int, ...]:
        """What the model goes on from: the prompt and, of a cut trace, all that it said."""
        if cut_trace is None or cut_trace.completion_ids is None:
            return (*prompt.ids,)
        return (*prompt.ids, *unpack_ids(cut_trace.completion_ids))

    def trace(self, attempt: Attempt, prompt: Prompt, completion: Completion, engine: str, full: bool) -> Trace:
        """Make the trace as it is with this completion, earlier parts of a continued one included.

        Args:
            full: whether the model's context left no room for more.
        """
        cut_trace = attempt.trace_so_far
        ids = completion.ids
        packed = completion.packed
        text = completion.text
        segments: tuple[Segment, ...] = ()
        if cut_trace is not None and cut_trace.completion_ids is not None and ids is not None:
            ids = (*unpack_ids(cut_trace.completion_ids), *ids)
            packed = None
            text = self._tokenizer.decode(ids)  # a letter may have been cut in two
            segments = cut_trace.segments
        spans = split(text, prompt.prefill, self._model.tags)
        tokens = completion.tokens
        if segments and cut_trace:
            tokens += cut_trace.usage.completion
        answer = min(tokens, self._answer_tokens(ids, text, spans.answer))
        segment = Segment(
            end=len(text),
            tokens=completion.tokens,
            finish=completion.finish,
            seed=completion.seed,
            endpoint=completion.endpoint,
            seconds=round(completion.seconds, 3),
            full=full and completion.finish == "length",
        )
        return Trace(
            id=attempt.id,
            problem_id=attempt.problem.id,
            sample=attempt.sample,
            model=self._model.name,
            revision=self._model.revision,
            template=self._identity.template,
            sampling=self._identity.sampling,
            prompt_hash=content_id(prompt.text),
            prefill=prompt.prefill,
            completion=text,
            reasoning_span=spans.reasoning,
            answer_span=spans.answer,
            finish=completion.finish,
            usage=Usage(prompt=len(prompt.ids), reasoning=tokens - answer, answer=answer),
            engine=engine,
            segments=(*segments, segment),
            prompt_ids=None if ids is None else pack_ids(prompt.ids),
            completion_ids=None if ids is None else packed or pack_ids(ids),
            steering=dict(self._identity.steering) or None,
        )

    def _answer_tokens(self, ids: Sequence[int] | None, text: str, answer: tuple[int, int] | None) -> int:
        """Tokens behind the closing think tag."""
        if answer is None:
            return 0
        if ids is not None and len(self._close_ids) == 1:
            with suppress(ValueError):  # spelled in other tokens
                if self._model.tags.close in text[answer[0] :]:
                    return len(ids) - ids.index(self._close_ids[0]) - 1
                return ids[::-1].index(self._close_ids[0])  # the only one is near the end
        return len(self._tokenizer.encode(text[slice(*answer)]))
