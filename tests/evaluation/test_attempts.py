"""Attempts are judged alike here and on all cores, and one whose judging ends a process costs no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill.evaluation import attempts
from distill.evaluation.attempts import AttemptsByProblem
from distill.machine import hardware
from distill.progress import LogLines
from distill.sampling import Identity
from distill.store import jsonl
from distill.types import Sampling, Usage
from tests.conftest import make_problem, make_trace

MINE = """
import os
from distill.types import Outcome, Record
from distill.verifiers import Verifier
class Config(Record):
    pass
class Mine(Verifier):
    def verify(self, gold, text):
        if "die" in text:
            os._exit(1)
        return Outcome(passed="right" in text)
    def key(self, gold, text):
        return text.strip()
def build(config):
    return Mine()
"""


@pytest.mark.slow
@pytest.mark.parametrize("deadly", [False, True])
def test_all_cores_see_what_one_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deadly: bool) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    kind = {"kind": str(tmp_path / "mine.py")}
    problems = [make_problem(f"Question {n}?", answer=0, verifier=kind) for n in range(10)]
    identity = Identity("m", None, "t", Sampling(), {})
    said = ("right", "wrong", "cut", "right, at length")
    traces = []
    for n, problem in enumerate(problems):
        for sample, words in enumerate(said):
            reply = "It goes on" if words == "cut" else f"So.\n</think>\n\n{words} {n}"
            if deadly and (n, sample) == (4, 1):
                reply = "So.\n</think>\n\ndie"
            usage = Usage(prompt=5, reasoning=7, answer=900 if words.endswith("length") else 3)
            trace = make_trace(reply, id=identity.attempt_id(problem.id, sample), problem_id=problem.id)
            traces.append(trace.model_copy(update={"usage": usage}))
    jsonl.write(tmp_path / "log.jsonl", traces)

    def judged(processes: int) -> AttemptsByProblem:
        monkeypatch.setattr(hardware, "processors", lambda: list(range(processes)))
        return attempts.judge_log(tmp_path / "log.jsonl", problems, identity, 4, 500, LogLines())

    monkeypatch.setattr(attempts, "_SECONDS_WITHOUT_WORKERS", -1.0)  # no time here beyond the first share
    both = judged(2)
    assert [len(found) for found in both.values()] == [4] * 10
    first = both[problems[0].id]
    assert [found.passed for found in first] == [True, False, False, False], "the last is beyond the budget"
    assert [found.vote_key for found in first] == ["right 0", "wrong 0", None, None]
    if deadly:
        lost = both[problems[4].id][1]
        assert (lost.passed, lost.vote_key, lost.tokens) == (None, None, 10)
        assert [found.passed for found in both[problems[4].id]] == [True, None, False, False]
        return
    assert judged(1) == both
