"""What is kept of each sampled trace: its verdict and what it amounts to, a few numbers whatever its length."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from distill import plugins, verifiers
from distill.answers import marked
from distill.errors import InputError
from distill.filters import Context, Filter, language, repetition
from distill.machine import hardware
from distill.machine.workers import Workers, single_items
from distill.progress import Progress
from distill.sampling import Identity
from distill.store import jsonl
from distill.types import Problem, Trace, content_id
from distill.verifiers import Verifiers

_KINDS_WITHOUT_VOTES = frozenset({"code", "judge"})
"""Verifier kinds whose answers are programs or prose: no two are ever the same, so there is nothing to vote with."""
_CHUNK_TRACES = 8
"""Traces that a worker takes at a time, at most."""
_CHUNK_CHARACTERS = 1 << 20
"""Characters of traces beyond which a worker takes no further one."""
_SECONDS_WITHOUT_WORKERS = 2.0
"""About what it takes to start processes."""


@dataclass(frozen=True, slots=True)
class JudgedAttempt:
    passed: bool | None
    """The verifier's verdict; None is undecidable. False for what was not complete within the budget."""
    vote_key: Hashable | None
    """What the answer amounts to, for votes; None without one."""
    tokens: int
    """Tokens of the completion: thinking and answer."""
    thinking: int
    """Tokens of the thinking."""
    cut: bool
    """The budget or the context cut it before it ended by itself."""
    unclosed: bool
    """The closing think tag never came."""
    answered: bool
    r"""A final answer is marked, by `<answer>` or `\boxed{}`."""
    loops: bool
    """The filter `repetition` rejects it."""
    foreign: bool | None
    """The filter `language` rejects it; None where it does not know the problem's language."""


SampledTrace = tuple[Problem, int, Trace]
"""A problem, the index of a sample and its trace."""
JudgedSample = tuple[str, int, JudgedAttempt]
"""A problem's id, the index of a sample and what was made of it."""
AttemptsByProblem = Mapping[str, Sequence[JudgedAttempt]]
"""Attempts by problem id, in the order of the samples."""


def votable(problems: Sequence[Problem]) -> bool:
    """Whether answers to these problems can be counted as votes."""
    return not any(problem.verifier.get("kind") in _KINDS_WITHOUT_VOTES for problem in problems)


def newest_trace(log: Path) -> Trace | None:
    """The last trace of a log; None where there is none."""
    heads = deque(jsonl.heads(log) if jsonl.exists(log) else (), maxlen=1)
    return Trace.model_validate_json(jsonl.line_at(heads[0].path, heads[0].offset)) if heads else None


def latest_identity(log: Path, problems: Sequence[Problem]) -> Identity:
    """What the newest traces of these problems in a log were sampled from; needs no model.

    Raises:
        InputError: there are none.
    """
    problem_ids = {problem.id for problem in problems}
    newest: Trace | None = None
    if jsonl.exists(log):
        for trace in jsonl.read(log, Trace):
            if trace.problem_id in problem_ids:
                newest = trace
    if newest is None:
        raise InputError("holds no generation of these problems", where=str(log), fix="run `distill eval` first")
    return Identity(newest.model, newest.revision, newest.template, newest.sampling, newest.steering or {})


def judge_log(
    log: Path, problems: Sequence[Problem], identity: Identity, samples: int, budget: int, progress: Progress
) -> AttemptsByProblem:
    """The attempts of one model in a log: the last row of an id, samples below `samples`.

    Earlier runs with a larger budget left longer traces: beyond `budget` tokens an attempt counts as cut and wrong, as
    it would have been.
    """
    samples_by_id = {
        identity.attempt_id(problem.id, sample): (problem, sample) for problem in problems for sample in range(samples)
    }
    attempts_by_problem: dict[str, dict[int, JudgedAttempt]] = {problem.id: {} for problem in problems}

    def sampled_traces() -> Iterator[SampledTrace]:
        for trace in jsonl.read(log, Trace):
            if problem_and_sample := samples_by_id.get(trace.id):
                yield (*problem_and_sample, trace)

    _judging_tools.cache_clear()  # a user's own verifier may have been edited since
    progress.start("score", len(samples_by_id), 0, "traces")
    try:
        for chunk in _on_all_cores(_chunks(sampled_traces()), budget):
            for id, sample, attempt in chunk:
                progress.advance(0 if sample in attempts_by_problem[id] else 1)
                attempts_by_problem[id][sample] = attempt
    finally:
        progress.stop()
    return {id: [attempts[sample] for sample in sorted(attempts)] for id, attempts in attempts_by_problem.items()}


