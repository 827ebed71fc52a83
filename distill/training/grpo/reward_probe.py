"""Guards before a student learns from rewards: each must tell some completions from others.

Completions that are right, wrong, out of format, foreign, looping and cut are written for a few real problems, put
through the real template and tokenizer, and judged as they will be in training. A reward that gives all of them the
same can never fire; such a training runs for days and teaches nothing.
"""

from __future__ import annotations

import itertools
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction

from distill import rewards
from distill.errors import InputError
from distill.progress import LOG
from distill.rewards import ChosenReward, Reward, RewardContext, Rollout
from distill.rollouts import rollout
from distill.types import Problem
from distill.verifiers import Verifiers

_SAMPLE_SIZE = 8
_LATE_STEP = 1_000_000
"""An optimizer step after any warm-up."""
_LOOP = "Wait, let me look at it once more, since that may not be so.\n"
_FOREIGN = {
    "Han": "所以我们先看一看这个问题然后再算一次",
    "Latin": "so then we look at this once more and count it again",
}
_QUOTED_TAG = re.compile(
    r"<[^<>]*>|\\boxed\{[^{}]*\}"
)  # instructions quote them, and in a thought they would be strays
_OPERATORS: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}


def check(chosen: Mapping[str, object], context: RewardContext, problems: Sequence[Problem]) -> dict[str, list[float]]:
    """Refuse a reward that gives right, wrong and broken completions of real problems the same value.

    Args:
        chosen: rewards by name, as `rewards.choose` takes them.

    Returns:
        The different values that each reward gave, lowest first.

    Raises:
        InputError: a reward gives all completions the same value, or none at all; of a user's own only a warning.
    """
    sample = problems[:: max(1, len(problems) // _SAMPLE_SIZE)][:_SAMPLE_SIZE]
    answers = [known_answer(problem, context.verifiers) for problem in sample]
    distinct: dict[str, set[float]] = {}
    chosen_rewards = rewards.choose(chosen)
    functions = rewards.build(chosen_rewards, context)
    for problem, answer in zip(sample, answers, strict=True):
        rollouts = list(completions(problem, answer, context))
        for name, group_values in _rewards_given(functions, rollouts, context).items():
            distinct.setdefault(name, set()).update(value for value in group_values if value is not None)
    for name, values in distinct.items():
        kind = chosen_rewards[name].kind
        if len(values) < 2 and kind == "accuracy" and values and not any(answers):
            LOG.warning("grpo: no right answer to any sampled problem is known, so accuracy could not be tried")
        elif len(values) < 2 and kind.endswith(".py"):  # it may look for something that only it knows of
            LOG.warning("grpo: reward %s gave all completions that were tried the same: see metrics.jsonl", name)
        elif len(values) < 2:
            _refuse(name, kind, values, len(sample))
    _warn_of_weights(chosen_rewards, functions)
    return {name: sorted(values) for name, values in distinct.items()}


def _rewards_given(
    functions: dict[str, tuple[Reward, float]], rollouts: list[Rollout], context: RewardContext
) -> dict[str, list[float | None]]:
    """The values that rewards give as in training: to whole groups, the last filled up with its last completion."""
    while len(rollouts) % context.group_size:
        rollouts.append(rollouts[-1])
    return {name: reward(rollouts, _LATE_STEP) for name, (reward, _) in functions.items()}


def _refuse(name: str, kind: str, values: set[float], count: int) -> None:
    """Say why a reward that does not tell completions apart can never fire.

    Raises:
        InputError: always.
    """
    behaviour = f"gives {next(iter(values)):g} to" if values else "cannot judge"
    fix = {
        "accuracy": "do the problems have gold answers, and does the template leave room for an answer?",
        "format": "do the preset's think tags and `answer` fit the prompt? can the tokenizer spell the tags?",
        "language": "name the problems' language, or switch the reward off",
    }.get(kind, "switch it off, or change its settings")
    raise InputError(
        f"can never fire: it {behaviour} right, wrong, unformatted, foreign, looping and cut completions of "
        f"{count} problems alike",
        where=f"grpo.rewards.{name}",
        fix=fix,
    )


def _warn_of_weights(chosen: Mapping[str, ChosenReward], functions: Mapping[str, tuple[Reward, float]]) -> None:
    """Warn where what surrounds the answer can be worth more than the answer."""
    accuracy_weight = sum(weight for name, (_, weight) in functions.items() if chosen[name].kind == "accuracy")
    other_range = sum(
        weight * (reward.bounds[1] - reward.bounds[0])
        for name, (reward, weight) in functions.items()
        if chosen[name].kind != "accuracy"
    )
    if accuracy_weight and other_range >= accuracy_weight:
        LOG.warning(
            "grpo: the other rewards can differ by %.2f, accuracy by %.2f: a wrong answer may be worth more than a"
            " right one",
            other_range,
            accuracy_weight,
        )


def completions(problem: Problem, answer: str | None, context: RewardContext) -> Iterator[Rollout]:
    """Synthetic completions of one problem, in token ids as a trainer has them."""
    tokenizer = context.tokenizer
    tags = context.tags
    prompt = tokenizer.prompt(problem.messages, tags, problem.tools)
    thought = " ".join(_QUOTED_TAG.sub(" ", problem.messages[-1].content).split())
    is_han = thought and ord(thought[0]) > 0x2E80
    foreign = _FOREIGN["Latin" if is_han else "Han"]
    eos_ids = tokenizer.encode(context.eos)

    def turn(reasoning: str, reply: str, closed: bool = True) -> list[int]:
        text = f"{tags.open}\n{reasoning}\n"
        if closed:
            text += f"{tags.close}\n\n{reply}"
        return tokenizer.encode(text.removeprefix(prompt.prefill))

    right = []
    if answer is not None:
        right = [f"<answer>{answer}</answer>", f"\\boxed{{{answer}}}"]
    long_thought = "\n".join([thought] * 3)
    unclosed = turn(thought, "", closed=False)
    sequences = [turn(thought, text) + eos_ids for text in [*right, "<answer>0</answer>", "\\boxed{0}", "", "0"]]
    sequences += [turn(long_thought, text) + eos_ids for text in right]
    sequences += [unclosed + eos_ids, turn(foreign, "0") + eos_ids, turn(_LOOP * 40, "0") + eos_ids]
    sequences.append((unclosed * (context.max_tokens // len(unclosed) + 1))[: context.max_tokens])
    for ids in sequences:
        yield rollout.of_ids(problem, ids, prompt.prefill, context)


def known_answer(problem: Problem, verifiers: Verifiers) -> str | None:
    """A right answer in the words of a reply, where one can be told without a model or a program."""
    verifier = verifiers.of(problem)
    if problem.answer is None:
        return None
    if problem.verifier.get("kind") == "countdown":
        assert isinstance(problem.answer, dict), "the verifier is given both"
        return _countdown_solution(problem.answer["numbers"], problem.answer["target"])
    gold = problem.answer[0] if isinstance(problem.answer, list) else problem.answer
    examples = verifier.examples(gold)
    return examples.right[0] if examples and examples.right else None


def _countdown_solution(numbers: Sequence[int], target: int) -> str | None:
    """An expression of all the numbers that makes the target; for up to four of them, else it takes too long."""
    if len(numbers) > 4:
        return None
    parts = [(str(number), Fraction(number)) for number in numbers]
    return next((text for text, value in _expressions(parts) if value == target), None)


def _expressions(parts: list[tuple[str, Fraction]]) -> Iterator[tuple[str, Fraction]]:
    """All expressions of all the parts, each part being one with its value, and what they make."""
    if len(parts) == 1:
        yield parts[0]
        return
    for left_index, right_index in itertools.permutations(range(len(parts)), 2):
        remaining = [part for index, part in enumerate(parts) if index not in (left_index, right_index)]
        left_text, left_value = parts[left_index]
        right_text, right_value = parts[right_index]
        for sign, operation in _OPERATORS.items():
            if sign == "/" and not right_value:
                continue
            yield from _expressions(
                [*remaining, (f"({left_text} {sign} {right_text})", operation(left_value, right_value))]
            )
