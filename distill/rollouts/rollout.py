"""Token ids to a rollout.

TRL hands reward functions text that was decoded without special tokens; where the think tags are such, no reward that
looks for them would ever fire. So the ids are decoded here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from distill.models.reasoning import Tags, split
from distill.rewards import RewardContext, Rollout
from distill.types import Problem, Sampling, Trace, Usage
from distill.verifiers import Verifiers

_SAMPLING = Sampling()


def of_ids(problem: Problem, ids: Sequence[int], prefill: str, context: RewardContext) -> Rollout:
    """A completion as sampled, with or without its EOS; padding behind the EOS is ignored."""
    eos_id = context.tokenizer.encode(context.eos)[0]
    sampled = list(ids)
    finish: Literal["stop", "length"] = "length"
    tokens = len(sampled)
    if eos_id in sampled:
        finish = "stop"
        sampled = sampled[: sampled.index(eos_id)]
        tokens = len(sampled) + 1
    text = str(context.tokenizer.fast.decode(sampled, skip_special_tokens=False))
    return of_text(problem, text, prefill, context.tags, tokens, finish, context.verifiers)


def of_text(
    problem: Problem,
    text: str,
    prefill: str,
    tags: Tags,
    tokens: int,
    finish: Literal["stop", "length"],
    verifiers: Verifiers,
) -> Rollout:
    """A completion of which only the text is at hand.

    Args:
        tokens: of the completion, its EOS included.
    """
    spans = split(text, prefill, tags)
    trace = Trace(
        id="",
        problem_id=problem.id,
        sample=0,
        model="",
        revision=None,
        template="",
        sampling=_SAMPLING,
        prompt_hash="",
        prefill=prefill,
        completion=text,
        finish=finish,
        usage=Usage(prompt=0, reasoning=tokens, answer=0),  # rewards read `Rollout.tokens`
        engine="",
        segments=(),
        reasoning_span=spans.reasoning,
        answer_span=spans.answer,
    )
    return Rollout(problem, trace, tokens, verifiers)
