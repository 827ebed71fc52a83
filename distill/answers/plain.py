"""The one final answer that a text states, for the verifiers that read plain answers."""

from __future__ import annotations

from distill.answers.marked import final_answer, tagged_answers
from distill.types import Outcome


def wrong(reason: str, detail: str = "") -> Outcome:
    return Outcome(passed=False, reason=reason, score=0.0, detail=detail[:200])


RIGHT = Outcome(passed=True, score=1.0)
HEDGED = wrong("several_answers", "the <answer> tags differ")


def without_reasoning(text: str) -> str:
    """The text without its reasoning, should the caller have left it in; nothing of it where that never ended."""
    if "</think>" in text:
        return text.rpartition("</think>")[2]
    if text.lstrip().startswith("<think>"):
        return ""
    return text


def is_hedged(text: str) -> bool:
    """Whether several closed <answer> tags differ: whoever states two answers has not decided, so none counts."""
    return (
        "<answer>" in text and len({"".join(answer.split()) for answer in tagged_answers(without_reasoning(text))}) > 1
    )


def stated_answer(text: str) -> str:
    """The last tagged or boxed answer, else the text itself: an answer file may hold the bare answer and no more.

    Verifiers read the result as a whole, so prose without a tag or a box never passes for an answer.
    """
    text = without_reasoning(text)
    answer = final_answer(text)
    if answer is None:
        return text.strip()
    return answer


def is_marked(text: str) -> bool:
    """Whether a tag or a box says which part of the text is the answer."""
    return final_answer(without_reasoning(text)) is not None
