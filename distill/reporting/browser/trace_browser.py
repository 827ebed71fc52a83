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

import orjson
from markupsafe import Markup

from distill.answers import marked
from distill.problems import sets
from distill.progress import Progress
from distill.reporting.browser.group_sizes import MIN_PER_GROUP
from distill.reporting.browser.packed import Packed, script_element
from distill.reporting.browser.trace_sample import (
    EXAMPLES_PER_REASON,
    Catalogue,
    Excerpt,
    Group,
    VerdictRow,
    reasons_against,
)
from distill.run import Run
from distill.store import jsonl
from distill.types import Message, Problem, Trace

_HERE = Path(__file__).parent
_SCRIPTS = ("text", "formula", "store", "trace", "filters", "list")
"""In the order in which they are put together: each uses what stands before it."""
_MAX_GROUPS = 200
"""Rows of the table that says what was drawn."""
_SUMMARY_LENGTH = 90
"""Characters of a problem or a final answer in the list."""
_NAMED_COLUMNS = ("decision", "reasons", "problem", "set", "finish", "model")
_COLUMNS = ("id", "run", "correct", "sample", "reasoning", "answer", "final", *_NAMED_COLUMNS)


@dataclass(frozen=True)
class Browser:
    """The parts of a page that are its trace browser."""

    html: Markup
    """`<section id="traces">`, and the index in a script element that is never run."""
    style: str
    """A style sheet that uses the page's variables --fg, --bg, --muted, --line, --accent, --good and --bad."""
    script: str
    """A JavaScript module that needs nothing else. As `<script type="module" async>` before `data` it has the list
    ready while a large page is still coming in."""
    data: Iterable[str]
    """Script elements that hold the traces and are never run, in pieces of about a megabyte: write them one by one."""


