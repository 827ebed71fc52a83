"""Guards before a student learns from rewards: each must tell some completions from others.

Completions that are right, wrong, out of format, foreign, looping and cut are written for a few real problems, put
through the real template and tokenizer, and judged as they will be in training. A reward that gives all of them the
same can never fire; such a training runs for days and teaches nothing.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from distill import plugins, rewards
from distill.errors import InputError
from distill.rewards import Context, Reward, Rollout
from distill.rollouts import rollout
from distill.types import Problem
from distill.verifiers import Verifiers

LOG = logging.getLogger("distill")
_PROBLEMS = 8
_LATE = 1_000_000  # a step after any warm-up
_LOOP = "Wait, let me look at it once more, since that may not be so.\n"
_FOREIGN = {
    "Han": "所以我们先看一看这个问题然后再算一次",
    "Latin": "so then we look at this once more and count it again",
}
_TAG = re.compile(r"<[^<>]*>|\\boxed\{[^{}]*\}")  # instructions quote them, and in a thought they would be strays
_SIGNS = ("+", "-", "*", "/")


def check(config: dict[str, Any], context: Context, problems: Sequence[Problem]) -> dict[str, list[float]]:
    """
    Returns:
        The different values that each reward gave, lowest first.

    Raises:
        InputError: a reward gives all completions the same value, or none at all; of a user's own only a warning.
    """
    sample = problems[:: max(1, len(problems) // _PROBLEMS)][:_PROBLEMS]
    answers = [known_answer(problem, context.verifiers) for problem in sample]
    found: dict[str, set[float]] = {}
    built = rewards.build(config, context)
    for problem, answer in zip(sample, answers, strict=True):
        rollouts = list(completions(problem, answer, context))
        for name, given in _judged(built, rollouts, context).items():
            found.setdefault(name, set()).update(value for value in given if value is not None)
    for name, values in found.items():
        kind = rewards.kind_of(name, config[name])
        if len(values) < 2 and kind == "accuracy" and values and not any(answers):
            LOG.warning("grpo: no right answer to any sampled problem is known, so accuracy could not be tried")
        elif len(values) < 2 and kind.endswith(".py"):  # it may look for something that only it knows of
            LOG.warning("grpo: reward %s gave all completions that were tried the same: see metrics.jsonl", name)
        elif len(values) < 2:
            _dead(name, kind, values, len(sample))
    _weigh(config)
    return {name: sorted(values) for name, values in found.items()}


def _judged(
    built: dict[str, tuple[Reward, float]], rollouts: list[Rollout], context: Context
) -> dict[str, list[float | None]]:
    """As in training: whole groups, of which the last is filled up with its last completion."""
    while len(rollouts) % context.group:
        rollouts.append(rollouts[-1])
    return {name: reward(rollouts, _LATE) for name, (reward, _) in built.items()}


def _dead(name: str, kind: str, values: set[float], count: int) -> None:
    gave = f"gives {next(iter(values)):g} to" if values else "cannot judge"
    fix = {
        "accuracy": "do the problems have gold answers, and does the template leave room for an answer?",
        "format": "do the preset's think tags and `answer` fit the prompt? can the tokenizer spell the tags?",
        "language": "name the problems' language, or switch the reward off",
    }.get(kind, "switch it off, or change its settings")
    raise InputError(
        f"can never fire: it {gave} right, wrong, unformatted, foreign, looping and cut completions of {count} problems"
        " alike",
        where=f"grpo.rewards.{name}",
        fix=fix,
    )


def _weigh(config: dict[str, Any]) -> None:
    """Say so if what surrounds the answer can be worth more than the answer."""
    found = rewards.configure(config)
    kinds = {name: rewards.kind_of(name, config[name]) for name in found}
    right = sum(found[name].weight for name, kind in kinds.items() if kind == "accuracy")
    spans = {name: getattr(plugins.load("rewards", kind), "RANGE", (0.0, 0.0)) for name, kind in kinds.items()}
    others = sum(found[n].weight * (spans[n][1] - spans[n][0]) for n, kind in kinds.items() if kind != "accuracy")
    if right and others >= right:
        LOG.warning(
            "grpo: the other rewards can differ by %.2f, accuracy by %.2f: a wrong answer may be worth more than a"
            " right one",
            others,
            right,
        )


def completions(problem: Problem, answer: str | None, context: Context) -> Iterator[Rollout]:
    """Synthetic completions of one problem, in token ids as a trainer has them."""
    tokenizer, tags = context.tokenizer, context.tags
    prompt = tokenizer.prompt(problem.messages, tags, problem.tools)
    thought = " ".join(_TAG.sub(" ", problem.messages[-1].content).split())
    foreign = _FOREIGN["Latin" if thought and ord(thought[0]) > 0x2E80 else "Han"]
    end = tokenizer.encode(context.eos)

    def turn(reasoning: str, rest: str, closed: bool = True) -> list[int]:
        text = f"{tags.open}\n{reasoning}\n" + (f"{tags.close}\n\n{rest}" if closed else "")
        return tokenizer.encode(text.removeprefix(prompt.prefill))

    said = [
        text
        for one in ([answer] if answer is not None else [])
        for text in (f"<answer>{one}</answer>", f"\\boxed{{{one}}}")
    ]
    long = "\n".join([thought] * 3)
    written = [turn(thought, text) + end for text in [*said, "<answer>0</answer>", "\\boxed{0}", "", "0"]]
    written += [turn(long, text) + end for text in said]
    written += [turn(thought, "", closed=False) + end, turn(foreign, "0") + end, turn(_LOOP * 40, "0") + end]
    whole = turn(thought, "", closed=False)
    written.append((whole * (context.max_tokens // len(whole) + 1))[: context.max_tokens])
    for ids in written:
        yield rollout.read(problem, ids, prompt.prefill, context)


def known_answer(problem: Problem, verifiers: Verifiers) -> str | None:
    """A right answer in the words of a reply, where one can be told without a model or a program."""
    verifier = verifiers.of(problem)
    if problem.answer is None:
        return None
    if problem.verifier.get("kind") == "countdown":
        return _solved(problem.answer["numbers"], problem.answer["target"])
    gold = problem.answer[0] if isinstance(problem.answer, list) else problem.answer
    if examples := getattr(verifier, "examples", None):
        right = examples(gold).right
        return str(right[0]) if right else None
    return None


def _solved(numbers: Sequence[int], target: int) -> str | None:
    """An expression of all the numbers that makes the target; for up to four of them, else it takes too long."""
    if len(numbers) > 4:
        return None
    parts = [(str(number), Fraction(number)) for number in numbers]
    return next((text for text, value in _made(parts) if value == target), None)


def _made(parts: list[tuple[str, Fraction]]) -> Iterator[tuple[str, Fraction]]:
    if len(parts) == 1:
        yield parts[0]
        return
    for a, b in itertools.permutations(range(len(parts)), 2):
        rest = [part for at, part in enumerate(parts) if at not in (a, b)]
        for sign in _SIGNS:
            (left, x), (right, y) = parts[a], parts[b]
            if sign == "/" and not y:
                continue
            value = {"+": x + y, "-": x - y, "*": x * y, "/": x / y if y else x}[sign]
            yield from _made([*rest, (f"({left} {sign} {right})", value)])
