"""Stop at k, budgets that continue, and runs that are cut off, on the scripted backend."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from distill.backends import ChosenBackend
from distill.errors import BackendError, Stopped
from distill.models import presets
from distill.problems import sets
from distill.progress import LogLines
from distill.sampling import Logs, SamplingJob, StoppingRule, Tally, collect
from distill.sampling.history import Censored, Grade, ProblemPassRate
from distill.sampling.schedule import pass_rate
from distill.store import jsonl
from distill.types import Problem, Sampling, Trace, unpack_ids

RIGHT = "It is so.\n</think>\n\n<answer>yes</answer>"
WRONG = "It is not so.\n</think>\n\n<answer>no</answer>"


def logs(folder: Path) -> Logs:
    names = ("traces", "failures", "grades", "pass_rates", "censored", "replies")
    return Logs(*(folder / f"{name}.jsonl" for name in names))


def yes_or_no(folder: Path, count: int) -> list[Problem]:
    path = folder / "p.jsonl"
    rows = [{"problem": f"{n}: is it so?", "answer": "yes", "verifier": {"kind": "exact"}} for n in range(count)]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return list(sets.load(str(path), "train"))


def wanted(folder: Path, count: int = 12, **changes: Any) -> SamplingJob:
    fields: dict[str, Any] = {
        "problems": yes_or_no(folder, count),
        "model": presets.as_model(presets.teacher("tiny")),
        "sampling": Sampling(temperature=0.6, top_p=0.95, max_tokens=300),
        "rule": StoppingRule(samples=16, stop_at=3, give_up=6),
        "seed": 0,
        "backend": {"kind": "scripted", "replies": [RIGHT, WRONG, WRONG]},
        "graded": True,
    }
    fields |= changes
    return SamplingJob(**fields | {"backend": ChosenBackend.of(fields["backend"])})


def sample(folder: Path, what: SamplingJob) -> Tally:
    return collect(what, logs(folder), LogLines(), "test")


def grades(folder: Path) -> dict[str, dict[int, bool]]:
    found: dict[str, dict[int, bool]] = {}
    for grade in jsonl.read(folder / "grades.jsonl", Grade):
        found.setdefault(grade.problem_id, {})[grade.sample] = bool(grade.passed)
    return found


def rates(folder: Path) -> dict[str, ProblemPassRate]:
    return {rate.problem_id: rate for rate in jsonl.read(folder / "pass_rates.jsonl", ProblemPassRate)}


def by_the_rule(outcomes: dict[int, bool], rule: StoppingRule) -> tuple[int, int]:
    right = 0
    for sample in range(rule.samples):
        right += outcomes[sample]
        if rule.ends(right, sample + 1):
            return sample + 1, right
    raise AssertionError


@pytest.fixture
def everything(tmp_path: Path) -> dict[str, dict[int, bool]]:
    """The outcomes of all 16 samples of each problem."""
    folder = tmp_path / "all"
    folder.mkdir()
    sample(folder, wanted(folder, rule=StoppingRule(samples=16)))
    return grades(folder)


def test_each_problem_stops_where_the_rule_says(tmp_path: Path, everything: dict[str, dict[int, bool]]) -> None:
    rule = StoppingRule(samples=16, stop_at=3, give_up=6)
    tally = sample(tmp_path, wanted(tmp_path))
    found = rates(tmp_path)
    assert set(found) == set(everything)
    for id, rate in found.items():
        assert (rate.samples, rate.correct) == by_the_rule(everything[id], rule)
        assert rate.pass_rate == pytest.approx(float(pass_rate(rule, rate.correct, rate.samples)))
        assert rate.ended == ("enough" if rate.correct == 3 else "given_up" if not rate.correct else "all")
    assert tally.accepted == sum(rate.correct for rate in found.values())
    finished = [
        trace.sample >= found[trace.problem_id].samples for trace in jsonl.read(tmp_path / "traces.jsonl", Trace)
    ]
    assert tally.replies == len(finished) < 16 * 12
    assert finished.count(False) == sum(rate.samples for rate in found.values())
    assert (tally.fates["surplus"] > 0) == any(finished)
    assert {rate.ended for rate in found.values()} >= {"enough", "given_up"}


@pytest.mark.slow
def test_siblings_that_count_no_more_are_cancelled_and_recorded(tmp_path: Path) -> None:
    backend = {"kind": "scripted", "replies": [RIGHT], "delay": 0.05, "concurrency": 40}
    tally = sample(tmp_path, wanted(tmp_path, 1, rule=StoppingRule(samples=40, stop_at=2), backend=backend))
    censored = list(jsonl.read(tmp_path / "censored.jsonl", Censored))
    assert tally.cancelled == len(censored)
    assert tally.accepted == 2
    [rate] = rates(tmp_path).values()
    assert (rate.samples, rate.correct, rate.pass_rate) == (2, 2, 1.0)
    finished = {trace.sample for trace in jsonl.read(tmp_path / "traces.jsonl", Trace)}
    assert finished >= {0, 1}
    assert not finished & {row.sample for row in censored}


@pytest.mark.slow
@pytest.mark.parametrize("first", [1, 5, 17])
def test_a_run_that_was_cut_off_ends_as_if_it_had_not_been(tmp_path: Path, first: int) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    sample(whole, wanted(whole))
    script = {"kind": "scripted", "replies": [RIGHT, WRONG, WRONG], "concurrency": first}
    for _ in range(3):
        with pytest.raises(BackendError):
            sample(parts, wanted(parts, backend={**script, "fail_after": first}))
    sample(parts, wanted(parts, backend=script))
    assert rates(parts) == rates(whole)
    assert sample(parts, wanted(parts, backend={"kind": "scripted", "fail_first": 10**9})).replies == 0


@pytest.mark.slow
def test_a_larger_k_goes_on_from_what_is_there(tmp_path: Path, everything: dict[str, dict[int, bool]]) -> None:
    sample(tmp_path, wanted(tmp_path))
    before = {trace.id for trace in jsonl.read(tmp_path / "traces.jsonl", Trace)}
    larger = StoppingRule(samples=16, stop_at=5, give_up=10)
    again = sample(tmp_path, wanted(tmp_path, rule=larger))
    after = [trace.id for trace in jsonl.read(tmp_path / "traces.jsonl", Trace)]
    assert len(after) == len(set(after)) == len(before) + again.replies
    for id, rate in rates(tmp_path).items():
        assert (rate.samples, rate.correct) == by_the_rule(everything[id], larger)


@pytest.mark.slow
def test_a_mended_gold_is_judged_anew_without_sampling(tmp_path: Path) -> None:
    what = wanted(tmp_path, 2, rule=StoppingRule(samples=4))
    sample(tmp_path, what)
    mended = [p.model_copy(update={"answer": "no"}) for p in what.problems]
    assert sample(tmp_path, wanted(tmp_path, problems=mended, rule=StoppingRule(samples=4))).replies == 0
    right = {grade.trace_id: grade.passed for grade in jsonl.read(tmp_path / "grades.jsonl", Grade)}
    texts = {trace.id: trace.completion for trace in jsonl.read(tmp_path / "traces.jsonl", Trace)}
    assert all(right[id] == (text == WRONG) for id, text in texts.items())


LONG = "One: a, two: b, three: c; " * 4 + "done.\n</think>\n\n<answer>yes</answer>"


def test_a_cut_trace_is_continued_from_its_own_tokens(tmp_path: Path) -> None:
    script = {"kind": "scripted", "replies": [LONG]}
    tally = sample(tmp_path, wanted(tmp_path, 2, rule=StoppingRule(samples=2), backend=script, budgets=(30, 60, 400)))
    last = {trace.id: trace for trace in jsonl.read(tmp_path / "traces.jsonl", Trace)}
    assert len(last) == 4
    assert tally.continued > 0
    for trace in last.values():
        assert trace.completion == LONG
        assert trace.finish == "stop"
        ends = [segment.end for segment in trace.segments]
        assert len(ends) == 3
        assert ends == sorted(ends)
        assert [segment.tokens for segment in trace.segments[:2]] == [30, 30]
        assert len({segment.seed for segment in trace.segments}) == 3
        assert trace.completion_ids
        assert len(unpack_ids(trace.completion_ids)) == trace.usage.completion
    assert tally.fates["correct"] == sum(trace.usage.completion for trace in last.values())


@pytest.mark.slow
def test_a_larger_budget_later_continues_what_was_cut(tmp_path: Path) -> None:
    script = {"kind": "scripted", "replies": [LONG, RIGHT]}
    sample(tmp_path, wanted(tmp_path, 4, rule=StoppingRule(samples=2), backend=script, budgets=(30,)))
    cut = [trace.id for trace in jsonl.read(tmp_path / "traces.jsonl", Trace) if trace.finish == "length"]
    assert cut
    again = sample(tmp_path, wanted(tmp_path, 4, rule=StoppingRule(samples=2), backend=script, budgets=(30, 400)))
    assert again.replies == len(cut)
    last = {trace.id: trace for trace in jsonl.read(tmp_path / "traces.jsonl", Trace)}
    assert all(trace.finish == "stop" for trace in last.values())
    assert all(rate.ended == "all" and rate.correct == 2 for rate in rates(tmp_path).values())


@pytest.mark.slow
def test_a_loop_is_not_continued(tmp_path: Path) -> None:
    script = {"kind": "scripted", "replies": ["Wait, let me check that again. " * 400]}
    what = wanted(tmp_path, 1, rule=StoppingRule(samples=1), backend=script, budgets=(200, 400, 1500))
    tally = sample(tmp_path, what)
    [trace] = jsonl.read(tmp_path / "traces.jsonl", Trace)
    assert (trace.finish, tally.continued) == ("repetition", 0)
    assert tally.fates["loop"] == trace.usage.completion == 200


def test_sigterm_stops_in_good_order(tmp_path: Path) -> None:
    script = {"kind": "scripted", "replies": [RIGHT, WRONG], "delay": 0.05, "concurrency": 2}
    traces = tmp_path / "traces.jsonl"

    def stop() -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until and not (traces.is_file() and traces.stat().st_size):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(Stopped, match="same command goes on"):
        sample(tmp_path, wanted(tmp_path, 40, backend=script))
    stopper.join()
    before = len(list(jsonl.read(traces, Trace)))
    assert before > 0
    fast = {**script, "delay": 0, "concurrency": 64}
    sample(tmp_path, wanted(tmp_path, 40, backend=fast))
    assert len(rates(tmp_path)) == 40
    assert not (tmp_path / "replies.jsonl").exists()
