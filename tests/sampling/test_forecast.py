"""What a pilot says of the whole set, and that it is kept."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from distill import pipeline, recipe
from distill.problems import sets
from distill.progress import LogLines
from distill.run import Run
from distill.sampling.forecast import Forecast, Pilot, PilotProblem, draw_pilot, forecast, read_pilot
from distill.sampling.history import Censored, Logs, ProblemPassRate
from distill.sampling.price import Price
from distill.sampling.speed import Stopwatch
from distill.stages.generate import GenerateSummary
from distill.store import jsonl
from distill.types import Message, Metric, Problem, Segment, Trace, Usage
from tests.conftest import make_trace

RIGHT = "It is so.\n</think>\n\n<answer>yes</answer>"
WRONG = "It is not so, as far as anyone can tell.\n</think>\n\n<answer>no</answer>"


def spent(tokens: int, accepted: int = 1) -> PilotProblem:
    return PilotProblem(tokens=tokens, prompt_tokens=50, traces=4, accepted=accepted, log_bytes=10 * tokens, cut=0)


def questions(count: int) -> list[Problem]:
    return [Problem.make((Message(role="user", content=f"{n}: is it so?"),), answer="yes") for n in range(count)]


def test_the_draw_depends_on_the_problems_alone() -> None:
    some = questions(200)
    chosen = draw_pilot(some, 20)
    assert len(chosen) == 20
    assert {p.id for p in draw_pilot(some[::-1], 20)} == {p.id for p in chosen}
    assert {p.id for p in draw_pilot(some, 50)} > {p.id for p in chosen}, "a larger pilot begins with the smaller"
    assert draw_pilot(some, 1000) == some
    places = [some.index(problem) for problem in draw_pilot(some, 100)]
    assert places == sorted(places)
    assert 80 < sum(places) / len(places) < 120, "from all over the set"


@pytest.mark.slow
@pytest.mark.parametrize("count", [15, 60])
def test_intervals_cover_what_comes(count: int) -> None:
    """Lengths with a long tail, as chains of thought have."""
    hits = tries = accepted = 0
    dice = random.Random(count)
    for _ in range(120):
        whole = [spent(round(dice.lognormvariate(6, 0.8)), dice.choice((0, 0, 4))) for _ in range(300)]
        found = forecast(Pilot(whole[:count], 0), 300)
        truth = sum(one.tokens for one in whole)
        hits += found.tokens.low <= truth <= found.tokens.high
        accepted += found.accepted.low <= sum(one.accepted for one in whole) <= found.accepted.high
        tries += 1
    assert 0.87 <= hits / tries <= 0.995
    assert 0.89 <= accepted / tries <= 0.995


def test_nothing_is_uncertain_of_what_is_done() -> None:
    found = forecast(
        Pilot([spent(100), spent(300, 0), spent(200, 4)], surplus=30), 3, speed=Metric(value=63, low=63, high=63)
    )
    tokens = found.tokens
    assert tokens.value == tokens.low == tokens.high == tokens.done == 630
    assert (found.accepted.value, found.solved.value, found.traces.value) == (5, 2, 12)
    assert found.tokens_per_accepted
    assert found.tokens_per_accepted.value == 126
    assert found.hours == Metric(value=10 / 3600, low=10 / 3600, high=10 / 3600)


def test_surplus_comes_at_the_end_and_does_not_grow() -> None:
    pilot = [spent(100, 2)] * 4
    found = forecast(Pilot(pilot, surplus=1000), 400)
    assert found.tokens.value == 400 * 100 + 2 * 1000
    assert found.tokens.done == 4 * 100 + 1000
    assert found.accepted.value == 800


def test_prices() -> None:
    pilot = Pilot([spent(100)] * 3, 0)
    speed = Metric(value=100, low=90, high=110)
    by_hour = forecast(pilot, 3600, speed=speed, engines=2, price=Price(per_hour=2))
    assert by_hour.hours
    assert by_hour.hours.value == pytest.approx(1)
    assert by_hour.engine_hours
    assert by_hour.engine_hours.value == pytest.approx(2)
    assert by_hour.cost
    assert by_hour.cost.value == pytest.approx(4)
    assert by_hour.cost.low is not None
    assert by_hour.cost.high is not None
    assert 3.4 < by_hour.cost.low < 3.8
    assert 4.2 < by_hour.cost.high < 4.6
    by_token = forecast(pilot, 3600, price=Price(input=1, output=10))
    assert by_token.hours is None
    assert by_token.cost
    assert by_token.cost.value == pytest.approx((3600 * 50 * 1 + 3600 * 100 * 10) / 1e6)
    assert forecast(pilot, 3600, price=Price(per_hour=2)).cost is None, "no speed was measured"
    for wrong in ({}, {"per_hour": 1, "output": 1}, {"input": 1}):
        with pytest.raises(ValidationError, match="either per_hour"):
            Price.model_validate(wrong)


def test_no_correct_trace_and_too_small_a_pilot() -> None:
    found = forecast(Pilot([spent(100, 0)] * 3, 0), 10)
    assert found.tokens_per_accepted is None
    with pytest.raises(ValueError, match="two problems"):
        forecast(Pilot([spent(100)], 0), 10)


def test_speed_is_measured_while_the_engine_is_full() -> None:
    watch = Stopwatch()
    for slot in range(10):  # each samples 5 tokens a second from its start on, one after another, and they end apart
        at = 0.3 * slot
        while at < 20 + 3 * slot:
            watch.note(at, at + 2, 10)
            at += 2
    assert watch.most_in_flight == 10
    speed = watch.steady_rate()
    assert speed
    everything = sum(tokens for *_, tokens in watch.replies) / max(ended for _, ended, _ in watch.replies)
    assert 0.97 * 50 < speed.value <= 50, "nine of ten in flight count as full"
    assert everything < 0.9 * 50
    assert Stopwatch().steady_rate() is None


def logged(folder: Path, traces: list[Trace], rate: list[ProblemPassRate], censored: list[Censored]) -> Logs:
    logs = Logs(folder / "t.jsonl", folder / "f.jsonl", None, folder / "r.jsonl", folder / "c.jsonl")
    for path, rows in ((logs.traces, traces), (logs.rates, rate), (logs.censored, censored)):
        assert path
        jsonl.write(path, rows)
    return logs


def test_the_log_tells_what_was_needed_and_what_was_surplus(tmp_path: Path) -> None:
    [problem] = questions(1)
    part = Segment(end=5, tokens=40, finish="length", seed=1, endpoint="x", seconds=2.0)

    def trace(sample: int, tokens: int, **more: Any) -> Trace:
        usage = Usage(prompt=10, reasoning=tokens, answer=0)
        fields: dict[str, Any] = {"segments": (part,), "id": f"id{sample}"} | more
        made = make_trace(problem_id=problem.id, sample=sample)
        return made.model_copy(update={"usage": usage, **fields})

    first = trace(0, 40, finish="length")
    again = trace(0, 70, segments=(part, part.model_copy(update={"tokens": 30, "finish": "stop"})))
    traces = [first, trace(1, 40, finish="length"), again, trace(2, 40)]
    rate = ProblemPassRate(problem_id=problem.id, samples=2, correct=1, pass_rate=0.5, ended="all")
    gone = Censored(id="id3", problem_id=problem.id, sample=3, seconds=1.5)
    pilot = read_pilot(logged(tmp_path, traces, [rate], [gone]), [problem])
    [found] = pilot.problems
    assert (found.tokens, found.prompt_tokens, found.traces, found.accepted, found.cut) == (
        110,
        10 + (10 + 40) + 10,
        2,
        1,
        1,
    )
    assert pilot.surplus == 40 + round(1.5 * 20)
    lines = (tmp_path / "t.jsonl").read_bytes().splitlines(keepends=True)
    assert found.log_bytes == sum(len(line) for line in lines[:3])


@pytest.mark.slow
def test_a_pilot_is_kept_and_the_stage_is_not_done(tmp_path: Path) -> None:
    source = tmp_path / "p.jsonl"
    rows = [{"problem": f"{n}: is it so?", "answer": "yes", "verifier": {"kind": "exact"}} for n in range(120)]
    source.write_text("\n".join(map(json.dumps, rows)))
    settings = {
        "problems": str(source),
        "samples": 8,
        "stop_at": 2,
        "give_up": 4,
        "price": {"per_hour": 3600},
        "backend": {"kind": "scripted", "replies": [RIGHT, WRONG], "delay": 0.01, "concurrency": 16},
    }
    made = recipe.build({"name": "scripted", "teacher": "tiny", "student": "tiny", "generate": settings})
    run = Run(tmp_path / "run")
    found = pipeline.forecast(run, made, 30, LogLines())
    assert found
    kept = [trace.id for trace in jsonl.read(run.traces_file, Trace)]
    assert {trace.problem_id for trace in jsonl.read(run.traces_file, Trace)} == {
        problem.id for problem in draw_pilot(list(sets.load(str(source), "train")), 30)
    }
    assert run.stage("generate") == {}
    assert Forecast.model_validate(run.state()["forecast"]) == found
    assert (found.pilot, found.problems, found.cut, found.notes) == (30, 120, 0.0, ())
    assert found.tokens_per_second
    assert found.cost

    again = pipeline.forecast(run, made, 30, LogLines())
    assert again == found, "nothing is sampled anew, and the speed is the one that was measured"

    [done] = pipeline.run_stages(run, made, ("generate",), LogLines())
    assert not done.fresh
    ids = [trace.id for trace in jsonl.read(run.traces_file, Trace)]
    assert ids[: len(kept)] == kept
    assert isinstance(done.summary, GenerateSummary)
    assert len(ids) == len(set(ids)) == len(kept) + done.summary.sampled_now
    rates = list(jsonl.read(run.rates, ProblemPassRate))
    assert found.traces.low <= sum(rate.samples for rate in rates) <= found.traces.high
    assert found.accepted.low <= done.summary.accepted <= found.accepted.high
    assert found.solved.low <= done.summary.solved <= found.solved.high
    [after] = pipeline.run_stages(run, made, ("generate",), LogLines())
    assert after.fresh


@pytest.mark.slow
def test_a_budget_that_cuts_is_told(tmp_path: Path) -> None:
    source = tmp_path / "p.jsonl"
    source.write_text("\n".join(json.dumps({"problem": f"{n}?", "answer": "yes"}) for n in range(60)))
    settings = {
        "problems": str(source),
        "samples": 2,
        "budgets": [20],
        "backend": {"kind": "scripted", "replies": [RIGHT * 3], "delay": 0.1, "concurrency": 64},
    }
    made = recipe.build({"name": "scripted", "teacher": "tiny", "student": "tiny", "generate": settings})
    found = pipeline.forecast(Run(tmp_path / "run"), made, 4, LogLines())
    assert found
    assert found.cut == 1
    assert any("100.0% of the pilot's traces were cut at 20 tokens" in note for note in found.notes)
    assert any("8 requests in flight, the whole may have 64" in note for note in found.notes)
