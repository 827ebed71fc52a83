"""Shared fixtures: the tiny world, and records made in one line."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from hypothesis import settings

from distill import resources
from distill.models.reasoning import Tags, split
from distill.types import Message, Problem, Record, Sampling, Segment, Trace, Usage, content_id

if TYPE_CHECKING:
    from distill.stages import StageJob

C = TypeVar("C", bound=Record)

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# a shell that starts something in the background has it ignore Ctrl-C, and so would all that tests start
signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile(
    "busy", deadline=None, max_examples=50
)  # how long an example takes says nothing on a busy machine
settings.load_profile("busy")


@pytest.fixture(scope="session")
def tiny() -> Path:
    """data/tiny, with teacher/, base/, train.jsonl and test.jsonl."""
    return resources.folder("data") / "tiny"


def make_problem(text: str = "Using the numbers 3, 7, 8, make 29.", **fields: Any) -> Problem:
    fields.setdefault("answer", {"target": 29, "numbers": [3, 7, 8]})
    fields.setdefault("verifier", {"kind": "countdown"})
    return Problem.make((Message(role="user", content=text),), set="test", **fields)


GOOD = "Try 3 * 7 = 21, 21 + 8 = 29. That is 29.\n</think>\n\n<answer>(3 * 7) + 8</answer>"


def make_trace(completion: str = GOOD, prefill: str = "<think>\n", **fields: Any) -> Trace:
    """A trace of `make_problem()` whose spans follow from the completion."""
    spans = split(completion, prefill, Tags())
    base: dict[str, Any] = {
        "id": content_id(completion, fields),
        "problem_id": make_problem().id,
        "sample": 0,
        "model": "m",
        "revision": None,
        "template": "t",
        "sampling": Sampling(),
        "prompt_hash": "h",
        "prefill": prefill,
        "completion": completion,
        "reasoning_span": spans.reasoning,
        "answer_span": spans.answer,
        "finish": "stop",
        "usage": Usage(prompt=10, reasoning=5, answer=5),
        "engine": "e",
        "segments": (Segment(end=len(completion), tokens=10, finish="stop", seed=1, endpoint="x", seconds=0.1),),
    }
    return Trace(**{**base, **fields})


def make_job(folder: Path, config: C) -> StageJob[C]:
    """A stage's job on the tiny models."""
    from distill.models import presets
    from distill.progress import LogLines
    from distill.run import Run
    from distill.stages import StageJob

    teacher, student = presets.teacher("tiny"), presets.student("tiny")
    return StageJob(run=Run(folder), config=config, teacher=teacher, student=student, progress=LogLines())


@pytest.fixture
def scripted_recipe(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """A recipe (plain data) whose teacher is the scripted backend: every reply is one of those given."""

    def build(replies: list[str], problems: int = 6, **changes: Any) -> dict[str, Any]:
        recipe: dict[str, Any] = {
            "name": "scripted",
            "teacher": "tiny",
            "student": "tiny",
            "generate": {"limit": problems, "samples": 2, "backend": {"kind": "scripted", "replies": replies}},
            "filter": {"checks": {"finish": {}, "format": {}}},
        }
        recipe.update(changes)
        return recipe

    return build
