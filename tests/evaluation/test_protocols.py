"""Protocols: the figures of the paper, and prompts without a system message."""

from __future__ import annotations

import pytest

from distill.evaluation.protocols import PROTOCOLS, without_system
from distill.problems import sets
from distill.types import Message, Problem, Sampling

ADVICE = Sampling(temperature=0.7, top_p=0.8, top_k=20, max_tokens=4096)


def test_r1_samples_as_the_paper_says() -> None:
    r1 = PROTOCOLS["r1"]
    assert r1.sampling(ADVICE) == Sampling(temperature=0.6, top_p=0.95, top_k=None, max_tokens=32768)
    wanted = {"aime24": 64, "gpqa-diamond": 64, "math500": 16, "livecodebench": 8}
    assert {name: r1.samples_on(name) for name in wanted} == wanted
    assert r1.samples_on("mine") == 4
    assert set(r1.samples_of) <= set(sets.shipped_sets()), "they are names of sets"
    assert not r1.system_prompt


def test_greedy_is_one_sample_of_what_is_most_likely() -> None:
    greedy = PROTOCOLS["greedy"]
    assert greedy.sampling(ADVICE) == Sampling(temperature=0, top_p=1, top_k=None, max_tokens=4096)
    assert greedy.samples_on("aime24") == 1


def make(*turns: tuple[str, str]) -> Problem:
    messages = tuple(Message.model_validate({"role": role, "content": text}) for role, text in turns)
    return Problem.make(messages, answer="4", set="s", metadata={"private": True})


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([("system", "Be brief."), ("user", "2+2?")], [("user", "Be brief.\n\n2+2?")]),
        (
            [("system", "A."), ("user", "x"), ("assistant", "y"), ("system", "B."), ("user", "z")],
            [("user", "A.\n\nB.\n\nx"), ("assistant", "y"), ("user", "z")],
        ),
        ([("system", "2+2?")], [("user", "2+2?")]),
    ],
)
def test_a_system_message_moves_into_the_users_turn(
    turns: list[tuple[str, str]], expected: list[tuple[str, str]]
) -> None:
    moved = without_system(make(*turns))
    assert moved == make(*expected)
    assert (moved.answer, moved.set, moved.metadata) == ("4", "s", {"private": True})


def test_a_problem_without_one_keeps_its_id() -> None:
    problem = make(("user", "2+2?"))
    assert without_system(problem) is problem
