"""One process's part of the filter: reads a chunk of a log and says what every check makes of each trace."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from distill import plugins
from distill.errors import InputError
from distill.filtering.earlier import Earlier
from distill.filtering.ledger import Judged, Spoken, masks, pack, speak
from distill.filtering.problems import Problems
from distill.filters import Context, Filter, SetFilter
from distill.store import jsonl
from distill.text.tokens import tokens
from distill.types import Outcome, Problem, Trace, content_id

_BATCH = 64  # traces that one check after the other looks at: its code and tables stay in the processor's caches
DIED = Outcome(passed=None, reason="worker_died", detail="the process that judged this trace died of it")


@dataclass(frozen=True)
class Setup:
    """All that a process on any machine needs to judge; paths must mean the same there."""

    checks: dict[str, dict[str, Any]]
    context: Context
    problems: Path
    earlier: tuple[Path, ...]
    prints: dict[str, str]


@dataclass(frozen=True)
class Share:
    """A chunk of one source's log."""

    source: int
    chunk: jsonl.Chunk


@dataclass(frozen=True)
class Said:
    """A chunk's traces, judged."""

    share: Share
    rows: list[Judged]
    orphans: int
    """Traces whose problem is no longer in the problem file."""
    reused: int
    """Traces of which every outcome was known."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A trace in a judge's hands."""

    at: int
    """Where its line begins."""
    problem: Problem
    trace: Trace
    basis: bytes
    """See `Judged`."""
    known: dict[str, Spoken]
    """What an earlier run said of it."""
    outcomes: dict[str, Spoken]
    """What is said of it now."""
    features: dict[str, bytes]


def build(checks: Mapping[str, dict[str, Any]], context: Context) -> dict[str, Filter | SetFilter]:
    """Filters by name.

    Raises:
        InputError: the settings of one are wrong; names it.
    """
    return {
        name: plugins.build("filters", settings, context, name=name, where=f"filter.checks.{name}")
        for name, settings in checks.items()
    }


def fingerprints(checks: Mapping[str, dict[str, Any]], context: Context) -> dict[str, str]:
    """What the outcomes of each check depend on besides the trace and its problem.

    A kind whose outcomes depend on more than its settings and the think tags says on what by a function
    `basis(config, context)`; of a user's own file the content counts.
    """
    version = importlib.metadata.version("distill")
    found = {}
    for name, settings in checks.items():
        kind = str(settings.get("kind", name))
        config = plugins.configure("filters", settings, name=name, where=f"filter.checks.{name}")
        module = plugins.load("filters", kind)
        code = Path(str(module.__file__)).read_text(encoding="utf-8")
        basis = module.basis(config, context) if hasattr(module, "basis") else None
        found[name] = content_id(version, kind, code, config.model_dump(mode="json"), context.tags.model_dump(), basis)
    return found


class Judge:
    """Built once per process."""

    def __init__(self, setup: Setup) -> None:
        self._filters = build(setup.checks, setup.context)
        self._problems = Problems(setup.problems)
        self._earlier = Earlier(setup.earlier, setup.prints)

    def judge(self, share: Share) -> Said:
        rows: list[Judged] = []
        orphans = reused = 0
        lines = jsonl.lines(share.chunk)
        while batch := [*islice(lines, _BATCH)]:
            found = [self._find(share, at, line) for at, line in batch]
            asked = [one for one in found if one]
            orphans += len(found) - len(asked)
            reused += sum(len(one.known) == len(self._filters) for one in asked)
            self._complete(asked)
            rows += [judged(share, one) for one in asked]
            tokens.cache_clear()  # a giant trace would stay in memory with its words
        return Said(share, rows, orphans, reused)

    def _find(self, share: Share, at: int, line: bytes) -> _Asked | None:
        """A trace with its problem and what is known of it; None if its problem is gone."""
        trace = read(line, share, at)
        found = self._problems.raw(share.source, trace.problem_id)
        if found is None:
            return None
        problem, row = found
        basis = hashlib.blake2b(row + line, digest_size=8).digest()
        known, features = self._earlier.find(trace.id, basis)
        return _Asked(at, problem, trace, basis, known, {}, features)

    def _complete(self, batch: list[_Asked]) -> None:
        """Every check's word, in the recipe's order; only those are asked whose word is not known yet."""
        for name, check in self._filters.items():
            describe = getattr(check, "feature", None)
            for one in batch:
                if name in one.known:
                    one.outcomes[name] = one.known[name]
                    continue
                one.outcomes[name] = speak(check(one.problem, one.trace))
                feature = describe(one.problem, one.trace) if describe else None
                if feature is not None:
                    one.features[name] = feature

    def dead(self, share: Share) -> Said:
        """What is said of a single line that kills its process: nothing can be decided about that trace."""
        [(at, line)] = jsonl.lines(share.chunk)
        one = self._find(share, at, line)
        if one is None:
            return Said(share, [], 1, 0)
        words = {name: speak(DIED) for name in self._filters}
        return Said(share, [judged(share, replace(one, basis=b"", outcomes=words, features={}))], 0, 0)


def judged(share: Share, one: _Asked) -> Judged:
    length = one.outcomes.get("length")
    rejects, unsure = masks(one.outcomes.values())
    return Judged(
        id=one.trace.id,
        problem=one.trace.problem_id,
        sample=one.trace.sample,
        family=one.problem.set,
        characters=len(one.trace.completion),
        tokens=int(length[2]) if length and length[2] is not None else None,
        path=share.chunk.path,
        at=one.at,
        basis=one.basis,
        outcomes=orjson.dumps(one.outcomes),
        features=pack(list(one.outcomes), one.features),
        rejects=rejects,
        unsure=unsure,
    )


def read(line: bytes, share: Share, at: int) -> Trace:
    try:
        return Trace.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"the line at byte {at} is no Trace: {'.'.join(map(str, first['loc']))}: {first['msg']}",
            where=share.chunk.path,
            fix="the file was edited or written by another version of distill; mend or remove that line",
        ) from error
