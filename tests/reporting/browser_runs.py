"""Run folders for the trace browser's tests, and what a page holds, unpacked again."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from distill.reporting.browser.trace_browser import Browser
from distill.run import Run, write_json
from distill.store import jsonl
from distill.types import Problem, Trace, Verdict
from tests.conftest import make_problem, make_trace

Said = dict[str, str]
"""Reason of each check; empty where it passed, `?…` where it is undecidable."""


def verdicts(trace: Trace, said: Said, kept: bool = True) -> list[Verdict]:
    """As the filter writes them: one of each check, and the decision."""
    rows = [
        Verdict(trace_id=trace.id, check=check, passed=None if why[:1] == "?" else not why, reason=why.lstrip("?"))
        for check, why in said.items()
    ]
    bad = [row for row in rows if row.passed is False] or [row for row in rows if row.passed is None]
    first = f"{bad[0].check}:{bad[0].reason}" if bad else "" if kept else "not_selected"
    passed = bad[0].passed if bad else kept
    return [*rows, Verdict(trace_id=trace.id, check="decision", passed=passed, reason=first)]


def write_run(
    folder: Path, problems: Sequence[Problem], judged: Iterable[tuple[Trace, Said | None]], **recipe: Any
) -> Run:
    """A run folder; a trace without `Said` was not judged."""
    run = Run(folder)
    pairs = list(judged)
    jsonl.write(run.problems, problems)
    jsonl.write(run.traces_file, [trace for trace, _ in pairs])
    jsonl.write(run.verdicts_file, [row for trace, said in pairs if said is not None for row in verdicts(trace, said)])
    write_json(run.json, {"recipe": {"name": "test", **recipe}})
    return run


def many(count: int, folder: Path, backwards: bool = False) -> Run:
    """Traces of 50 problems of two sets: most kept, some rejected for four reasons, `rare` only ever the second one."""
    asked = [make_problem(f"What is {n} + {n}?", answer=str(2 * n)) for n in range(50)]
    asked = [problem.model_copy(update={"set": "odd" if n % 2 else "even"}) for n, problem in enumerate(asked)]

    def one(n: int) -> tuple[Trace, Said]:
        said = {"correct": "wrong_value" if n % 10 == 3 else "", "length": "too_long" if n % 25 == 7 else ""}
        said["language"] = "?no_words" if n % 100 == 41 else "foreign_script" if n % 200 == 99 else ""
        said["repetition"] = "rare" if n == 13 else ""
        problem = asked[n % 50]
        text = f"{n} it is.\n</think>\n\n<answer>{n}</answer>"
        return make_trace(text, problem_id=problem.id, sample=n // 50), said

    order = range(count - 1, -1, -1) if backwards else range(count)
    return write_run(folder, asked, map(one, order))


def unpack(made: Browser) -> tuple[dict[str, Any], list[list[Any]]]:
    """The index and all rows of a page."""
    text = "".join(made.data)
    element = r'<script type="application/octet-stream" id="traces-(\w+)">([\w+/=]*)</script>\n'
    found = dict(re.findall(element, str(made.html) + text))
    opened = {id: zlib.decompress(base64.b64decode(packed)) for id, packed in found.items()}
    assert re.sub(element, "", text) == ""
    index: dict[str, Any] = json.loads(opened.pop("index"))
    chunks = [opened[str(number)].decode().split("\n") for number in range(len(opened))]
    starts = [sum(map(len, chunks[:number])) for number in range(len(chunks))]
    assert index["starts"] == starts
    return index, [_row(*map(json.loads, line.split("\t"))) for chunk in chunks for line in chunk]


def _row(texts: list[str], rest: list[Any]) -> list[Any]:
    """Problem, gold, final answer, parts of the completion, verdicts, facts, hidden."""
    roles, there, *others = rest
    gold, final, *parts = [
        text if is_there else None for text, is_there in zip(texts[len(roles) :], there, strict=True)
    ]
    problem = [[role, text] for role, text in zip(roles, texts, strict=False)]
    return [problem, gold, final, parts, *others]
