from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from distill.errors import InputError
from distill.filters import PASS, Candidate, ChosenFilter, Context
from distill.filters.pass_rate import Config, PassRate
from distill.types import Problem, Trace


class Ledger:
    """Candidates in memory, in the ledger's order."""

    def __init__(self, rates: dict[str, list[bool | None]]) -> None:
        self.rows = [
            (problem, sample, correct)
            for problem, verdicts in sorted(rates.items())
            for sample, correct in enumerate(verdicts)
        ]
        self.read = 0

    def __iter__(self) -> Iterator[Candidate]:
        for number, (problem, sample, correct) in enumerate(self.rows):
            self.read += 1
            yield Candidate(
                number=number,
                trace_id=f"{problem}{sample}",
                problem_id=problem,
                sample=sample,
                passes_others=True,
                correct=correct,
                first_outcome=lambda: PASS,
                feature=None,
            )

    def load(self, numbers: Iterable[int]) -> Iterator[tuple[int, Problem, Trace]]:
        raise AssertionError("a pass rate needs no records")


def settle(rates, **config):
    check = ChosenFilter.of(config, "pass_rate").build(Context(student="none"))
    ledger = Ledger(rates)
    found = dict(check.settle(ledger))
    by_problem: dict[str, set] = {}
    for number, outcome in found.items():
        by_problem.setdefault(ledger.rows[number][0], set()).add((outcome.passed, outcome.reason, outcome.detail))
    assert all(len(outcomes) == 1 for outcomes in by_problem.values())  # one word for all traces of a problem
    assert len(found) == len(ledger.rows)
    return {problem: outcomes.pop() for problem, outcomes in by_problem.items()}


def test_the_band():
    found = settle(
        {
            "never": [False] * 4,
            "seldom": [True, False, False, False],
            "often": [True, True, True, False],
            "always": [True] * 4,
        },
        low=0.0,
        high=0.9,
    )
    assert found == {
        "never": (False, "too_hard", "0 of 4"),
        "seldom": (True, "", "1 of 4"),
        "often": (True, "", "3 of 4"),
        "always": (False, "too_easy", "4 of 4"),
    }


def test_the_low_end_is_out_and_the_high_end_in():
    rates = {"quarter": [True, False, False, False], "half": [True, True, False, False], "all": [True] * 4}
    found = settle(rates, low=0.25, high=0.5)
    assert {problem: reason for problem, (_, reason, _) in found.items()} == {
        "quarter": "too_hard",
        "half": "",
        "all": "too_easy",
    }
    assert settle(rates, high=1.0)["all"][0] is True


def test_undecided_traces_do_not_count():
    found = settle({"a": [True, None, None, False], "b": [None, True, True, False]}, samples=3)
    assert found == {"a": (None, "few_samples", "1 of 2"), "b": (True, "", "2 of 3")}


def test_it_holds_one_problem_at_a_time():
    check = ChosenFilter.of({"samples": 2}, "pass_rate").build(Context(student="none"))
    ledger = Ledger({f"p{i:03}": [True, False] for i in range(100)})
    first = next(iter(check.settle(ledger)))
    assert first[0] == 0
    assert first[1].score == 0.5
    assert ledger.read == 3


def test_the_first_word_is_no_word(make_problem, make_trace):
    check = ChosenFilter.of({}, "pass_rate").build(Context(student="none"))
    assert check(make_problem(), make_trace("a")) == PASS
    assert check.feature(make_problem(), make_trace("a")) is None


def test_an_empty_band_is_refused():
    with pytest.raises(InputError, match="low"):
        settle({}, low=0.9, high=0.5)


def test_the_estimate_of_the_rule_that_stopped_the_sampling_counts(make_problem, make_trace):
    check = PassRate(Config(low=0.2, high=0.6))
    problem = make_problem(metadata={"sampled": {"samples": 4, "correct": 4, "pass_rate": 0.5}})
    feature = check.feature(problem, make_trace("a"))
    one = Candidate(
        number=0,
        trace_id="a",
        problem_id="p",
        sample=0,
        passes_others=True,
        correct=True,
        first_outcome=lambda: PASS,
        feature=feature,
    )
    [(number, outcome)] = check.settle([one])
    assert (number, outcome.passed, outcome.score, outcome.detail) == (0, True, 0.5, "estimated from 4")
