"""Messages to text and back: the one place that knows chat templates, think tags and loss masks.

Templates are rendered as transformers does (a sandboxed Jinja environment with the same settings; a test compares the
two) but without importing torch, so that generate, filter and eval stay light.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from distill.errors import InputError
from distill.models.hub_files import fetch
from distill.models.reasoning import Tags
from distill.models.token_count import separable_pattern
from distill.types import Message, Record, content_id

if TYPE_CHECKING:
    from jinja2 import Template, nodes
    from jinja2.parser import Parser
    from tokenizers import Tokenizer as FastTokenizer


Tools = Sequence[Mapping[str, object]]
"""Tools as a chat template reads them."""


class Prompt(Record):
    """A rendered prompt: `ids` go to the engine; `prefill` is the assistant text that `text` already ends in."""

    text: str
    ids: tuple[int, ...]
    prefill: str


class Tokenizer:
    """A fast tokenizer with its chat template, read from a local folder or the Hub; imports no torch.

    Raises:
        InputError: there is no tokenizer.json, or no chat template.
    """

    def __init__(self, model: str, revision: str | None = None, template: str | None = None) -> None:
        from tokenizers import Tokenizer as Fast

        self.model = model
        files = {name: fetch(model, name, revision) for name in ("tokenizer.json", "tokenizer_config.json")}
        if files["tokenizer.json"] is None:
            raise InputError("has no tokenizer.json", where=model, fix="distill needs a fast tokenizer")
        self._fast = Fast.from_file(str(files["tokenizer.json"]))
        config = files["tokenizer_config.json"]
        self._config: dict[str, object] = json.loads(config.read_text()) if config else {}
        self.template: str = template or self._find_template(revision)

    def _find_template(self, revision: str | None) -> str:
        template = self._config.get("chat_template")
        if isinstance(template, list):  # several named templates
            template = {entry["name"]: entry["template"] for entry in template}.get("default")
        if not template and (path := fetch(self.model, "chat_template.jinja", revision)):
            template = path.read_text()
        if not template:
            raise InputError("has no chat template", where=self.model, fix="name one in the preset: `template: …`")
        return str(template)

    @property
    def fast(self) -> FastTokenizer:
        """The tokenizers library's own object, for uses that this class does not offer."""
        return self._fast

    @property
    def template_hash(self) -> str:
        return content_id("template", self.template)

    def special(self, name: str) -> str:
        """A special token's text, such as `eos_token`; empty when the tokenizer has none."""
        value = self._config.get(name) or ""
        return str(value["content"] if isinstance(value, dict) else value)

    def encode(self, text: str) -> list[int]:
        """Token ids of text; nothing is added (no BOS), special tokens in the text are recognised."""
        # the batch call gives the same ids in 60 % of the time: it keeps no offsets
        return list(self._fast.encode_batch_fast([text], add_special_tokens=False)[0].ids)

    def count(self, text: str) -> int:
        """`len(encode(text))`, exactly, and several times faster where text can be cut into words without a change.

        Words come again and again, so how many tokens each has is remembered (of up to 100,000 short ones, 20 MB).
        """
        if self._piece_pattern is None:
            return len(self._fast.encode_batch_fast([text], add_special_tokens=False)[0])
        pieces = self._piece_pattern.findall(text)
        token_counts = self._token_counts
        new_pieces = [piece for piece in set(pieces) if piece not in token_counts]
        if new_pieces:
            encodings = self._fast.encode_batch_fast(new_pieces, add_special_tokens=False)
            token_counts.update(zip(new_pieces, map(len, encodings), strict=True))
        total = sum(map(token_counts.__getitem__, pieces))
        for piece in (piece for piece in new_pieces if len(piece) > 40):
            del token_counts[piece]
        if len(token_counts) > 100_000:
            token_counts.clear()
        return total

    @cached_property
    def _token_counts(self) -> dict[str, int]:
        return {}

    @cached_property
    def _piece_pattern(self) -> re.Pattern[str] | None:
        return separable_pattern(json.loads(self._fast.to_str()))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, special tokens left out."""
        return str(self._fast.decode(list(ids), skip_special_tokens=True))

    @cached_property
    def _compiled(self) -> Template:
        from jinja2.ext import Extension, loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        class Generation(Extension):
            """`{% generation %}` marks assistant text for trainers; it renders as if it were not there."""

            tags = {"generation"}

            def parse(self, parser: Parser) -> list[nodes.Node]:
                next(parser.stream)
                return parser.parse_statements(("name:endgeneration",), drop_needle=True)

        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
        )
        environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = _formatted_now
        return environment.from_string(self.template)

    def apply(
        self,
        messages: Sequence[Message],
        *,
        generation_prompt: bool,
        tools: Tools | None = None,
    ) -> str:
        """Render messages with the chat template."""
        names = ("bos_token", "eos_token", "pad_token", "unk_token")
        specials = {name: self.special(name) for name in names if self.special(name)}
        return str(
            self._compiled.render(
                messages=[message.model_dump(exclude_none=True) for message in messages],
                tools=list(tools) if tools else None,
                add_generation_prompt=generation_prompt,
                **specials,
            )
        )

    def prompt(self, messages: Sequence[Message], tags: Tags, tools: Tools | None = None) -> Prompt:
        """The prompt that a model continues, with what its template prefills of the assistant turn."""
        text = self.apply(messages, generation_prompt=True, tools=tools)
        stripped = text.rstrip()
        prefill = text[len(stripped) - len(tags.open) :] if stripped.endswith(tags.open) else ""
        return Prompt(text=text, ids=tuple(self.encode(text)), prefill=prefill)


def _refuse(message: str) -> None:
    raise InputError(f"the chat template refuses these messages: {message}")


def _formatted_now(pattern: str) -> str:
    from datetime import datetime

    return datetime.now().strftime(pattern)


class Example(Record):
    """A training example: `ids` with `mask` 1 where the loss is taken (the completion and its EOS)."""

    ids: tuple[int, ...]
    mask: tuple[int, ...]


def example(tokenizer: Tokenizer, messages: Sequence[Message], tags: Tags, eos: str) -> Example:
    """Token ids and loss mask of a conversation that ends in an assistant turn.

    The prompt is rendered exactly as at inference and the completion is tokenised apart from it, so that the boundary
    is where generation will start; history is shortened by the template as it will be at inference. What the template
    prefills is not trained again.
    """
    prompt = tokenizer.prompt(messages[:-1], tags)
    completion = messages[-1].content
    if prompt.prefill:
        if not completion.lstrip().startswith(tags.open):
            raise InputError(
                f"the template prefills {tags.open} but the assistant turn does not begin with it",
                fix="the trace was written by a model with other think tags: name them in its preset",
            )
        completion = completion.lstrip()[len(tags.open) :].removeprefix(prompt.prefill[len(tags.open) :])
    completion_ids = tokenizer.encode(completion + eos)
    return Example(ids=(*prompt.ids, *completion_ids), mask=(0,) * len(prompt.ids) + (1,) * len(completion_ids))
