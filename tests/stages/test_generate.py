"""The generate stage: what a run's log may hold beside what it holds already."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distill.errors import InputError
from distill.models import presets
from distill.models.presets import Teacher
from distill.progress import LogLines
from distill.run import Run
from distill.stages import StageJob, evaluate, filter, generate
from distill.store import jsonl
from distill.types import Trace
from tests.conftest import GOOD, make_job, make_trace
from tests.judge_server import Server, says


@pytest.fixture
def api() -> Iterator[Server]:
    server = Server(says("<think>\n" + GOOD))
    with server.running():
        yield server


def chat(api: Server, **extra: Any) -> dict[str, Any]:
    return {"kind": "chat", "base_url": f"{api.url}/v1", "extra": extra}


def job(folder: Path, backend: dict[str, Any], **config: Any) -> StageJob[generate.Config]:
    return make_job(
        folder,
        generate.Config.model_validate(
            {"problems": "countdown-tiny", "limit": 3, "preflight": False, "backend": backend, **config}
        ),
    )


def traces(folder: Path) -> list[Trace]:
    return list(jsonl.read(Run(folder).traces_file, Trace))


def test_another_effort_is_another_log(api: Server, tmp_path: Path) -> None:
    low = chat(api, reasoning_effort="low")
    assert generate.STAGE.run(job(tmp_path / "low", low)).sampled_now == 3
    assert generate.STAGE.run(job(tmp_path / "low", low)).sampled_now == 0, "the same effort goes on"
    for changed in (chat(api, reasoning_effort="high"), chat(api)):
        with pytest.raises(InputError, match=r"sampled differently \(steering: .*'low'.* → (.*'high'.*|None)\)"):
            generate.STAGE.run(job(tmp_path / "low", changed))
    assert len(traces(tmp_path / "low")) == 3
    assert {body["reasoning_effort"] for body in api.bodies} == {"low"}


def test_traces_record_the_effort_and_rows_without_one_are_as_ever(api: Server, tmp_path: Path) -> None:
    generate.STAGE.run(job(tmp_path / "plain", chat(api)))
    generate.STAGE.run(job(tmp_path / "low", chat(api, reasoning_effort="low")))
    assert [trace.steering for trace in traces(tmp_path / "low")] == 3 * [{"reasoning_effort": "low"}]
    assert all("steering" not in row for _, row in jsonl.rows(Run(tmp_path / "plain").traces_file))
    ids = [{trace.id for trace in traces(tmp_path / name)} for name in ("plain", "low")]
    assert not ids[0] & ids[1]


def test_an_effort_that_joins_a_log_without_one_is_told(api: Server, tmp_path: Path) -> None:
    generate.STAGE.run(job(tmp_path, chat(api)))
    with pytest.raises(InputError, match=r"sampled differently \(steering: None → .*'low'"):
        generate.STAGE.run(job(tmp_path, chat(api, reasoning_effort="low")))


def test_filter_keeps_the_traces_of_both_efforts(api: Server, tmp_path: Path) -> None:
    for effort in ("low", "high"):
        generate.STAGE.run(job(tmp_path / effort, chat(api, reasoning_effort=effort), limit=1))
    sources = [str(tmp_path / "low"), str(tmp_path / "high")]
    config = filter.Config.model_validate({"checks": {"finish": {}}, "traces": sources})
    summary = filter.STAGE.run(make_job(tmp_path / "both", config))
    assert (summary.traces, summary.accepted) == (2, 2)


def test_eval_tells_efforts_apart_in_one_log(api: Server, tmp_path: Path) -> None:
    def measure(effort: str) -> None:
        backend = chat(api, reasoning_effort=effort)
        settings = {"problems": "countdown-tiny", "limit": 2, "models": ["teacher"], "samples": 1, "backend": backend}
        evaluate.STAGE.run(make_job(tmp_path, evaluate.Config.model_validate(settings)))

    for effort in ("low", "high", "high"):
        measure(effort)
    log = list(jsonl.read(Run(tmp_path).eval / "teacher.jsonl", Trace))
    assert [trace.steering for trace in log] == 2 * [{"reasoning_effort": "low"}] + 2 * [{"reasoning_effort": "high"}]
    assert len({trace.id for trace in log}) == 4
    report = (Run(tmp_path).eval / "report.json").read_text()
    assert '"reasoning_effort": "high"' in report


def hub_teacher(revision: str | None, name: str = "qwq-32b") -> Teacher:
    return Teacher(name=name, model="Qwen/QwQ-32B", revision=revision, context=2048)


@pytest.fixture
def logged(tmp_path: Path) -> Run:
    """A run whose traces came from revision `old` of QwQ."""
    run = Run(tmp_path)
    jsonl.write(run.traces_file, [make_trace()])
    run.update(source={"model": "qwq-32b", "revision": "old"})
    return run


def test_a_run_keeps_its_logs_revision_when_only_the_preset_moved_on(
    logged: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="distill"):
        assert generate.logged_model(logged, hub_teacher(None)).revision == "old"
    assert len(caplog.records) == 1
    assert "goes on with revision old of qwq-32b" in caplog.text
    caplog.clear()
    assert generate.logged_model(logged, hub_teacher("old")).revision == "old"
    assert not caplog.records, "nothing differs, so nothing is said"


def test_a_preset_that_is_pinned_later_does_not_change_a_run(logged: Run, tmp_path: Path, pinned: Teacher) -> None:
    assert generate.logged_model(logged, pinned).revision == "old"
    logged.update(source={"model": "qwq-32b", "revision": None})
    assert generate.logged_model(logged, pinned).revision is None
    assert generate.logged_model(Run(tmp_path / "new"), pinned).revision == "pinned", "a new run takes the preset's"


@pytest.fixture
def pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Teacher:
    """The shipped QwQ preset as a later version might ship it."""
    from distill import resources

    shipped = tmp_path / "shipped"
    (shipped / "teachers").mkdir(parents=True)
    text = (resources.folder("recipes") / "teachers" / "qwq-32b.yaml").read_text()
    (shipped / "teachers" / "qwq-32b.yaml").write_text(text + "\nrevision: pinned\n")
    monkeypatch.setattr(resources, "folder", lambda name: shipped if name == "recipes" else tmp_path / name)
    return presets.teacher("qwq-32b")


def test_a_revision_that_the_user_chose_stands(logged: Run) -> None:
    assert generate.logged_model(logged, hub_teacher("mine")).revision == "mine"
    assert generate.logged_model(logged, hub_teacher("mine", name="my-own")).revision == "mine"
    assert generate.logged_model(logged, hub_teacher(None, name="another")).revision is None, "another model's log"


def test_eval_too_goes_on_with_the_revision_of_the_attempts_that_are_there(tmp_path: Path, pinned: Teacher) -> None:
    student = presets.Student(name="s", model="org/s", context=2048)
    config = evaluate.Config(models=("teacher",))
    task = StageJob(run=Run(tmp_path), config=config, teacher=pinned, student=student, progress=LogLines())
    model = presets.as_model(pinned)
    log = task.run.eval / "teacher.jsonl"
    assert evaluate.logged_model(task, "teacher", model, log).revision == "pinned", "nothing is there yet"
    jsonl.write(
        log, [make_trace(model="qwq-32b", revision="older"), make_trace("more", model="qwq-32b", revision="old")]
    )
    assert evaluate.logged_model(task, "teacher", model, log).revision == "old"
    mine = replace(task, teacher=pinned.model_copy(update={"revision": "mine"}))
    assert evaluate.logged_model(mine, "teacher", presets.as_model(mine.teacher), log).revision == "mine"


def test_a_shipped_preset_that_is_pinned_later_makes_no_stage_stale(pinned: Teacher) -> None:
    before = pinned.model_copy(update={"revision": None})
    assert presets.identity_of("teacher", pinned)["weights"] == "Qwen/QwQ-32B"
    assert presets.identity_of("teacher", before) == presets.identity_of("teacher", pinned)
    mine = pinned.model_copy(update={"revision": "mine"})
    assert presets.identity_of("teacher", mine)["weights"] == "Qwen/QwQ-32B@mine"
