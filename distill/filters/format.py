r"""Format: one think block, then one final answer and nothing after it.

Reasons, in the order in which they are looked for: `think_missing`, `text_before_think`, `think_not_closed`,
`think_reopened`, `think_closed_twice`, `empty_reasoning`, `stray_tag`, `answer_missing`, `answer_not_closed`,
`several_answers`, `text_after_answer`. A cut trace is judged by what is there; `finish` tells why it stopped.
"""

from __future__ import annotations

import re
from typing import Literal

from distill.answers.marked import last_boxed, tagged_answers
from distill.filters import PASS, Context, Filter
from distill.models.reasoning import Tags
from distill.types import Outcome, Problem, Record, Trace

_OPEN = "<answer>"
_CLOSE = "</answer>"
_CONTROL = re.compile(r"<[|｜][^<>|｜\s]{1,40}[|｜]>")  # a template's tokens, such as <|im_end|>
_BOX = re.compile(r"\\boxed\{")


class Config(Record):
    answer: Literal["tag", "boxed", "any", "none"] = "any"
    r"""Mark that the final answer must have: an <answer> tag (`tag`), `\boxed{}` (`boxed`), either (`any`), or none at
    all (`none`)."""
    empty_reasoning: bool = False
    """Whether a think block with nothing in it is accepted, as general data has for trivial questions."""


class FormatFilter(Filter):
    def __init__(self, config: Config, tags: Tags) -> None:
        self._config = config
        self._tags = tags

    def __call__(self, problem: Problem, trace: Trace) -> Outcome:
        text = trace.text
        reason = _thinking(text, self._tags, self._config)
        if not reason:
            reason = _answer(text.partition(self._tags.close)[2], self._config)
        if not reason:
            return PASS
        return Outcome(passed=False, reason=reason, detail=text[-80:])


def build(config: Config, context: Context) -> Filter:
    return FormatFilter(config, context.tags)


def _thinking(text: str, tags: Tags, config: Config) -> str:
    """What is wrong up to the end of the think block, and with tags anywhere; empty if nothing is."""
    prefix, opened, body = text.partition(tags.open)
    reasoning, closed, answer = body.partition(tags.close)
    checks = {
        "think_missing": not opened,
        "text_before_think": bool(prefix.strip()),
        "think_reopened": tags.open in body,
        "think_not_closed": not closed,
        "think_closed_twice": tags.close in answer,
        "empty_reasoning": not (config.empty_reasoning or reasoning.strip()),
        # an answer tag in the reasoning may be a premature answer; either way a reader of tags would trip over it
        "stray_tag": bool(_CONTROL.search(body)) or _OPEN in reasoning or _CLOSE in reasoning,
    }
    return next((reason for reason, is_wrong in checks.items() if is_wrong), "")


def _answer(answer: str, config: Config) -> str:
    """What is wrong with the part after the think block; empty if nothing is."""
    opened = answer.count(_OPEN)
    closed = answer.count(_CLOSE)
    if opened or closed:
        if config.answer == "boxed":
            return "stray_tag"
        return _tagged(answer, opened, closed)
    boxes = _boxes(answer)
    checks = {
        "answer_missing": not answer.strip() or config.answer == "tag" or (config.answer != "none" and not boxes),
        "several_answers": config.answer != "none" and len(boxes) > 1,
    }
    return next((reason for reason, is_wrong in checks.items() if is_wrong), "")


def _tagged(answer: str, opened: int, closed: int) -> str:
    contents = tagged_answers(answer)
    boxes = _boxes(answer) | {"".join(content.split()) for content in contents if "\\boxed" not in content}
    checks = {
        "answer_not_closed": opened > closed,
        "several_answers": opened > 1 or (closed == 1 and len(boxes) > 1),
        "stray_tag": closed > opened or len(contents) != 1,
        "answer_missing": not any(content.strip() for content in contents),
        "text_after_answer": bool(answer.rpartition(_CLOSE)[2].strip()),
    }
    return next((reason for reason, is_wrong in checks.items() if is_wrong), "")


def _boxes(answer: str) -> set[str]:
    r"""The different contents of all closed `\boxed{}`, blanks aside; a result boxed again at the end is one answer."""
    starts = [match.start() for match in _BOX.finditer(answer)]
    ends = [*starts, len(answer)][1:]
    contents = (last_boxed(answer[start:end]) for start, end in zip(starts, ends, strict=True))
    return {"".join(content.split()) for content in contents if content is not None and content.strip()}
