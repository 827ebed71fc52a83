"""The trace browser of a report: every trace, or a stated sample, to search and read without a server.

Traces are packed beside the page (packed.py) and opened by its script when they are needed; the index with what the
list shows and filters by is small and opened first. The script (the .js files here, put together) makes every element
by hand and sets text as text, so nothing that a model wrote is ever markup.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from markupsafe import Markup

from distill.models import chat
from distill.problems import sets
from distill.progress import Progress
from distill.reporting.browser.packed import Packed, element
from distill.reporting.browser.trace_sample import EXAMPLES, FLOOR, Catalogue, Excerpt, Group, reasons
from distill.run import Run
from distill.store import jsonl
from distill.types import Problem, Trace

_HERE = Path(__file__).parent
_SCRIPTS = ("text", "formula", "store", "trace", "filters", "list")
"""In the order in which they are put together: each uses what stands before it."""
_GROUPS = 200
"""Rows of the table that says what was drawn."""
_SHORT = 90
"""Characters of a problem or a final answer in the list."""
_NAMED = ("decision", "reasons", "problem", "set", "finish", "model")
_COLUMNS = ("id", "run", "correct", "sample", "reasoning", "answer", "final", *_NAMED)


@dataclass(frozen=True)
class Browser:
    """The parts of a page that make up the browser."""

    html: Markup
    """`<section id="traces">`, and the index in a script element that is never run."""
    style: str
    """Uses the page's variables --fg, --bg, --muted, --line, --accent, --good and --bad."""
    script: str
    """A JavaScript module that needs nothing else. As `<script type="module" async>` before `data` it has the list
    ready while a large page is still coming in."""
    data: Iterable[str]
    """Script elements that hold the traces and are never run, in pieces of about a megabyte: write them one by one."""


