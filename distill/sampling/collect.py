"""The sampling loop: every (problem, sample) that the log lacks is asked for and appended as it finishes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill import jsonl, plugins
from distill.backends import Backend, Completion, Model, Refused, Request
from distill.chat import Prompt, Tokenizer, split
from distill.errors import DistillError, RunError
from distill.progress import LOG, Progress
from distill.types import Problem, Record, Sampling, Segment, Trace, Usage, content_id, trace_id


class Failure(Record):
    """A request that the engine refused for good, kept beside the log."""

    problem_id: str
    sample: int
    reason: str


@dataclass(frozen=True)
class Wanted:
    """What to sample: `samples` attempts of `model` at each problem."""

    problems: Sequence[Problem]
    model: Model
    sampling: Sampling
    samples: int
    seed: int
    backend: Mapping[str, Any]


@dataclass
class Tally:
    """What one call did."""

    found: int = 0
    """Traces that were in the log already."""
    sampled: int = 0
    failed: int = 0
    tokens: int = 0
    """Completion tokens sampled by this call."""
    seconds: float = 0.0
    """From the engine's readiness to the last trace."""
    engine: str = ""


@dataclass(frozen=True)
class _Attempt:
    id: str
    problem: Problem
    sample: int


def collect(wanted: Wanted, log: Path, failures: Path, progress: Progress, label: str) -> Tally:
    """Sample what is missing from `log`. Starts no engine when nothing is.

    Order is by sample index, then by problem, so that a cut run has covered all problems alike.

    Raises:
        InputError, BackendError: from the backend; traces that finished are in the log.
        RunError: every single request was refused.
    """
    model = wanted.model
    tokenizer = Tokenizer(model.path, model.revision, model.template)
    tally = Tally()
    have = _ids(log)
    missing = []
    for sample in range(wanted.samples):
        for problem in wanted.problems:
            identity = trace_id(
                problem.id, model.name, model.revision, tokenizer.template_hash, wanted.sampling, sample
            )
            if identity in have:
                tally.found += 1
            else:
                missing.append(_Attempt(identity, problem, sample))
    if missing:
        loop = _Loop(wanted, tokenizer, tally, progress)
        with jsonl.Log(log) as traces, jsonl.Log(failures) as failed:
            try:
                asyncio.run(loop.run(label, missing, traces, failed))
            except BaseExceptionGroup as group:
                raise _first(group) from group
            finally:
                progress.stop()
    if tally.failed and not tally.sampled:
        raise RunError(
            f"the engine refused all {tally.failed} requests", where=str(failures), fix="read the reasons there"
        )
    return tally


def _ids(log: Path) -> set[str]:
    return {str(row["id"]) for _, row in jsonl.rows(log)} if log.exists() else set()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to show of a task group: ours before others."""
    ours, others = group.split(DistillError)
    chosen: BaseException = ours or others or group
    while isinstance(chosen, BaseExceptionGroup):
        chosen = chosen.exceptions[0]
    return chosen


class _Loop:
    def __init__(self, wanted: Wanted, tokenizer: Tokenizer, tally: Tally, progress: Progress) -> None:
        self._wanted = wanted
        self._tokenizer = tokenizer
        self._tally = tally
        self._progress = progress
        self._began = 0.0

    async def run(self, label: str, missing: list[_Attempt], traces: jsonl.Log, failed: jsonl.Log) -> None:
        model, options = self._wanted.model, self._wanted.backend
        backend: Backend = plugins.build("backends", options, model, traces.path.parent, where="backend")
        LOG.info("%s: %s gets ready for %s", label, options["kind"], model.name)
        try:
            await backend.open()
            self._tally.engine = backend.engine
            self._progress.start(label, self._tally.found + len(missing), self._tally.found, "traces")
            self._began = time.monotonic()
            queue = iter(missing)
            async with asyncio.TaskGroup() as group:
                for _ in range(backend.concurrency):
                    group.create_task(self._work(backend, queue, traces, failed))
        finally:
            await backend.close()

    async def _work(self, backend: Backend, queue: Iterator[_Attempt], traces: jsonl.Log, failed: jsonl.Log) -> None:
        """One slot: takes attempts from the shared queue until none is left; one event loop, so it needs no lock."""
        for attempt in queue:
            prompt = self._tokenizer.prompt(attempt.problem.messages, self._wanted.model.tags, attempt.problem.tools)
            # content, never a position, seeds a sample: the same attempt has the same seed in any order of problems
            seed = int(content_id(self._wanted.seed, attempt.id)[:7], 16)
            request = Request(id=attempt.id, ids=prompt.ids, sampling=self._wanted.sampling, seed=seed)
            try:
                completion = await backend.complete(request)
            except Refused as refusal:
                failed.append(Failure(problem_id=attempt.problem.id, sample=attempt.sample, reason=str(refusal)))
                self._tally.failed += 1
                self._progress.advance(note=f"{self._tally.failed} refused")
                continue
            traces.append(self._trace(attempt, prompt, completion, backend.engine))
            self._tally.sampled += 1
            self._tally.tokens += completion.tokens
            self._tally.seconds = time.monotonic() - self._began
            self._progress.advance(note=f"{self._tally.tokens / max(self._tally.seconds, 1e-9):,.0f} tok/s")

    def _trace(self, attempt: _Attempt, prompt: Prompt, completion: Completion, engine: str) -> Trace:
        model = self._wanted.model
        spans = split(completion.text, prompt.prefill, model.tags)
        answer = len(self._tokenizer.encode(completion.text[slice(*spans.answer)])) if spans.answer else 0
        answer = min(answer, completion.tokens)
        return Trace(
            id=attempt.id,
            problem_id=attempt.problem.id,
            sample=attempt.sample,
            model=model.name,
            revision=model.revision,
            template=self._tokenizer.template_hash,
            sampling=self._wanted.sampling,
            prompt_hash=content_id(prompt.text),
            prefill=prompt.prefill,
            completion=completion.text,
            reasoning_span=spans.reasoning,
            answer_span=spans.answer,
            finish=completion.finish,
            usage=Usage(prompt=len(prompt.ids), reasoning=completion.tokens - answer, answer=answer),
            engine=engine,
            segments=(
                Segment(
                    end=len(completion.text),
                    tokens=completion.tokens,
                    finish=completion.finish,
                    seed=completion.seed,
                    endpoint=completion.endpoint,
                    seconds=round(completion.seconds, 3),
                ),
            ),
        )
