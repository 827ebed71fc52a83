"""The verifier `judge` against a real HTTP server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distill.errors import BackendError, InputError
from distill.types import Message, Problem
from distill.verifiers import ChosenVerifier, Verifiers
from tests.conftest import make_trace
from tests.judge_server import Server, compares, says, section


def problem(url: str, answer: Any = "5", **options: Any) -> Problem:
    turn = Message(role="user", content="What is 2 + 3?")
    return Problem.make((turn,), answer=answer, verifier={"kind": "judge", "endpoint": url, "model": "j", **options})


def test_a_trace_is_judged_by_its_problem_and_gold() -> None:
    server = Server(compares)
    with server.running() as url:
        verifiers = Verifiers()
        right = verifiers.judge(problem(url), make_trace("hm\n</think>\n\nSo it is 5."))
        wrong = verifiers.judge(problem(url), make_trace("5!\n</think>\n\nSo it is 6."))
        assert (right.passed, right.score, right.detail) == (True, 1.0, "judge j: right")
        assert (wrong.passed, wrong.reason) == (False, "judged_wrong")
        assert section(server.prompts[0], "problem") == "What is 2 + 3?"
        assert section(server.prompts[1], "candidate").strip() == "So it is 6.", "the reasoning is not shown"
        cut = verifiers.judge(problem(url), make_trace("hm, 5", finish="length"))
        assert (cut.passed, cut.reason, len(server.prompts)) == (False, "no_answer", 2)


def test_a_rubric_does_without_a_gold() -> None:
    server = Server(says("Polite.\nVERDICT: PASS"), says("VERDICT: 0.4"))
    with server.running() as url:
        trace = make_trace("hm\n</think>\n\nThank you!")
        polite = Verifiers().judge(problem(url, None, rubric="It is polite."), trace)
        assert (polite.passed, section(server.prompts[0], "criteria")) == (True, "It is polite.")
        scored = Verifiers().judge(problem(url, None, rubric="It is polite.", threshold=0.5), trace)
        assert (scored.passed, scored.score) == (False, 0.4)
        neither = Verifiers().judge(problem(url, None), trace)
        assert (neither.passed, neither.reason) == (None, "no_gold")


def test_it_verifies_bare_answers_too() -> None:
    server = Server(compares)
    with server.running() as url:
        verifier = ChosenVerifier.of({"kind": "judge", "endpoint": url, "model": "j"}).build()
        assert verifier.reads_problem
        assert verifier.verify("5", "5").passed is True
        assert verifier.verify("5", "6").passed is False
        assert "<problem-" not in server.prompts[0]
        assert verifier.verify("5", " ").reason == "no_answer"
        assert verifier.verify("5", "<answer>5</answer> or <answer>6</answer>").reason == "several_answers"
        assert len(server.prompts) == 2
        for gold in (None, " "):
            with pytest.raises(InputError, match="not a gold of `judge`"):
                verifier.verify(gold, "5")
        assert verifier.key("5", "<answer>a b</answer>") == verifier.key("5", "\\boxed{ab}") == "ab"
        assert verifier.key("5", "") is None


def test_a_dead_endpoint_is_an_error_and_no_verdict() -> None:
    with pytest.raises(BackendError, match=r"127\.0\.0\.1:9"):
        Verifiers().judge(problem("http://127.0.0.1:9", patience=0.01), make_trace("hm\n</think>\n\n5"))


def test_its_cache_outlives_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server, trace = Server(compares), make_trace("hm\n</think>\n\n5")
    with server.running() as url:
        for _ in range(2):
            monkeypatch.setattr("distill.judges.judge._SHARED", {})  # as in another process
            assert Verifiers().judge(problem(url, cache=str(tmp_path / "j.jsonl")), trace).passed is True
    assert len(server.prompts) == 1


@pytest.mark.parametrize("wrong", [{"endpoint": "nowhere"}, {"rubric": ""}, {"threshold": 2}, {"modle": "j"}])
def test_wrong_settings_are_the_users_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        ChosenVerifier.of({"kind": "judge", "endpoint": "http://a:1", "model": "j", **wrong}).build()
