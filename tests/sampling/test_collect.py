"""The sampling loop on the scripted backend: nothing lost, nothing twice, content decides identity."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from distill.backends import ChosenBackend
from distill.errors import BackendError, InputError, RunError
from distill.models import presets
from distill.problems import sets
from distill.progress import LogLines
from distill.sampling import (
    Logs,
    RefusedAttempt,
    SamplingJob,
    StoppingRule,
    Tally,
    choose_backend,
    collect,
    serve_command,
)
from distill.store import jsonl
from distill.types import Sampling, Trace

REPLY = "Try 3 * 7 = 21.\n</think>\n\n<answer>1</answer>"


def wanted(count: int = 5, samples: int = 2, **changes: Any) -> SamplingJob:
    fields: dict[str, Any] = {
        "problems": list(sets.load("countdown-tiny", "train", count)),
        "model": presets.as_model(presets.teacher("tiny")),
        "sampling": Sampling(temperature=0.6, top_p=0.95, max_tokens=300),
        "rule": StoppingRule(samples=samples),
        "seed": 0,
        "backend": {"kind": "scripted", "replies": [REPLY, "no end"]},
    }
    fields |= changes
    return SamplingJob(**fields | {"backend": ChosenBackend.of(fields["backend"])})


def sample(folder: Path, what: SamplingJob) -> Tally:
    return collect(what, Logs(folder / "traces.jsonl", folder / "failures.jsonl"), LogLines(), "test")


def traces(folder: Path) -> list[Trace]:
    return list(jsonl.read(folder / "traces.jsonl", Trace))


def test_every_attempt_once_with_its_provenance(tmp_path: Path) -> None:
    what = wanted()
    tally = sample(tmp_path, what)
    found = traces(tmp_path)
    assert tally.replies == len(found) == 10
    assert len({trace.id for trace in found}) == 10
    assert {(t.problem_id, t.sample) for t in found} == {(p.id, s) for p in what.problems for s in (0, 1)}
    for trace in found:
        assert trace.prefill == "<think>\n"
        assert trace.revision == what.model.revision
        assert trace.segments[0].end == len(trace.completion)
        assert trace.usage.completion == trace.segments[0].tokens
        if trace.completion == REPLY:
            assert trace.reasoning == "Try 3 * 7 = 21.\n"
            assert trace.answer == "\n\n<answer>1</answer>"
            assert trace.usage.answer > 0
        else:
            assert trace.answer is None


def test_a_second_call_does_nothing_and_more_samples_add_only_what_is_missing(tmp_path: Path) -> None:
    sample(tmp_path, wanted())
    again = sample(tmp_path, wanted(backend={"kind": "scripted", "fail_first": 10**9}))
    assert (again.logged_traces, again.replies) == (10, 0), "no engine is even started"
    more = sample(tmp_path, wanted(samples=3))
    assert (more.logged_traces, more.replies) == (10, 5)


def test_reordered_shortened_and_extended_problems_match_by_content(tmp_path: Path) -> None:
    sample(tmp_path, wanted(5))
    longer = wanted(8)
    random.Random(0).shuffle(longer.problems)  # type: ignore[arg-type]
    assert sample(tmp_path, longer).replies == 6
    assert sample(tmp_path, wanted(2)).logged_traces == 4


def test_another_sampling_or_model_is_another_trace_but_a_budget_is_not(tmp_path: Path) -> None:
    sample(tmp_path, wanted())
    assert sample(tmp_path, wanted(sampling=Sampling(temperature=0.6, top_p=0.95, max_tokens=99))).replies == 0
    assert sample(tmp_path, wanted(sampling=Sampling(temperature=0.7, top_p=0.95, max_tokens=300))).replies == 10
    other = presets.as_model(presets.teacher("tiny")).model_copy(update={"revision": "other"})
    assert sample(tmp_path, wanted(model=other)).replies == 10


def test_the_same_attempt_gets_the_same_reply_in_any_order(tmp_path: Path) -> None:
    sample(tmp_path / "a", wanted(6))
    backwards = wanted(6)
    backwards.problems.reverse()  # type: ignore[attr-defined]
    sample(tmp_path / "b", backwards)
    assert {t.id: t.completion for t in traces(tmp_path / "a")} == {t.id: t.completion for t in traces(tmp_path / "b")}


def test_refused_requests_are_recorded_and_the_rest_goes_on(tmp_path: Path) -> None:
    rows = tmp_path / "p.jsonl"
    long = "word " * 3000
    rows.write_text(f'{{"problem": "{long}", "answer": "1"}}\n{{"problem": "short", "answer": "1"}}\n')
    what = wanted(problems=list(sets.load(str(rows), "train")))
    tally = sample(tmp_path, what)
    assert (tally.replies, tally.refused) == (2, 2)
    assert len(list(jsonl.read(tmp_path / "failures.jsonl", RefusedAttempt))) == 2
    with pytest.raises(RunError, match="refused all 2 requests"):
        sample(tmp_path / "only", wanted(problems=what.problems[:1]))


def test_a_failing_engine_keeps_what_was_finished(tmp_path: Path) -> None:
    with pytest.raises(BackendError):
        sample(tmp_path, wanted(backend={"kind": "scripted", "fail_first": 1, "replies": [REPLY]}))
    assert sample(tmp_path, wanted()).replies + len(traces(tmp_path)) >= 10
    assert len({t.id for t in traces(tmp_path)}) == len(traces(tmp_path)) == 10


def test_choose_says_how_to_serve_a_teacher_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.machine.hardware.gpus", lambda: 0)
    big = presets.as_model(presets.teacher("deepseek-r1"))
    with pytest.raises(
        InputError, match=r"needs GPUs \(8 × H200[\s\S]*vllm serve deepseek-ai/DeepSeek-R1[\s\S]*--endpoint"
    ):
        choose_backend(ChosenBackend.of({"kind": "auto"}), big, "8 × H200")
    assert choose_backend(ChosenBackend.of({"endpoints": ["http://h:1"]}), big).kind == "vllm"
    small = presets.as_model(presets.teacher("tiny"))
    assert choose_backend(ChosenBackend.of({"kind": "auto"}), small).kind in ("vllm", "transformers")
    assert "--enable-expert-parallel" in serve_command(big)
