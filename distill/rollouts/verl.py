"""Rewards as verl calls them: `compute_score`, once for each completion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distill import filters
from distill.errors import InputError
from distill.models.reasoning import Tags
from distill.verifiers import Verifiers

if TYPE_CHECKING:
    from distill.rollouts.prompt_rows import ExtraInfo


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: ExtraInfo | None = None,
    **_: object,
) -> dict[str, float]:
    """Accuracy and format with their default weights, as verl asks for them of each row of prompts.parquet.

    Name it in verl's config: `custom_reward_function.path` is this file. verl decodes without special tokens, so think
    tags must be ordinary tokens of the tokenizer. It has no word for undecidable: such a completion's accuracy is 0.

    Returns:
        `score`, the weighted sum, and each reward.
    """
    from distill.rewards import accuracy, format
    from distill.rollouts import prompt_rows
    from distill.rollouts.rollout import of_text

    if not extra_info or "verifier" not in extra_info:
        raise InputError("the row names no verifier", where="extra_info", fix="use the grpo/prompts.parquet of a run")
    problem = prompt_rows.problem([{"role": "user", "content": ""}], data_source, ground_truth, extra_info)
    rollout = of_text(problem, solution_str, extra_info["prefill"], Tags(), 0, "stop", _VERIFIERS)
    accuracy_value = float(bool(rollout.outcome.passed))
    format_value = format.scored(rollout, format.checker(format.Config(), filters.Context(student="")))
    weights = (accuracy.Config().weight, format.Config().weight)
    score = weights[0] * accuracy_value + weights[1] * format_value
    return {"score": score, "accuracy": accuracy_value, "format": format_value}


_VERIFIERS = Verifiers()
"""The verifiers of `compute_score`, which is called for one completion at a time."""
