"""What is kept of each sampled trace: its verdict and what it amounts to, a few numbers whatever its length."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path

from distill import plugins
from distill.errors import InputError
from distill.filters import Context, Filter, language, repetition
from distill.machine import hardware
from distill.machine.workers import Workers, one_by_one
from distill.models import chat
from distill.progress import Progress
from distill.sampling import Identity
from distill.store import jsonl
from distill.types import Problem, Trace, content_id
from distill.verifiers import Verifiers

_VOTELESS = frozenset({"code", "judge"})
"""Kinds whose answers are programs or prose: no two are ever the same, so there is nothing to vote with."""
_TRACES, _CHARACTERS = 8, 1 << 20
"""That a worker takes at a time, at most."""
_ALONE = 2.0
"""Seconds: about what it takes to start processes."""


@dataclass(frozen=True, slots=True)
class Attempt:
    passed: bool | None
    """The verifier's verdict; None is undecidable. False for what was not complete within the budget."""
    key: Hashable | None
    """What the answer amounts to, for votes; None without one."""
    tokens: int
    """Of the completion: thinking and answer."""
    thinking: int
    cut: bool
    """By the budget or the context, before it ended by itself."""
    unclosed: bool
    """The closing think tag never came."""
    answered: bool
    r"""A final answer is marked, by `<answer>` or `\boxed{}`."""
    loops: bool
    """The filter `repetition` rejects it."""
    foreign: bool | None
    """The filter `language` rejects it; None where it does not know the problem's language."""


Asked = tuple[Problem, int, Trace]
"""With the index of the sample."""
Seen = tuple[str, int, Attempt]
"""Problem id and sample."""
Attempts = Mapping[str, Sequence[Attempt]]
"""By problem id, in the order of the samples."""


def votes(problems: Sequence[Problem]) -> bool:
    """Whether answers to these problems can be counted as votes."""
    return not any(problem.verifier.get("kind") in _VOTELESS for problem in problems)


def latest(log: Path, problems: Sequence[Problem]) -> Identity:
    """What the newest traces of these problems in a log were sampled from; needs no model.

    Raises:
        InputError: there are none.
    """
    known = {problem.id for problem in problems}
    found: Trace | None = None
    if jsonl.exists(log):
        for trace in jsonl.read(log, Trace):
            found = trace if trace.problem_id in known else found
    if found is None:
        raise InputError("holds no generation of these problems", where=str(log), fix="run `distill eval` first")
    return Identity(found.model, found.revision, found.template, found.sampling)


def judged(
    log: Path, problems: Sequence[Problem], identity: Identity, samples: int, budget: int, progress: Progress
) -> Attempts:
    """The attempts of one model in a log: the last row of an id, samples below `samples`.

    Earlier runs with a larger budget left longer traces: beyond `budget` tokens an attempt counts as cut and wrong, as
    it would have been.
    """
    wanted = {identity.of(problem.id, sample): (problem, sample) for problem in problems for sample in range(samples)}
    found: dict[str, dict[int, Attempt]] = {problem.id: {} for problem in problems}

    def asked() -> Iterator[Asked]:
        for trace in jsonl.read(log, Trace):
            if place := wanted.get(trace.id):
                yield (*place, trace)

    _tools.cache_clear()  # a user's own verifier may have been edited since
    progress.start("score", len(wanted), 0, "traces")
    try:
        for chunk in _on_all_cores(_chunks(asked()), budget):
            for id, sample, attempt in chunk:
                progress.advance(0 if sample in found[id] else 1)
                found[id][sample] = attempt
    finally:
        progress.stop()
    return {id: [attempts[sample] for sample in sorted(attempts)] for id, attempts in found.items()}


def _chunks(asked: Iterable[Asked]) -> Iterator[list[Asked]]:
    """Shares for a worker: few enough to spread slow ones, large enough to be worth the way."""
    chunk: list[Asked] = []
    size = 0
    for one in asked:
        chunk.append(one)
        size += len(one[2].completion)
        if len(chunk) == _TRACES or size >= _CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _on_all_cores(chunks: Iterator[list[Asked]], budget: int) -> Iterator[list[Seen]]:
    """Here as long as that is quicker than starting processes, then in one for each core."""
    look, processes = partial(_look, budget=budget), len(hardware.processors())
    until = time.monotonic() + _ALONE
    for chunk in chunks:
        yield look(chunk)
        if processes > 1 and time.monotonic() > until:
            break
    with Workers(look, processes, parts=one_by_one, dead=partial(look, dead=True)) as made:
        yield from made.each(chunks)


def _look(chunk: list[Asked], budget: int, dead: bool = False) -> list[Seen]:
    """
    Args:
        dead: judging it ends the process, so nothing is decided.
    """
    verifiers, loops, drifts = _tools()
    found: list[Seen] = []
    for problem, sample, trace in chunk:
        late = trace.usage.completion > budget
        passed = False if late else None if dead else verifiers.judge(problem, trace).passed
        votes = passed is not None and not late and problem.verifier.get("kind") not in _VOTELESS
        key = verifiers.key(problem, trace) if votes else None
        drift = drifts(problem, trace).passed
        attempt = Attempt(
            passed=passed,
            key=key,
            tokens=min(trace.usage.completion, budget),
            thinking=min(trace.usage.reasoning, budget),
            cut=late or trace.finish == "length",
            unclosed=trace.answer is None or trace.usage.reasoning > budget,
            answered=not late and bool(trace.answer and chat.final_answer(trace.answer)),
            loops=loops(problem, trace).passed is False,
            foreign=None if drift is None else not drift,
        )
        found.append((problem.id, sample, attempt))
    return found


def basis(kinds: Iterable[str]) -> str:
    """Hash of what verdicts depend on besides the gold answers: the verifiers' code and math-verify's version.

    Args:
        kinds: of verifiers; those that are a user's own file count, too.
    """
    ours = sorted((Path(plugins.__file__).parent / "verifiers").glob("*.py"))
    own = [Path(kind) for kind in sorted(kinds) if kind.endswith(".py")]
    texts = [[path.name, path.read_text(encoding="utf-8")] for path in [*ours, *own] if path.is_file()]
    return content_id(texts, version("math-verify"))


@cache
def _tools() -> tuple[Verifiers, Filter, Filter]:
    """Of one process."""
    context = Context(student="")  # neither filter counts tokens
    loops, drifts = repetition.build(repetition.Config(), context), language.build(language.Config(), context)
    return Verifiers(), loops, drifts