def _chunks(sampled_traces: Iterable[SampledTrace]) -> Iterator[list[SampledTrace]]:
    """Shares for a worker: few enough to spread slow ones, large enough to be worth the way."""
    chunk: list[SampledTrace] = []
    characters = 0
    for sampled in sampled_traces:
        chunk.append(sampled)
        characters += len(sampled[2].completion)
        if len(chunk) == _CHUNK_TRACES or characters >= _CHUNK_CHARACTERS:
            yield chunk
            chunk = []
            characters = 0
    if chunk:
        yield chunk


def _on_all_cores(chunks: Iterator[list[SampledTrace]], budget: int) -> Iterator[list[JudgedSample]]:
    """Here as long as that is quicker than starting processes, then in one for each core."""
    judge = partial(_judge_chunk, budget=budget)
    processes = len(hardware.processors())
    switch_time = time.monotonic() + _SECONDS_WITHOUT_WORKERS
    for chunk in chunks:
        yield judge(chunk)
        if processes > 1 and time.monotonic() > switch_time:
            break
    with Workers(judge, processes, split=single_items, on_death=partial(judge, dead=True)) as workers:
        yield from workers.each(chunks)


def _judge_chunk(chunk: list[SampledTrace], budget: int, dead: bool = False) -> list[JudgedSample]:
    """Judge each trace and keep a few numbers of it.

    Args:
        dead: judging it ends the process, so nothing is decided.
    """
    problem_verifiers, loops, drifts = _judging_tools()
    judged_samples: list[JudgedSample] = []
    for problem, sample, trace in chunk:
        over_budget = trace.usage.completion > budget
        if over_budget:
            passed: bool | None = False
        elif dead:
            passed = None
        else:
            passed = problem_verifiers.judge(problem, trace).passed
        can_vote = passed is not None and not over_budget and problem.verifier.get("kind") not in _KINDS_WITHOUT_VOTES
        key = problem_verifiers.key(problem, trace) if can_vote else None
        drift = drifts(problem, trace).passed
        attempt = JudgedAttempt(
            passed=passed,
            vote_key=key,
            tokens=min(trace.usage.completion, budget),
            thinking=min(trace.usage.reasoning, budget),
            cut=over_budget or trace.finish == "length",
            unclosed=trace.answer is None or trace.usage.reasoning > budget,
            answered=not over_budget and bool(trace.answer and marked.final_answer(trace.answer)),
            loops=loops(problem, trace).passed is False,
            foreign=None if drift is None else not drift,
        )
        judged_samples.append((problem.id, sample, attempt))
    return judged_samples


def fingerprint(verifier_kinds: Iterable[str]) -> str:
    """Hash of the code that attempts are judged by: the verifiers, and the checks that count loops and drift.

    Args:
        verifier_kinds: those that the problems name.
    """
    checks = [plugins.code_of("filters", kind) for kind in ("repetition", "language")]
    return content_id(verifiers.basis(verifier_kinds), checks)


@cache
def _judging_tools() -> tuple[Verifiers, Filter, Filter]:
    """The verifiers, the filter `repetition` and the filter `language` of one process."""
    context = Context(student="")  # neither filter counts tokens
    loops = repetition.build(repetition.Config(), context)
    drifts = language.build(language.Config(), context)
    return Verifiers(), loops, drifts