def browser(runs: Sequence[Run], most: int, progress: Progress) -> Browser:
    """Read the runs' traces, problems and verdicts and pack at most `most` traces.

    What teachers wrote is shown (traces.jsonl, or those of the runs that the filter read); evaluation's generations are
    not, for their problems are not in the run folder. Of sets that are private neither question nor text is shown.

    Raises:
        InputError: a log cannot be read.
    """
    packed = Packed("traces")
    with Catalogue(runs) as catalogue:
        catalogue.read(progress)
        groups = catalogue.choose(most)
        index = _Index()
        progress.start("pack traces", min(most, catalogue.total), unit="traces")
        for excerpt in catalogue:
            packed.add(*index.add(excerpt))
            progress.advance()
        progress.stop()
        known = index.packed(labels(runs), catalogue, packed.end())
        html = _html(labels(runs), catalogue, groups, index.private) + _element("traces-index", known)
    style = (_HERE / "browser.css").read_text(encoding="utf-8")
    script = "".join((_HERE / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS)
    return Browser(html=html, style=style, script=script, data=packed)


class _Index:
    """What the list shows and filters by, by column; `add` returns the rest of a trace, its row."""

    def __init__(self) -> None:
        self.private = 0
        self.columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
        self.names: dict[str, dict[str, int]] = {name: {} for name in _NAMED}
        self._questions: list[str] = []
        """Of each problem, in the order of its number, as much as the list shows."""

    def add(self, excerpt: Excerpt) -> tuple[list[str], list[Any]]:
        """The texts of a trace (the problem's turns, gold answer, final answer, the completion's four parts), and the
        rest: roles of the turns, which of the other texts there are, verdicts, facts, whether it is private.
        """
        trace = Trace.model_validate_json(_line(excerpt.trace))
        problem = Problem.model_validate_json(_line(excerpt.problem)) if excerpt.problem else None
        verdicts = [orjson.loads(line) for _, line in jsonl.lines(excerpt.verdicts)] if excerpt.verdicts else []
        hidden = problem is not None and private(problem)
        final = None if hidden or trace.answer is None else chat.final_answer(trace.answer)
        self.private += hidden
        self._list(excerpt, trace, None if hidden else problem, problem.set if problem else "", final, verdicts)
        told = ("check", "passed", "reason", "score", "" if hidden else "detail")  # a detail may quote the answer
        shown = None if hidden else problem
        parts = [None] * 4 if hidden else _parts(trace)
        others = [_text(shown.answer) if shown else None, final, *parts]
        turns = shown.messages if shown else ()
        texts = [*(turn.content for turn in turns), *(text or "" for text in others)]
        said = [[verdict.get(name) for name in told] for verdict in verdicts]
        there = [text is not None for text in others]
        return texts, [[turn.role for turn in turns], there, said, _facts(trace, problem), hidden]

    def _list(
        self,
        excerpt: Excerpt,
        trace: Trace,
        problem: Problem | None,
        family: str,
        final: str | None,
        verdicts: list[dict[str, Any]],
    ) -> None:
        number = self._number("problem", trace.problem_id)
        if number == len(self._questions):
            self._questions.append(_short(problem.messages[-1].content) if problem else "")
        row: dict[str, Any] = {
            "id": trace.id,
            "run": excerpt.run,
            "decision": self._number("decision", excerpt.decision),
            "reasons": [self._number("reasons", name) for name in reasons(verdicts)],
            "correct": excerpt.correct,
            "problem": number,
            "set": self._number("set", family),
            "finish": self._number("finish", trace.finish),
            "model": self._number("model", trace.model),
            "sample": trace.sample,
            "reasoning": trace.usage.reasoning,
            "answer": trace.usage.answer,
            "final": _short(final or ""),
        }
        for name, value in row.items():
            self.columns[name].append(value)

    def _number(self, kind: str, name: str) -> int:
        known = self.names[kind]
        return known.setdefault(name, len(known))

    def packed(self, labels: Sequence[str], catalogue: Catalogue, starts: list[int]) -> dict[str, Any]:
        """What the script finds in the element `traces-index`."""
        totals = Counter[str]()
        for counts in catalogue.reasons:
            totals.update(counts)
        return {
            "total": catalogue.total,
            "starts": starts,
            "columns": self.columns,
            "names": {name: list(known) for name, known in self.names.items()} | {"run": list(labels)},
            "questions": self._questions,
            "totals": [totals.get(name) for name in self.names["reasons"]],
        }


def _element(id: str, content: dict[str, Any]) -> Markup:
    return Markup(element(id, orjson.dumps(content)))  # noqa: S704 - base64


def labels(runs: Sequence[Run]) -> list[str]:
    """Names of the runs: their folders', with as much of the path before it as tells them apart."""
    paths = [run.folder.resolve().parts for run in runs]
    for depth in range(1, max(map(len, paths), default=0) + 1):
        found = ["/".join(parts[-depth:]) for parts in paths]
        if len(set(found)) == len(set(paths)):
            return found
    return [str(run.folder) for run in runs]


def private(problem: Problem) -> bool:
    """Whether its authors ask that it is not published (problems.py): a report is made to be passed on."""
    return bool(problem.metadata.get("private")) or _private(problem.set)


@cache
def _private(name: str) -> bool:
    return name in sets.known() and sets.find(name)[0].private


def _line(place: tuple[Path, int]) -> bytes:
    return jsonl.line_at(str(place[0]), place[1])


def _text(answer: Any) -> str | None:
    return answer if isinstance(answer, str) or answer is None else orjson.dumps(answer).decode()


def _short(text: str) -> str:
    line = " ".join(text[: 4 * _SHORT].split())
    return line if len(line) <= _SHORT else line[: _SHORT - 1] + "…"


def _parts(trace: Trace) -> list[str | None]:
    """The completion cut at its spans: what is before the reasoning, the reasoning, what is between, the answer."""
    text, thought, answer = trace.completion, trace.reasoning_span, trace.answer_span
    if thought is None and answer is None:
        return [text, None, "", None]
    begin, end = thought or (0, 0)
    return [text[:begin], trace.reasoning, text[end : answer[0] if answer else None], trace.answer]


def _facts(trace: Trace, problem: Problem | None) -> dict[str, str]:
    """What else there is to know, heading to text; endpoints are left out, for they name machines."""
    sampling = trace.sampling
    settings = [f"temperature {sampling.temperature}", f"top-p {sampling.top_p}"]
    settings += [f"top-k {sampling.top_k}"] if sampling.top_k else []
    tokens = f"{trace.usage.prompt:,} tokens, " if trace.usage.prompt else ""  # imported traces come without
    found = {
        "Model": f"{trace.model} @ {trace.revision}" if trace.revision else trace.model,
        "Sampling": ", ".join([*settings, f"at most {sampling.max_tokens:,} tokens"]),
        "Engine": trace.engine,
        "Sample": str(trace.sample),
        "Requests": str(len(trace.segments)),
        "Seconds": f"{sum(segment.seconds for segment in trace.segments):.1f}",
        "Prompt": f"{tokens}hash {trace.prompt_hash}",
        "Source": " ".join(filter(None, (trace.source, trace.source_id))),
        "Set": problem.set if problem else "",
        "Verifier": str(problem.verifier.get("kind", "")) if problem else "",
        "Licence": (problem.licence or "") if problem else "",
    }
    return {name: text for name, text in found.items() if text}


def _html(names: Sequence[str], catalogue: Catalogue, groups: list[Group], hidden: int) -> Markup:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    shown = sum(group.drawn for group in groups)
    facts = {
        "total": catalogue.total,
        "shown": shown,
        "groups": groups[:_GROUPS] if shown < catalogue.total else [],
        "more": len(groups) - _GROUPS,
        "runs": names,
        "missing": catalogue.missing,
        "hidden": hidden,
        "floor": FLOOR,
        "examples": EXAMPLES,
    }
    return Markup(environment.get_template("browser.html").render(facts))  # noqa: S704 - the template escapes
