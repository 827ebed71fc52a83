"""A problem as a row of prompts.parquet, in the columns that verl reads and that TRL hands to reward functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

import orjson

from distill.types import Message, Problem

ABILITY = "reasoning"


class ExtraInfo(TypedDict):
    """The column `extra_info`: what rewards need of a problem that has no column of its own."""

    problem_id: str
    verifier: str
    """JSON of `Problem.verifier`."""
    language: str
    prefill: str
    pass_rate: float | None


def of(problem: Problem, prefill: str, pass_rate: float | None) -> dict[str, object]:
    """A problem's row.

    Args:
        prefill: what the chat template already says for the assistant.
        pass_rate: share of the attempts that solved it, where known.
    """
    return {
        "data_source": problem.set,
        "prompt": [{"role": message.role, "content": message.content} for message in problem.messages],
        "ability": ABILITY,
        "reward_model": {"style": "rule", "ground_truth": orjson.dumps(problem.answer).decode()},
        "extra_info": {
            "problem_id": problem.id,
            "verifier": orjson.dumps(problem.verifier).decode(),
            "language": problem.language,
            "prefill": prefill,
            "pass_rate": pass_rate,
        },
    }


def problem(prompt: Sequence[Mapping[str, str]], data_source: str, ground_truth: str, extra_info: ExtraInfo) -> Problem:
    """The inverse of `of`, as far as rewards need it."""
    return Problem(
        id=extra_info["problem_id"],
        messages=tuple(Message(role=turn["role"], content=turn["content"]) for turn in prompt),
        answer=orjson.loads(ground_truth),
        verifier=orjson.loads(extra_info["verifier"]),
        set=data_source,
        language=extra_info["language"],
    )
