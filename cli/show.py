"""`distill show`: a trace, a problem or the examples of a reason, readably.

Model output is printed as plain text, control codes escaped.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from distill.errors import InputError
from distill.run import Run
from distill.store import jsonl
from distill.types import Problem, Trace, Verdict

_STYLE = {True: "green", False: "red", None: "yellow"}


def show(folder: Path, id: str) -> None:
    """Find the first trace or problem whose id begins with `id`, in the run's traces and its eval generations.

    A reason of the funnel (`language:foreign_script`, or `kept`) shows the examples that the filter named.
    """
    run, out = Run(folder), Console()
    if not jsonl.exists(run.traces) and not run.funnel.exists():
        raise InputError(
            "holds no traces", where=str(folder), fix="name a run folder with --run; `distill ls runs` lists them"
        )
    examples = orjson.loads(run.funnel.read_bytes()).get("examples", {}) if run.funnel.exists() else {}
    if id in examples:
        return _examples(out, run, set(examples[id]))
    logs = [run.traces, *sorted(path for path in run.eval.glob("*.jsonl") if not path.name.endswith("failures.jsonl"))]
    problems = _problems(run)
    for log in filter(jsonl.exists, logs):
        found = _last(log, lambda head: head.id.startswith(id))
        if found:
            trace = _read(next(iter(found.values())))
            return _trace(out, trace, problems, _verdicts(run, {trace.id}))
    for problem in problems.values():
        if problem.id.startswith(id):
            return _problem(out, run, problem)
    raise InputError(
        f"no trace or problem begins with {id!r}",
        where=str(folder),
        fix=f"ids are in traces.jsonl and verdicts.jsonl; reasons of this run: {', '.join(examples) or 'none yet'}",
    )


def _last(log: Path, wanted: Callable[[jsonl.Head], bool]) -> dict[str, jsonl.Head]:
    """Heads by id: of a trace that was continued the last row counts."""
    return {head.id: head for head in jsonl.heads(log) if wanted(head)}


def _read(head: jsonl.Head) -> Trace:
    return Trace.model_validate_json(jsonl.line_at(head.path, head.at))


def _problems(run: Run) -> dict[str, Problem]:
    return {problem.id: problem for problem in jsonl.read(run.problems, Problem)} if run.problems.exists() else {}


def _examples(out: Console, run: Run, ids: set[str]) -> None:
    """Traces by id, from this run or from the runs that its filter read."""
    named = run.state().get("recipe", {}).get("filter", {}).get("traces") or [str(run.folder)]
    verdicts = _verdicts(run, ids)
    for source in (Run(Path(folder)) for folder in named):
        problems = _problems(source)
        for head in _last(source.traces, lambda head: head.id in ids).values():
            _trace(out, _read(head), problems, [v for v in verdicts if v.trace_id == head.id])


def _trace(out: Console, trace: Trace, problems: dict[str, Problem], verdicts: list[Verdict]) -> None:
    out.rule(f"trace {trace.id}, sample {trace.sample}, {trace.model}", align="left")
    problem = problems.get(trace.problem_id)
    if problem:
        _turns(out, problem)
    out.print(Text("assistant", style="bold"))
    out.print(Text(plain(trace.prefill), style="dim"), end="")
    cut = trace.reasoning_span[1] if trace.reasoning_span else 0
    out.print(Text(plain(trace.completion[:cut]), style="cyan"), end="")
    out.print(Text(plain(trace.completion[cut:])))
    usage = trace.usage
    spent = f"{usage.prompt} prompt, {usage.reasoning} reasoning, {usage.answer} answer"
    counted = usage.prompt + usage.reasoning + usage.answer > 0  # imported traces come without
    out.rule(f"{trace.finish}; tokens: {spent if counted else 'not counted'}", align="left")
    width = max((len(verdict.check) for verdict in verdicts), default=0)
    for verdict in verdicts:
        word = {True: "pass", False: "reject", None: "undecidable"}[verdict.passed]
        line = Text(f"{verdict.check:>{width}} {word:<11} ", style=_STYLE[verdict.passed])
        why = " ".join(dict.fromkeys((verdict.reason, verdict.detail))).strip()
        out.print(line.append(plain(why), style="default"))


def _problem(out: Console, run: Run, problem: Problem) -> None:
    out.rule(f"problem {problem.id} of {problem.set}", align="left")
    _turns(out, problem)
    out.print(Text(f"gold answer: {problem.answer}"))
    traces = _last(run.traces, lambda head: head.problem_id == problem.id)
    decisions = {verdict.trace_id: verdict for verdict in _verdicts(run, set(traces)) if verdict.check == "decision"}
    table = Table("trace", "sample", "finish", "tokens", "decision")
    for id, trace in traces.items():
        verdict = decisions.get(id)
        word = "" if verdict is None else "kept" if verdict.passed else verdict.reason
        table.add_row(id, str(trace.sample), trace.finish, str(trace.tokens), word)
    out.print(table)


def _turns(out: Console, problem: Problem) -> None:
    for message in problem.messages:
        out.print(Text(message.role, style="bold"))
        out.print(Text(plain(message.content)))


def _verdicts(run: Run, ids: set[str]) -> list[Verdict]:
    if not run.verdicts.exists():
        return []
    return [Verdict.model_validate(row) for _, row in jsonl.rows(run.verdicts) if row["trace_id"] in ids]


def plain(text: str) -> str:
    """Text with control and direction-changing characters made visible, so that output cannot drive the terminal."""
    return "".join(
        c if c in "\n\t" or (c.isprintable() and not "\u202a" <= c <= "\u202e") else repr(c)[1:-1] for c in text
    )
