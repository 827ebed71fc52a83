"""One row as it is trained: messages to ids and mask, unless the row would teach something broken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypedDict

from distill.errors import InputError
from distill.models import chat
from distill.models.chat import Example, Tokenizer
from distill.models.reasoning import Tags
from distill.types import Message

IGNORED = -100
"""The label of a token that no loss is taken of; torch's `ignore_index`."""


class SetRow(TypedDict):
    """The columns that are read of a set's row."""

    trace_id: str
    set: str | None
    messages: list[dict[str, str]] | None


class RenderedRow(NamedTuple):
    """A row as ids and mask, or why there are none."""

    example: Example | None
    """None when the row is unfit to train on."""
    reason: str = ""
    """Short code of why it is unfit, such as `double_think`."""
    explanation: str = ""
    """Why it is unfit, in words."""


class Renderer:
    """Renders messages to ids and mask through `chat.example`, and looks at what the row would teach.

    Model output is hostile: a reply in which `<|im_end|>` is written out would be tokenised to the real one, and teach
    the student to end its turn in the middle of a thought.

    Raises:
        InputError: the student has no EOS, or its text is not one token.
    """

    def __init__(self, tokenizer: Tokenizer, tags: Tags, eos: str) -> None:
        self.tokenizer = tokenizer
        self.tags = tags
        self.eos = eos
        eos_ids = tokenizer.encode(eos)
        if not eos or len(eos_ids) != 1:
            description = "it has no EOS token"
            if eos:
                description = f"the end-of-turn text {eos!r} is {len(eos_ids)} tokens, not one"
            fix = "name the token that ends a turn in the preset: `eos: …`"
            raise InputError(description, where=tokenizer.model, fix=fix)
        added_tokens = tokenizer.fast.get_added_tokens_decoder()
        allowed = {tags.open, tags.close}
        special_ids = {id for id, token in added_tokens.items() if token.special and token.content not in allowed}
        self._special_ids = {*special_ids, eos_ids[0]}

    def __call__(self, messages: Sequence[Message]) -> RenderedRow:
        from jinja2 import TemplateError

        try:
            example = chat.example(self.tokenizer, messages, self.tags, self.eos)
        except InputError as error:
            return RenderedRow(None, "refused", error.message)
        except TemplateError as error:
            return RenderedRow(None, "refused", f"the chat template cannot render it: {error}")
        content = messages[-1].content.lstrip()
        if content.startswith(self.tags.open) and self._opens(content[len(self.tags.open) :]):
            return RenderedRow(None, "double_think", f"the reply begins with {self.tags.open} twice")
        learnt = example.ids[example.mask.index(1) : -1]
        if not self._special_ids.isdisjoint(learnt):
            token = next(id for id in learnt if id in self._special_ids)
            name = self.tokenizer.fast.id_to_token(token)
            return RenderedRow(
                None, "special_token", f"{name} is written out in the reply and would be learnt as a token"
            )
        return RenderedRow(example)

    def _opens(self, text: str) -> bool:
        """Whether a text begins with the opening tag."""
        return text.lstrip().startswith(self.tags.open)


def labels_of(example: Example) -> list[int]:
    """The labels that a trainer compares predictions with: the ids, or -100 where no loss is taken."""
    return [id if learn else IGNORED for id, learn in zip(example.ids, example.mask, strict=True)]
