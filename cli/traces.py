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
    run = Run(folder)
    console = Console()
    if not jsonl.exists(run.traces_file) and not run.funnel.exists():
        raise InputError(
            "holds no traces", where=str(folder), fix="name a run folder with --run; `distill ls runs` lists them"
        )
    examples = {}
    if run.funnel.exists():
        examples = orjson.loads(run.funnel.read_bytes()).get("examples", {})
    if id in examples:
        return _examples(console, run, set(examples[id]))
    generations = sorted(path for path in run.eval.glob("*.jsonl") if not path.name.endswith("failures.jsonl"))
    logs = [run.traces_file, *generations]
    problems = _problems(run)
    for log in filter(jsonl.exists, logs):
        heads = _last(log, lambda head: head.id.startswith(id))
        if heads:
            trace = _read(next(iter(heads.values())))
            return _trace(console, trace, problems, _verdicts(run, {trace.id}))
    for problem in problems.values():
        if problem.id.startswith(id):
            return _problem(console, run, problem)
    raise InputError(
        f"no trace or problem begins with {id!r}",
        where=str(folder),
        fix=f"ids are in traces.jsonl and verdicts.jsonl; reasons of this run: {', '.join(examples) or 'none yet'}",
    )


def _last(log: Path, matches: Callable[[jsonl.Head], bool]) -> dict[str, jsonl.Head]:
    """Heads by id: of a trace that was continued the last row counts."""
    return {head.id: head for head in jsonl.heads(log) if matches(head)}


def _read(head: jsonl.Head) -> Trace:
    return Trace.model_validate_json(jsonl.line_at(head.path, head.offset))


def _problems(run: Run) -> dict[str, Problem]:
    if not run.problems.exists():
        return {}
    return {problem.id: problem for problem in jsonl.read(run.problems, Problem)}


def _examples(console: Console, run: Run, ids: set[str]) -> None:
    """Print traces by id, from this run or from the runs that its filter read."""
    folders = run.state().get("recipe", {}).get("filter", {}).get("traces") or [str(run.folder)]
    verdicts = _verdicts(run, ids)
    for source in (Run(Path(folder)) for folder in folders):
        problems = _problems(source)
        for head in _last(source.traces_file, lambda head: head.id in ids).values():
            _trace(console, _read(head), problems, [verdict for verdict in verdicts if verdict.trace_id == head.id])


def _trace(console: Console, trace: Trace, problems: dict[str, Problem], verdicts: list[Verdict]) -> None:
    console.rule(f"trace {trace.id}, sample {trace.sample}, {trace.model}", align="left")
    problem = problems.get(trace.problem_id)
    if problem:
        _turns(console, problem)
    console.print(Text("assistant", style="bold"))
    console.print(Text(plain(trace.prefill), style="dim"), end="")
    reasoning_end = trace.reasoning_span[1] if trace.reasoning_span else 0
    console.print(Text(plain(trace.completion[:reasoning_end]), style="cyan"), end="")
    console.print(Text(plain(trace.completion[reasoning_end:])))
    usage = trace.usage
    counts = "not counted"  # imported traces come without
    if usage.prompt + usage.reasoning + usage.answer > 0:
        counts = f"{usage.prompt} prompt, {usage.reasoning} reasoning, {usage.answer} answer"
    console.rule(f"{trace.finish}; tokens: {counts}", align="left")
    width = max((len(verdict.check) for verdict in verdicts), default=0)
    for verdict in verdicts:
        outcome = {True: "pass", False: "reject", None: "undecidable"}[verdict.passed]
        line = Text(f"{verdict.check:>{width}} {outcome:<11} ", style=_STYLE[verdict.passed])
        explanation = " ".join(dict.fromkeys((verdict.reason, verdict.detail))).strip()
        console.print(line.append(plain(explanation), style="default"))


def _problem(console: Console, run: Run, problem: Problem) -> None:
    console.rule(f"problem {problem.id} of {problem.set}", align="left")
    _turns(console, problem)
    console.print(Text(f"gold answer: {problem.answer}"))
    heads = _last(run.traces_file, lambda trace_head: trace_head.problem_id == problem.id)
    decisions = {verdict.trace_id: verdict for verdict in _verdicts(run, set(heads)) if verdict.check == "decision"}
    table = Table("trace", "sample", "finish", "tokens", "decision")
    for trace_id, head in heads.items():
        verdict = decisions.get(trace_id)
        decision = ""
        if verdict:
            decision = "kept" if verdict.passed else verdict.reason
        table.add_row(trace_id, str(head.sample), head.finish, str(head.tokens), decision)
    console.print(table)


def _turns(console: Console, problem: Problem) -> None:
    for message in problem.messages:
        console.print(Text(message.role, style="bold"))
        console.print(Text(plain(message.content)))


def _verdicts(run: Run, ids: set[str]) -> list[Verdict]:
    if not run.verdicts_file.exists():
        return []
    return [Verdict.model_validate(row) for _, row in jsonl.rows(run.verdicts_file) if row["trace_id"] in ids]


def plain(text: str) -> str:
    """Text with control and direction-changing characters made visible, so that output cannot drive the terminal."""
    return "".join(char if _is_harmless(char) else repr(char)[1:-1] for char in text)


def _is_harmless(char: str) -> bool:
    return char in "\n\t" or (char.isprintable() and not "\u202a" <= char <= "\u202e")
