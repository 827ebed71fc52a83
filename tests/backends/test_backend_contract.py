"""What holds of every backend, shipped or one's own: one class says all that it may offer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from distill import plugins
from distill.backends import Backend, ChosenBackend
from distill.errors import InputError
from distill.models import presets
from distill.models.model import Model
from distill.problems import sets
from distill.progress import LogLines
from distill.sampling import Logs, SamplingJob, StoppingRule, collect
from distill.store import jsonl
from distill.types import Sampling, Trace

KINDS = plugins.names("backends")
SETTINGS: dict[str, dict[str, Any]] = {
    "chat": {"base_url": "http://127.0.0.1:9/v1"},
    "scripted": {"replies": ["4"]},
    "transformers": {},
    "vllm": {"endpoints": ["http://127.0.0.1:9"]},
}
MINE = """
from distill.backends import Backend
from distill.models.request import Completion
from distill.types import Record


class Config(Record):
    reply: str = "so\\n</think>\\n\\n4"


class Mine(Backend):
    def __init__(self, reply):
        self.reply = reply

    async def open(self):
        pass

    async def complete(self, request):
        return Completion(
            text=self.reply, tokens=3, finish="stop", seed=request.seed, endpoint="here", seconds=0.0
        )

    async def close(self):
        pass


def build(config, model, log):
    return Mine(config.reply)
"""


def test_every_kind_has_settings_here() -> None:
    assert set(SETTINGS) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_backend_answers_all_that_is_asked_of_it_before_it_is_opened(kind: str, tmp_path: Path) -> None:
    model = Model(name="m", path="nowhere", context=64)
    backend = ChosenBackend.of({"kind": kind, **SETTINGS[kind]}).build(model, tmp_path)
    assert isinstance(backend, Backend)
    assert backend.concurrency >= 1
    assert 0 <= backend.limit <= backend.concurrency
    assert backend.engine
    assert isinstance(backend.takes_ids, bool)
    assert isinstance(backend.is_remote, bool)
    assert backend.timeout is None or backend.timeout > 0
    assert backend.journal is None
    assert dict(backend.steering) == {}, "the defaults steer nothing, so that they are in no id"
    assert all(isinstance(name, str) for name in backend.status())


@pytest.mark.parametrize("kind", KINDS)
def test_a_backend_that_was_never_opened_can_be_closed_and_another_is_a_new_one(kind: str, tmp_path: Path) -> None:
    options = {"kind": kind, **SETTINGS[kind]}
    model = Model(name="m", path="nowhere", context=64)
    backend = ChosenBackend.of(options).build(model, tmp_path)
    asyncio.run(backend.close())
    assert ChosenBackend.of(options).build(model, tmp_path) is not backend


def test_a_file_of_ones_own_needs_three_methods(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    job = SamplingJob(
        problems=list(sets.load("countdown-tiny", "train", 3)),
        model=presets.as_model(presets.teacher("tiny")),
        sampling=Sampling(max_tokens=300),
        rule=StoppingRule(samples=2),
        seed=0,
        backend=ChosenBackend.of({"kind": str(tmp_path / "mine.py")}),
        preflight=True,
    )
    logs = Logs(tmp_path / "traces.jsonl", tmp_path / "failures.jsonl", replies=tmp_path / "replies.jsonl")
    assert collect(job, logs, LogLines(), "test").replies == 6
    traces = list(jsonl.read(logs.traces, Trace))
    assert {trace.answer for trace in traces} == {"\n\n4"}
    assert {trace.engine for trace in traces} == {"a backend of one's own"}


def test_a_file_that_builds_something_else_is_told_what_to_derive_from(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(MINE.replace("(Backend)", ""))
    with pytest.raises(InputError, match=r"(?s)mine\.py.*gives a Mine.*no Backend.*distill\.backends\.Backend"):
        ChosenBackend.of({"kind": str(path)}).build(Model(name="m", path="nowhere", context=64), tmp_path)


def test_a_chat_api_says_what_it_adds_to_a_request(tmp_path: Path) -> None:
    options = {"kind": "chat", **SETTINGS["chat"], "extra": {"reasoning_effort": "low"}}
    model = Model(name="m", path="nowhere", context=64)
    assert ChosenBackend.of(options).build(model, tmp_path).steering == {"reasoning_effort": "low"}