def pack_browser(runs: Sequence[Run], max_traces: int, progress: Progress) -> Browser:
    """Read the runs' traces, problems and verdicts and pack at most `max_traces` traces.

    What teachers wrote is shown (traces.jsonl, or those of the runs that the filter read); evaluation's generations are
    not, for their problems are not in the run folder. Of sets that are private neither question nor text is shown.

    Raises:
        InputError: a log cannot be read.
    """
    packed = Packed("traces")
    with Catalogue(runs) as catalogue:
        catalogue.read(progress)
        groups = catalogue.choose(max_traces)
        index = _Index()
        progress.start("pack traces", min(max_traces, catalogue.trace_count), unit="traces")
        for excerpt in catalogue:
            packed.add(*index.add(excerpt))
            progress.advance()
        progress.stop()
        index_content = index.packed(run_labels(runs), catalogue, packed.end())
        html = _render_html(run_labels(runs), catalogue, groups, index.private_count) + _script_element(
            "traces-index", index_content
        )
    style = (_HERE / "browser.css").read_text(encoding="utf-8")
    script = "".join((_HERE / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS)
    return Browser(html=html, style=style, script=script, data=packed)


class _Index:
    """The columns of what the list shows and filters by."""

    def __init__(self) -> None:
        self.private_count = 0
        self.columns: dict[str, list[object]] = {name: [] for name in _COLUMNS}
        self.names: dict[str, dict[str, int]] = {name: {} for name in _NAMED_COLUMNS}
        self._questions: list[str] = []
        """As much of each problem as the list shows, in the order of the problems' numbers."""

    def add(self, excerpt: Excerpt) -> tuple[list[str], list[object]]:
        """Note a trace for the list, and return its texts and the rest of it.

        The texts are the problem's turns, gold answer, final answer and the completion's four parts; the rest: roles
        of the turns, which of the other texts there are, verdicts, facts, whether it is private.
        """
        trace = Trace.model_validate_json(_line_at(excerpt.trace_location))
        problem = None
        if excerpt.problem_location:
            problem = Problem.model_validate_json(_line_at(excerpt.problem_location))
        verdicts: list[VerdictRow] = []
        if excerpt.verdicts:
            verdicts = [orjson.loads(line) for _, line in jsonl.lines(excerpt.verdicts)]
        hidden = problem is not None and is_private(problem)
        gold = None
        final = None
        parts: list[str | None] = [None] * 4
        turns: Sequence[Message] = ()
        if not hidden:
            parts = _completion_parts(trace)
            if trace.answer is not None:
                final = marked.final_answer(trace.answer)
            if problem:
                gold = _answer_text(problem.answer)
                turns = problem.messages
        self.private_count += hidden
        question = turns[-1].content if turns else ""
        self._append_row(excerpt, trace, question, problem.set if problem else "", final, verdicts)
        optional_texts = [gold, final, *parts]
        texts = [*(turn.content for turn in turns), *(text or "" for text in optional_texts)]
        detail_field = "" if hidden else "detail"  # a detail may quote the answer
        verdict_fields = ("check", "passed", "reason", "score", detail_field)
        verdict_rows = [[verdict.get(name) for name in verdict_fields] for verdict in verdicts]
        is_present = [text is not None for text in optional_texts]
        return texts, [[turn.role for turn in turns], is_present, verdict_rows, _facts(trace, problem), hidden]

    def _append_row(
        self,
        excerpt: Excerpt,
        trace: Trace,
        question: str,
        set_name: str,
        final: str | None,
        verdicts: Sequence[VerdictRow],
    ) -> None:
        problem_number = self._number("problem", trace.problem_id)
        if problem_number == len(self._questions):
            self._questions.append(_shortened(question))
        row: dict[str, object] = {
            "id": trace.id,
            "run": excerpt.run,
            "decision": self._number("decision", excerpt.decision),
            "reasons": [self._number("reasons", name) for name in reasons_against(verdicts)],
            "correct": excerpt.correct,
            "problem": problem_number,
            "set": self._number("set", set_name),
            "finish": self._number("finish", trace.finish),
            "model": self._number("model", trace.model),
            "sample": trace.sample,
            "reasoning": trace.usage.reasoning,
            "answer": trace.usage.answer,
            "final": _shortened(final or ""),
        }
        for name, value in row.items():
            self.columns[name].append(value)

    def _number(self, kind: str, name: str) -> int:
        numbers = self.names[kind]
        return numbers.setdefault(name, len(numbers))

    def packed(self, labels: Sequence[str], catalogue: Catalogue, starts: list[int]) -> dict[str, object]:
        """What the script finds in the element `traces-index`."""
        totals = Counter[str]()
        for counts in catalogue.reason_counts:
            totals.update(counts)
        return {
            "total": catalogue.trace_count,
            "starts": starts,
            "columns": self.columns,
            "names": {name: list(numbers) for name, numbers in self.names.items()} | {"run": list(labels)},
            "questions": self._questions,
            "totals": [totals.get(name) for name in self.names["reasons"]],
        }


def _script_element(id: str, content: dict[str, object]) -> Markup:
    return Markup(script_element(id, orjson.dumps(content)))  # noqa: S704 - base64


def run_labels(runs: Sequence[Run]) -> list[str]:
    """Names of the runs: their folders', with as much of the path before it as tells them apart."""
    paths = [run.folder.resolve().parts for run in runs]
    for depth in range(1, max(map(len, paths), default=0) + 1):
        candidates = ["/".join(parts[-depth:]) for parts in paths]
        if len(set(candidates)) == len(set(paths)):
            return candidates
    return [str(run.folder) for run in runs]


def is_private(problem: Problem) -> bool:
    """Whether its authors ask that it is not published (`ProblemSet.private`): a report is made to be passed on."""
    return bool(problem.metadata.get("private")) or _is_private_set(problem.set)


@cache
def _is_private_set(name: str) -> bool:
    return name in sets.shipped_sets() and sets.find(name)[0].private


def _line_at(location: tuple[Path, int]) -> bytes:
    return jsonl.line_at(str(location[0]), location[1])


def _answer_text(answer: object) -> str | None:
    if answer is None or isinstance(answer, str):
        return answer
    return orjson.dumps(answer).decode()


def _shortened(text: str) -> str:
    line = " ".join(text[: 4 * _SUMMARY_LENGTH].split())
    return line if len(line) <= _SUMMARY_LENGTH else line[: _SUMMARY_LENGTH - 1] + "…"


def _completion_parts(trace: Trace) -> list[str | None]:
    """The completion cut at its spans: what is before the reasoning, the reasoning, what is between, the answer."""
    text = trace.completion
    reasoning_span = trace.reasoning_span
    answer_span = trace.answer_span
    if reasoning_span is None and answer_span is None:
        return [text, None, "", None]
    begin, end = reasoning_span or (0, 0)
    answer_begin = answer_span[0] if answer_span else None
    return [text[:begin], trace.reasoning, text[end:answer_begin], trace.answer]


def _facts(trace: Trace, problem: Problem | None) -> dict[str, str]:
    """What else there is to know, heading to text; endpoints are left out, for they name machines."""
    sampling = trace.sampling
    settings = [f"temperature {sampling.temperature}", f"top-p {sampling.top_p}"]
    if sampling.top_k:
        settings.append(f"top-k {sampling.top_k}")
    tokens = f"{trace.usage.prompt:,} tokens, " if trace.usage.prompt else ""  # imported traces come without
    facts = {
        "Model": f"{trace.model} @ {trace.revision}" if trace.revision else trace.model,
        "Sampling": ", ".join([*settings, f"at most {sampling.max_tokens:,} tokens"]),
        "Engine": trace.engine,
        "Sample": str(trace.sample),
        "Requests": str(len(trace.segments)),
        "Seconds": f"{sum(segment.seconds for segment in trace.segments):.1f}",
        "Prompt": f"{tokens}hash {trace.prompt_hash}",
        "Source": " ".join(filter(None, (trace.source, trace.source_id))),
    }
    if problem:
        facts["Set"] = problem.set
        facts["Verifier"] = str(problem.verifier.get("kind", ""))
        facts["Licence"] = problem.licence or ""
    return {name: text for name, text in facts.items() if text}


def _render_html(run_labels: Sequence[str], catalogue: Catalogue, groups: list[Group], hidden_count: int) -> Markup:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    shown_count = sum(group.drawn for group in groups)
    context = {
        "total": catalogue.trace_count,
        "shown": shown_count,
        "groups": groups[:_MAX_GROUPS] if shown_count < catalogue.trace_count else [],
        "more": len(groups) - _MAX_GROUPS,
        "runs": run_labels,
        "missing": catalogue.missing_folders,
        "hidden": hidden_count,
        "floor": MIN_PER_GROUP,
        "examples": EXAMPLES_PER_REASON,
    }
    return Markup(environment.get_template("browser.html").render(context))  # noqa: S704 - the template escapes
