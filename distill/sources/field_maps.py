r"""Field maps: how the rows of other people's data become problems and attempts at them.

A map is one YAML in recipes/imports (or anywhere) with facts only. Texts in it insert fields of the row as {field}.
What a row says of an attempt's quality (correct, verified, complete) has no place in a map: that is the filter's work.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from string import Formatter

from pydantic import Field, ValidationError, model_validator

from distill import resources
from distill.answers.marked import last_boxed, tagged_answers
from distill.errors import InputError, from_validation
from distill.models.reasoning import Tags
from distill.sources.rows import Row
from distill.types import Finish, Message, Problem, Record, Sampling

TAGS = Tags()
"""What every source's own think tags become."""
PREFILL = f"{TAGS.open}\n"
_ROLES = {"human": "user", "gpt": "assistant"}
_UNFINISHED_END = re.compile(r"[a-z,;(=+]$")
_LONG_SENTENCE = 80


class CutField(Record):
    """The field that tells why an attempt ended; where it is null the text decides."""

    field: str
    values: tuple[str, ...] = ("length",)
    """Values that mean it was cut, as shell patterns: `truncated*`."""


class FieldMap(Record):
    """Where a row keeps what. Either `messages`, or `prompt` with `text` or with `reasoning` and `reply`."""

    name: str = ""
    description: str = ""
    dataset: str | None = None
    """Hub id that this map is for; naming that source chooses this map."""
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    where: dict[str, tuple[str, ...]] = {}
    """Fields with the values (shell patterns) that a row must have one of to be read."""
    prompt: str | None = None
    """The user's turn, such as `{problem}`."""
    messages: str | None = None
    """Field of the turns, each with role and content or from and value; the last is the attempt, or else `text` is."""
    text: str | None = None
    """Field of the attempt, reasoning included; a list holds several attempts."""
    reasoning: str | None = None
    """Field of the attempt's reasoning without tags, where it has one of its own; a list holds several attempts'."""
    reply: str | None = None
    """Field of what follows the attempt's reasoning, used with `reasoning`; a list holds several attempts'."""
    replace: dict[str, str] = {}
    """Exact pieces of text to replace, in this order; how other think tags become <think> and </think>."""
    thinks: bool = True
    """Whether every attempt should hold a think block, so that one which never closes it was cut."""
    cut: CutField | None = None
    answer: str | dict[str, str] | None = None
    """Field of the gold answer, or a mapping of names to fields."""
    answer_after: str | None = None
    """The gold is what follows the last occurrence of this mark (GSM8K: ####)."""
    answer_boxed: bool = False
    r"""The gold is the last \boxed{} of the field, which holds a whole solution."""
    answer_longest: int = Field(0, ge=0)
    """With `answer_boxed`: up to so many characters, a field without a box is the gold itself; else there is none."""
    verifier: dict[str, object] = {"kind": "math"}
    model: str = "unknown"
    """The model that wrote the attempts; part of a trace's id."""
    sampling: Sampling = Sampling()
    """How the attempts were sampled, as far as it is known."""
    language: str = "en"
    licence: str | None = None
    source: str | None = None
    """Where the attempts are from; the dataset or the file's name when left out."""
    source_id: str | None = None
    """Field of the row's own id; its number when left out."""

    @model_validator(mode="after")
    def _one_shape(self) -> FieldMap:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("needs either `prompt` or `messages`")
        attempts = (self.text is not None) + (self.reasoning is not None)
        half_split = (self.reasoning is None) != (self.reply is None)
        if half_split or attempts > 1 or (self.messages is None and attempts == 0):
            raise ValueError("needs either `text` or both `reasoning` and `reply` (or neither, with `messages`)")
        self.fields()  # whether its texts can be parsed
        return self

    def fields(self) -> set[str]:
        """All fields of a row that this map reads; no others are ever looked at."""
        golds = self.answer.values() if isinstance(self.answer, dict) else [self.answer]
        single = (self.messages, self.text, self.reasoning, self.reply, self.source_id, self.cut and self.cut.field)
        templates = (self.prompt, self.model, self.licence, self.source, self.language)
        inserted = {name for template in templates for name in _inserted_fields(template)}
        return {name for name in (*single, *golds, *self.where, *inserted) if name}


