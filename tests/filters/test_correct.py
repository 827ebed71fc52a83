"""The check `correct` with a judge and with a vote, settled over candidates as the filter stage makes them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from distill.errors import BackendError, InputError
from distill.filters import Candidate, ChosenFilter, Context
from distill.types import Message, Outcome, Problem, Trace
from tests.conftest import make_trace
from tests.judge_server import Server, compares, fails, says, section

CONTEXT = Context(student="none")


def problem(text: str = "2 + 3?", answer: Any = "5 apples", **verifier: Any) -> Problem:
    return Problem.make((Message(role="user", content=text),), answer=answer, verifier={"kind": "exact", **verifier})


def says_(answer: str, at: Problem, sample: int = 0, **fields: Any) -> tuple[Problem, Trace]:
    return at, make_trace(f"hm\n</think>\n\n{answer}", problem_id=at.id, sample=sample, **fields)


class Pool:
    """All traces of a run in memory, looked at by the check as worker processes do."""

    def __init__(self, check: Any, pairs: list[tuple[Problem, Trace]]) -> None:
        self.pairs = sorted(pairs, key=lambda pair: (pair[1].problem_id, pair[1].sample))
        self.first = [check(*pair) for pair in self.pairs]
        self.features = [check.feature(*pair) for pair in self.pairs]
        self.loaded = 0
        self.final = list(self.first)
        for number, outcome in check.settle(self):
            self.final[number] = outcome

    def __iter__(self) -> Iterator[Candidate]:
        for number, (_, trace) in enumerate(self.pairs):
            yield Candidate(
                number=number,
                trace_id=trace.id,
                problem_id=trace.problem_id,
                sample=trace.sample,
                passes_others=True,
                correct=self.first[number].passed,
                first_outcome=partial(self.first.__getitem__, number),
                feature=self.features[number],
            )

    def load(self, numbers: Iterable[int]) -> Iterator[tuple[int, Problem, Trace]]:
        for number in numbers:
            self.loaded += 1
            yield number, *self.pairs[number]

    def of(self, text: str) -> Outcome:
        """The last word on the one trace that says `text`."""
        (found,) = [
            end for (_, trace), end in zip(self.pairs, self.final, strict=True) if trace.completion.endswith(text)
        ]
        return found


def settled(pairs: list[tuple[Problem, Trace]], context: Context = CONTEXT, **settings: Any) -> Pool:
    return Pool(ChosenFilter.of(settings, "correct").build(context), pairs)


def test_without_judge_and_vote_it_is_a_plain_filter() -> None:
    check = ChosenFilter.of({}, "correct").build(CONTEXT)
    pair = says_("<answer>5 apples</answer>", problem())
    assert check(*pair).passed is True
    assert check.feature(*pair) is None
    assert list(check.settle(Pool(check, [pair]))) == []


def test_the_judge_is_asked_only_where_the_rules_doubt() -> None:
    at, computed = problem(), problem("make 5", {"target": 5, "numbers": [2, 3]}, kind="countdown")
    pairs = [
        says_("<answer>5 apples</answer>", at, 0),
        says_("In all <answer>the 5 apples</answer>", at, 1),
        says_("In all <answer>6 apples</answer>", at, 2),
        says_("", at, 3),
        says_("In all 5 apples (cut)", at, 4, finish="length"),
        (at, make_trace("5 apples, I am sure", problem_id=at.id, sample=5, finish="length")),
        says_("<answer>5 apples</answer> or <answer>6 </answer>", at, 6),
        says_("<answer>2 + 2</answer>", computed),
        says_("<answer>no gold</answer>", problem("no gold", None)),
    ]
    server = Server(compares)
    with server.running() as url:
        pool = settled(pairs, judge={"endpoint": url, "model": "j"})
    rescued, wrong = pool.of("the 5 apples</answer>"), pool.of("all <answer>6 apples</answer>")
    assert (rescued.passed, rescued.score) == (True, 1.0)
    assert rescued.detail == "judge j: right; rules: wrong_answer the 5 apples, not 5 apples"
    assert (wrong.passed, wrong.reason) == (False, "judged_wrong")
    assert "rules: wrong_answer 6 apples" in wrong.detail
    assert sorted(section(prompt, "candidate").split("< ")[1] for prompt in server.prompts) == [
        "answer>6 apples",
        "answer>the 5 apples",
    ]
    unchanged = [(a, b) for a, b in zip(pool.first, pool.final, strict=True) if a is b]
    assert (len(unchanged), pool.loaded) == (7, 2)


def test_an_answer_that_the_rules_do_not_find_is_put_to_the_judge() -> None:
    at = problem(answer="5", kind="numeric")
    with Server(compares).running() as url:
        pool = settled([says_("It comes to 5, of course.", at)], judge={"endpoint": url, "model": "j"})
    assert (pool.first[0].passed, pool.first[0].reason) == (False, "no_answer")
    assert (pool.final[0].passed, pool.final[0].detail) == (True, "judge j: right; rules: no_answer")


def test_a_judge_in_doubt_is_undecidable() -> None:
    for answer, reason in (
        (says("?\nVERDICT: UNSURE"), "judge_unsure"),
        (says("?"), "no_verdict"),
        (fails(400), "judge_refused"),
    ):
        with Server(answer).running() as url:
            pool = settled([says_("<answer>6</answer>", problem())], judge={"endpoint": url, "model": "j"})
        assert (pool.final[0].passed, pool.final[0].reason) == (None, reason)
        assert "rules: wrong_answer 6" in pool.final[0].detail


def test_which_verdicts_are_put_to_the_judge() -> None:
    undecided = problem("undecided", kind="math", answer="1, 2, \\dots, 9")
    pairs = [says_("<answer>6</answer>", problem()), says_("\\boxed{1, 2, ..., 9}", undecided)]
    expected = {"wrong": "2 + 3?", "undecidable": "undecided"}
    for verdict, asked in expected.items():
        server = Server(says("VERDICT: RIGHT"))
        with server.running() as url:
            pool = settled(pairs, judge={"endpoint": url, "model": "j", "on": [verdict]})
        assert None in [outcome.passed for outcome in pool.first], "the rules must leave one undecided for this test"
        assert [section(prompt, "problem") for prompt in server.prompts] == [asked]


def test_a_rubric_judges_what_has_no_gold_and_only_that() -> None:
    free = problem("Say thanks.", None)
    pairs = [says_("Thank you!", free, 0), says_("Whatever.", free, 1), says_("<answer>6</answer>", problem())]

    async def polite(request: Any, prompt: str) -> Any:
        if "<criteria-" not in prompt:
            return await compares(request, prompt)
        return await says("VERDICT: 0.9" if "Thank" in section(prompt, "candidate") else "VERDICT: 0.2")(
            request, prompt
        )

    server = Server(polite)
    with server.running() as url:
        pool = settled(pairs, judge={"endpoint": url, "model": "j", "rubric": "Is it polite?", "threshold": 0.5})
    good, bad = pool.of("Thank you!"), pool.of("Whatever.")
    assert (good.passed, good.score, good.detail) == (True, 0.9, "judge j: scores 0.9; rules: no_gold")
    assert (bad.passed, bad.reason, bad.score) == (False, "judged_wrong", 0.2)
    assert pool.of("<answer>6</answer>").passed is False
    assert sum("<criteria-" in prompt for prompt in server.prompts) == 2


def test_a_dead_judge_stops_the_run_and_what_it_said_is_kept(tmp_path: Path) -> None:
    at = problem()
    pairs = [says_(f"<answer>{n} apples</answer>", at, n) for n in range(6, 30)]

    async def dies(request: Any, prompt: str) -> Any:
        if len(server.prompts) > 10:
            return await fails(401)(request, prompt)
        return await compares(request, prompt)

    server = Server(dies)
    context = Context(student="none", cache=tmp_path / "judge.jsonl")
    judge = {"model": "j", "concurrency": 2}
    with server.running() as url:
        with pytest.raises(BackendError, match="401"):
            settled(pairs, context, judge={"endpoint": url, **judge})
        server.script = [compares]
        kept = len(server.prompts)
        pool = settled(pairs, context, judge={"endpoint": url, **judge})
        assert 24 - 10 <= len(server.prompts) - kept < 24
        assert {outcome.reason for outcome in pool.final} == {"judged_wrong"}
        asked = len(server.prompts)
        again = settled(pairs, context, judge={"endpoint": url, **judge})
    assert again.final == pool.final
    assert len(server.prompts) == asked


def test_memory_does_not_hold_the_texts_of_all() -> None:
    """Traces are drawn one by one, no more ahead than the judge has questions in flight."""
    at, ahead, most = problem(), 0, 0

    class Counting(Pool):
        def load(self, numbers: Iterable[int]) -> Iterator[tuple[int, Problem, Trace]]:
            nonlocal ahead, most
            for found in super().load(numbers):
                ahead += 1
                most = max(most, ahead)
                yield found

    with Server(compares).running() as url:
        settings = {"judge": {"endpoint": url, "model": "j", "concurrency": 4}}
        check = ChosenFilter.of(settings, "correct").build(CONTEXT)
        whole = check.settle

        def settle(candidates: Any) -> Iterator[tuple[int, Outcome]]:
            nonlocal ahead
            for word in whole(candidates):
                ahead -= 1
                yield word

        check.settle = settle
        pool = Counting(check, [says_(f"<answer>{n}</answer>", at, n) for n in range(100)])
    assert pool.loaded == 100
    assert most <= 9


def vote(answers: list[str | None], **settings: Any) -> list[tuple[bool | None, str, str]]:
    at = problem("no gold", None, kind="math")
    pairs = [
        says_(f"\\boxed{{{answer}}}", at, n) if answer is not None else says_("", at, n)
        for n, answer in enumerate(answers)
    ]
    pool = settled(pairs, vote=settings)
    assert [outcome.reason for outcome in pool.first] == ["no_gold"] * len(answers)
    assert pool.loaded == 0
    return [(outcome.passed, outcome.reason, outcome.detail) for outcome in pool.final]


def test_the_majority_is_a_stated_gold() -> None:
    right, wrong = (True, "", "vote 3 of 4"), (False, "minority", "vote 1 of 4")
    assert vote(["1/2", "3", "0.5", "\\frac{1}{2}"]) == [right, wrong, right, right]
    pool = settled([says_("\\boxed{1}", problem("?", None, kind="math"), n) for n in range(3)], vote={})
    assert [(outcome.passed, outcome.score) for outcome in pool.final] == [(True, 1.0)] * 3


def test_a_tie_or_too_few_votes_decide_nothing() -> None:
    assert vote(["1", "1", "2", "2"]) == [(None, "no_majority", "vote 2 of 4")] * 4
    assert vote(["1", "1"]) == [(None, "no_majority", "vote 2 of 2")] * 2
    assert vote(["1", "1"], votes=2) == [(True, "", "vote 2 of 2")] * 2
    assert vote(["1", "1", "2", "3", "4"]) == [
        *[(None, "no_majority", "vote 2 of 5")] * 2,
        *[(None, "no_majority", "vote 1 of 5")] * 3,
    ]
    assert vote(["1", "1", "2", "3", "4"], share=0.4)[0] == (True, "", "vote 2 of 5")
    assert vote(["1", "1", "1", "2"], share=0.8)[0] == (None, "no_majority", "vote 3 of 4")


def test_a_sample_without_an_answer_has_no_vote_and_is_not_right() -> None:
    silent = (False, "no_answer", "")
    assert vote(["1", None, "1", "1", None]) == [
        (True, "", "vote 3 of 3"), silent, (True, "", "vote 3 of 3"), (True, "", "vote 3 of 3"), silent
    ]  # fmt: skip


def test_a_vote_leaves_problems_with_a_gold_alone() -> None:
    at = problem("with gold", "5", kind="math")
    pool = settled([says_("\\boxed{6}", at, n) for n in range(3)], vote={})
    assert [(outcome.passed, outcome.reason) for outcome in pool.final] == [(False, "wrong_answer")] * 3
    assert pool.features == [None] * 3


def test_answers_that_only_a_gold_could_compare_are_left_undecidable() -> None:
    at = problem("no gold", None, kind="countdown")
    pool = settled([says_("<answer>1 + 2</answer>", at, n) for n in range(3)], vote={})
    assert {outcome.reason for outcome in pool.final} == {"no_gold"}


def test_vote_and_judge_work_side_by_side() -> None:
    free, at = problem("no gold", None), problem()
    pairs = [says_(f"<answer>{a}</answer>", free, n) for n, a in enumerate("aaab")]
    pairs.append(says_("<answer>all 5 apples</answer>", at))
    with Server(compares).running() as url:
        pool = settled(pairs, judge={"endpoint": url, "model": "j"}, vote={})
        with pytest.raises(InputError, match="not by both"):
            settled(pairs, judge={"endpoint": url, "model": "j", "rubric": "nice"}, vote={})
    assert sorted(outcome.detail.split(";")[0] for outcome in pool.final) == [
        "judge j: right", "vote 1 of 4", "vote 3 of 4", "vote 3 of 4", "vote 3 of 4"
    ]  # fmt: skip


@pytest.mark.slow
def test_a_vote_means_the_same_in_every_process() -> None:
    """Features of equal answers are equal however a process hashes strings."""
    code = (
        "from distill.filters.correct import _plain; from fractions import Fraction\n"
        "print(_plain(frozenset({'a', 'b', 'c', Fraction(1, 2)})), _plain((Fraction(4, 2), 'x')))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert said == {"{'a','b','c',1/2} (2,'x')\n"}
