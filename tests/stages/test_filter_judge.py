"""The filter stage with a judge model and a vote: verdicts, ledger and set as a whole."""

from __future__ import annotations

from pathlib import Path

from distill.run import Run
from distill.stages import filter
from distill.store import jsonl
from distill.types import Verdict
from tests.conftest import make_job, make_problem, make_trace
from tests.judge_server import Server, compares


def test_what_judge_and_vote_say_is_in_the_ledger_and_decides_the_set(tmp_path: Path) -> None:
    run = Run(tmp_path)
    known = make_problem("How many apples?", answer="5 apples", verifier={"kind": "exact"})
    unknown = make_problem("How many pears?", answer=None, verifier={"kind": "exact"})
    answers = [(known, ["5 apples", "all 5 apples", "6 apples"]), (unknown, ["7", "7", "8", "7"])]
    jsonl.write(run.problems, [known, unknown])
    traces = [
        make_trace(f"hm\n</think>\n\n<answer>{answer}</answer>", problem_id=problem.id, sample=sample)
        for problem, said in answers
        for sample, answer in enumerate(said)
    ]
    jsonl.write(run.traces_file, traces)
    server = Server(compares)
    with server.running() as url:
        settings = {"judge": {"endpoint": url, "model": "j"}, "vote": {"votes": 3}}
        job = make_job(tmp_path, filter.Config.model_validate({"checks": {"correct": settings}}))
        summary = filter.STAGE.run(job)
        assert filter.STAGE.run(job).kept == summary.kept
    assert len(server.prompts) == 2, "the second run asks nothing"
    rows = [row for row in jsonl.read(run.verdicts_file, Verdict) if row.check == "correct"]
    found = {row.trace_id: row for row in rows}
    assert [found[trace.id].passed for trace in traces] == [True, True, False, True, True, False, True]
    details = [found[trace.id].detail for trace in traces]
    assert details[1].startswith("judge j: right; rules: wrong_answer")
    assert details[2].startswith("judge j: wrong; rules: wrong_answer")
    assert details[3:] == ["vote 3 of 4", "vote 3 of 4", "vote 1 of 4", "vote 3 of 4"]
    assert summary.kept == 5