@dataclass(frozen=True)
class RowAttempt:
    """One attempt of a row; `number` counts from 0 within it."""

    number: int
    text: str
    """The attempt as it is kept; empty where the row holds none under this number."""
    prefill: str
    """What the prompt held of the attempt: <think> where the text closes what it never opened."""
    finish: Finish
    model: str


@dataclass(frozen=True)
class ParsedRow:
    problem: Problem
    attempts: tuple[RowAttempt, ...]
    source: str | None
    source_id: str | None


def names() -> list[str]:
    return resources.names("recipes/imports")


def find(ref: str | None, source: str = "") -> FieldMap:
    """The map of a shipped name or a .yaml path; without one, the shipped map for that source.

    Raises:
        InputError: there is no such map, or it is wrong; names the setting.
    """
    if ref is None:
        matching_names = [name for name in names() if find(name).dataset == source]
        if not matching_names:
            raise InputError(f"no map is known for {source}", fix=f"name one with --map: {', '.join(names())}")
        ref = matching_names[0]
    path = resources.find("recipes/imports", ref, "map")
    return build({"name": path.stem, **resources.load_yaml(path)}, str(path))


def build(raw: Mapping[str, object], where: str) -> FieldMap:
    try:
        return FieldMap.model_validate(raw)
    except ValidationError as error:
        raise from_validation(error, where) from error


def admits(field_map: FieldMap, row: Row) -> bool:
    """Whether the map's `where` lets a row in."""
    return all(_matches(row.get(field), values) for field, values in field_map.where.items())


def parse(field_map: FieldMap, row: Row) -> ParsedRow:
    """The problem and the attempts of a row.

    Raises:
        ValueError: the row does not hold what the map says; the message is the reason.
    """
    turns = _turns(row, field_map.messages) if field_map.messages else ()
    texts = _texts(field_map, row, turns)
    if field_map.messages and field_map.text is None and field_map.reasoning is None:
        turns = turns[:-1]
    messages = turns or (Message(role="user", content=_filled(str(field_map.prompt), row)),)
    if not any(message.content.strip() for message in messages):
        raise ValueError("its problem is empty")
    problem = Problem.make(
        messages,
        answer=_gold(field_map, row),
        verifier=field_map.verifier,
        set=field_map.name,
        language=_filled(field_map.language, row),
        licence=field_map.licence and _filled(field_map.licence, row),
    )
    model = _filled(field_map.model, row)
    endings = _endings(field_map, row, len(texts))
    source_id = row.get(field_map.source_id) if field_map.source_id else None
    return ParsedRow(
        problem=problem,
        attempts=tuple(_attempt(field_map, n, text, endings[n], model) for n, text in enumerate(texts)),
        source=field_map.source and _filled(field_map.source, row),
        source_id=None if source_id is None else str(source_id),
    )


def _matches(value: object, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(str(value), pattern) for pattern in patterns)


def _inserted_fields(template: str | None) -> Iterator[str]:
    """Fields that a text inserts."""
    return (name for _, name, _, _ in Formatter().parse(template or "") if name)


def _filled(template: str, row: Row) -> str:
    for name in _inserted_fields(template):
        _required_value(row, name)
    return template.format_map(row)


def _required_value(row: Row, field: str) -> object:
    if field not in row:
        raise ValueError(f"lacks the field {field!r}")
    if row[field] is None:
        raise ValueError(f"its field {field!r} is null")
    return row[field]


def _turns(row: Row, field: str) -> tuple[Message, ...]:
    turns = _required_value(row, field)
    if not isinstance(turns, list) or not turns:
        raise ValueError(f"its field {field!r} is no list of turns")
    return tuple(_turn(turn) for turn in turns)


def _turn(turn: object) -> Message:
    keys = ("from", "value") if isinstance(turn, dict) and "from" in turn else ("role", "content")
    if not isinstance(turn, dict) or any(not isinstance(turn.get(key), str) for key in keys):
        raise ValueError("has a turn without role and content (or from and value)")
    role = _ROLES.get(turn[keys[0]], turn[keys[0]])
    try:
        return Message(role=role, content=turn[keys[1]])
    except ValidationError as error:
        raise ValueError(f"has a turn of an unknown role {role!r:.40}") from error


