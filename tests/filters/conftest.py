from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from distill.filters import Context
from distill.models.reasoning import Tags, split
from distill.types import Message, Problem, Sampling, Trace, Usage

Make = Callable[..., Trace]


@pytest.fixture(scope="session")
def make_trace() -> Make:
    def make(completion: str, *, prefill: str = "", finish: Any = "stop", tags: Tags | None = None) -> Trace:
        spans = split(completion, prefill, tags or Tags())
        return Trace(
            id="trace",
            problem_id="problem",
            sample=0,
            model="model",
            revision=None,
            template="",
            sampling=Sampling(),
            prompt_hash="",
            prefill=prefill,
            completion=completion,
            reasoning_span=spans.reasoning,
            answer_span=spans.answer,
            finish=finish,
            usage=Usage(prompt=1, reasoning=2, answer=3),
            engine="",
            segments=(),
        )

    return make


@pytest.fixture(scope="session")
def make_problem() -> Callable[..., Problem]:
    def make(question: str = "?", **fields: Any) -> Problem:
        return Problem.make((Message(role="user", content=question),), **fields)

    return make


@pytest.fixture(scope="session")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """A context whose student counts characters as tokens, and whose benchmark is one problem."""
    folder = tmp_path_factory.mktemp("student")
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    (folder / "exam.jsonl").write_text(json.dumps({"problem": "How many legs have 13 lions?", "answer": "52"}) + "\n")
    return Context(student=str(folder), benchmarks=(str(folder / "exam.jsonl"),))


@pytest.fixture(scope="session")
def shared() -> Callable[[str], list[dict[str, Any]]]:
    folder = Path(os.environ.get("DISTILL_SHARED_DATA", Path(__file__).parents[2] / "../shared/data"))

    def read(name: str) -> list[dict[str, Any]]:
        if not (folder / name).is_file():
            pytest.skip(f"no {name} in {folder} (set DISTILL_SHARED_DATA)")
        return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]

    return read