def _texts(field_map: FieldMap, row: Row, turns: tuple[Message, ...]) -> list[str]:
    """The texts of a row's attempts as they are to be kept; empty where there is none."""
    if field_map.reasoning is not None:
        reasonings = _as_list(row, field_map.reasoning)
        replies = _as_list(row, str(field_map.reply))
        if len(reasonings) != len(replies):
            raise ValueError(f"has {len(reasonings)} reasonings for {len(replies)} replies")
        texts = [_joined(reasoning, reply) for reasoning, reply in zip(reasonings, replies, strict=True)]
    elif field_map.text is not None:
        texts = [text if isinstance(text, str) else "" for text in _as_list(row, field_map.text)]
    elif len(turns) < 2 or turns[-1].role != "assistant":
        raise ValueError("its last turn is not the assistant's answer to another")
    else:
        texts = [turns[-1].content]
    if not texts:
        raise ValueError("holds no attempt")
    return [_replaced(text, field_map.replace) for text in texts]


def _replaced(text: str, replacements: Mapping[str, str]) -> str:
    for piece, replacement in replacements.items():
        text = text.replace(piece, replacement)
    return text


def _as_list(row: Row, field: str) -> list[object]:
    value = _required_value(row, field)
    return value if isinstance(value, list) else [value]


def _joined(reasoning: object, reply: object) -> str:
    """Reasoning and reply in the usual shape; without a reply the block stays open, as of any attempt that was cut."""
    if not isinstance(reasoning, str) or not reasoning.strip():
        return ""
    if not isinstance(reply, str) or not reply.strip():
        return f"{TAGS.open}\n{reasoning}"
    return f"{TAGS.open}\n{reasoning}\n{TAGS.close}\n\n{reply}"


def _endings(field_map: FieldMap, row: Row, count: int) -> list[object]:
    """Why each attempt ended, as the row's own field has it; None where it does not say."""
    value = row.get(field_map.cut.field) if field_map.cut else None
    endings = value if isinstance(value, list) else [value] * count
    if len(endings) != count:
        return [None] * count
    return endings


def _attempt(field_map: FieldMap, number: int, text: str, ending: object, model: str) -> RowAttempt:
    opened = TAGS.open in text.partition(TAGS.close)[0]
    prefill = PREFILL if TAGS.close in text and not opened else ""
    if ending is None or field_map.cut is None:
        cut = broken_off(text, field_map.thinks or opened)
    else:
        cut = _matches(ending, field_map.cut.values)
    return RowAttempt(number=number, text=text, prefill=prefill, finish="length" if cut else "stop", model=model)


def broken_off(text: str, thinks: bool) -> bool:
    r"""Whether a reasoning text shows that it was cut: its think block, a \boxed{} or its last sentence never ends.

    A last sentence counts only where it is long, stops at a letter or an operator, and no final answer was marked
    before: many a complete reply ends in a short line without a full stop.
    """
    _, closing_tag, answer = text.partition(TAGS.close)
    if not closing_tag:
        return thinks
    answer = answer.rstrip()
    box_start = answer.rfind("\\boxed{")
    if box_start >= 0 and last_boxed(answer[box_start:]) is None:
        return True
    line = answer.rpartition("\n")[2]
    answer_is_marked = box_start >= 0 or bool(tagged_answers(answer))
    return not answer_is_marked and len(line) >= _LONG_SENTENCE and bool(_UNFINISHED_END.search(line))


def _gold(field_map: FieldMap, row: Row) -> object:
    """The gold answer in the form that the verifier reads; None where the row has none."""
    if isinstance(field_map.answer, dict):
        return {name: _required_value(row, field) for name, field in field_map.answer.items()}
    gold = row.get(field_map.answer) if field_map.answer else None
    if not isinstance(gold, str):
        return gold
    if field_map.answer_after:
        gold = gold.rpartition(field_map.answer_after)[2] if field_map.answer_after in gold else ""
    if field_map.answer_boxed:
        boxed = last_boxed(gold)
        if boxed is not None:
            gold = boxed
        elif len(gold.strip()) > field_map.answer_longest:
            gold = ""
    return gold.strip() or None
