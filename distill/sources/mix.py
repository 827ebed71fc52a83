"""Mix: general data beside the reasoning traces, each source as a share of the final training set.

DeepSeek-R1's 800k rows held 200k of general data, some with a short chain of thought, trivial ones with none
(section 2.3.3). Which rows of a source are taken depends on their content and the seed alone: those with the lowest
hashes, so order and number of files do not matter and no row comes twice. A source is read twice, once to draw and once
to hand out; of the draw only hashes are held, never texts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import islice
from typing import Any, Literal

from pydantic import Field

from distill.errors import InputError, RunError
from distill.models.chat import Tags
from distill.progress import Progress
from distill.sources import field_maps
from distill.sources.field_maps import Attempt, Map, Parsed
from distill.sources.imported import trace_id
from distill.sources.rows import Rows
from distill.types import Problem, Record, content_id

Count = Callable[[str], int]
By = Literal["rows", "tokens"]


class Source(Record):
    """Where general data is from, and how much of it."""

    path: str
    """A .jsonl, .jsonl.zst or .parquet, a folder of them, or a Hub dataset."""
    map: str | dict[str, Any]
    """Name or .yaml of a field map, or the map itself, such as `{messages: conversations, licence: cc-by-4.0}`; in a
    map written here `thinks` is false unless it says otherwise."""
    share: float = Field(gt=0, lt=1)
    """Of the final mix, the kept reasoning included."""
    by: By = "rows"
    """What the share is measured in; the same for all sources of a mix."""
    reasoning: Literal["keep", "empty"] = "empty"
    """Whether a row's own reasoning stays, or an empty think block takes its place."""
    limit: int | None = Field(None, ge=1)
    """Draw from the first so many rows only."""


class Drawn(Record):
    """What came of one source."""

    name: str
    path: str
    revision: str | None
    by: By
    share: float
    """As asked for."""
    wanted: int
    """Rows or tokens that would make that share of the final mix."""
    rows: int
    tokens: int
    reached: float
    """The share of the final mix that it really has."""
    short: bool
    """The source ran out: no row is ever repeated to fill a share."""
    read: int
    rejected: dict[str, int]
    """Rows that could not be used, by reason."""


@dataclass
class _Draw:
    """The lowest hashes of a source so far, just enough of them."""

    name: str
    source: Source
    found: Map
    place: Rows
    wanted: int = 0
    size: int = 0
    """Of what is held, in the unit of the share."""
    read: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    held: list[tuple[int, int]] = field(default_factory=list)
    """(-hash, size): a heap whose top is the first to go."""
    keys: set[int] = field(default_factory=set)


class Mix:
    """A mix that is drawn; iterate to get its rows.

    Args:
        sources: by name, which becomes the rows' `set`.
        rows, tokens: size of the kept reasoning set, in the student's tokens of the assistant's turns.
        count: tokens of a text for the student.
        tags: the think tags of the training set.
        thinks: whether the student's template begins the assistant's turn with them, so that each turn needs a block.

    Raises:
        InputError: the shares leave no room, are measured differently, or a source cannot be read or fits no map.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        rows: int,
        tokens: int,
        *,
        count: Count,
        tags: Tags,
        thinks: bool,
        seed: int,
        progress: Progress,
    ) -> None:
        self._count, self._tags, self._thinks, self._seed, self._progress = count, tags, thinks, seed, progress
        self._rows: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()
        self._kept = {"rows": rows, "tokens": tokens}
        if len({source.by for source in sources.values()}) > 1:
            raise InputError("sources measure their share differently", where="mix", fix="give all the same `by`")
        if sum(source.share for source in sources.values()) >= 1:
            raise InputError("the shares leave no room for the reasoning", where="mix", fix="their sum must be below 1")
        self._draws = [self._open(name, source) for name, source in sources.items()]
        self._plan()
        for draw in self._draws:
            self._fill(draw)
        self._settle()

    def _open(self, name: str, source: Source) -> _Draw:
        where = f"mix.{name}.map"
        inline = source.map if isinstance(source.map, dict) else None
        found = (
            field_maps.build({"thinks": False, **inline}, where)
            if inline is not None
            else field_maps.find(str(source.map))
        )
        found = found.model_copy(update={"name": name})
        place = Rows(source.path, found.fields(), config=found.config, split=found.split, revision=found.revision)
        return _Draw(name, source, found, place)

    def _plan(self, fixed: Mapping[str, int] | None = None) -> None:
        """What each source must give, so that its share holds once all have given; `fixed` ones give no more."""
        fixed = fixed or {}
        free = [draw for draw in self._draws if draw.name not in fixed]
        room = 1 - sum(draw.source.share for draw in free)
        by = self._draws[0].source.by if self._draws else "rows"
        whole = (self._kept[by] + sum(fixed.values())) / room
        for draw in free:
            draw.wanted = round(draw.source.share * whole)

    def _fill(self, draw: _Draw) -> None:
        """First reading: hold the rows with the lowest hashes whose sizes make up what is wanted."""
        self._progress.start(f"mix: draw {draw.name}", draw.source.limit or draw.place.total or 0, unit="rows")
        for parsed, attempt in self._usable(draw, tally=True):
            self._progress.advance()
            key = self._key(parsed.problem, attempt)
            full = draw.size >= draw.wanted
            if key in draw.keys or (full and (not draw.held or key >= -draw.held[0][0])):
                continue
            size = self._count(self._content(draw, attempt)) if draw.source.by == "tokens" else 1
            heappush(draw.held, (-key, size))
            draw.keys.add(key)
            draw.size += size
            self._shed(draw)
        self._progress.stop()

    def _shed(self, draw: _Draw) -> None:
        while draw.held and draw.size - draw.held[0][1] >= draw.wanted:
            key, size = heappop(draw.held)
            draw.keys.discard(-key)
            draw.size -= size

    def _settle(self) -> None:
        """Where a source ran out the whole is smaller, and the others give less until all shares hold."""
        fixed: dict[str, int] = {}
        while short := {d.name: d.size for d in self._draws if d.name not in fixed and d.size < d.wanted}:
            fixed |= short
            self._plan(fixed)
        for draw in self._draws:
            if draw.name not in fixed:
                self._shed(draw)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Second reading: the drawn rows as training rows, source by source, in the order of the source.

        Content decides where they belong, so shuffle them together with the reasoning rows by `trace_id`.
        """
        self._rows.clear()
        self._tokens.clear()
        for draw in self._draws:
            left = set(draw.keys)
            self._progress.start(f"mix: read {draw.name}", len(left), unit="rows")
            for parsed, attempt in self._usable(draw, tally=False):
                key = self._key(parsed.problem, attempt)
                if key not in left:
                    continue
                left.discard(key)
                row = self._row(draw, parsed, attempt)
                self._rows[draw.name] += 1
                self._tokens[draw.name] += row["tokens"]
                self._progress.advance()
                yield row
            self._progress.stop()
            if left:
                raise RunError("changed while it was read", where=draw.source.path, fix="run the stage again")

    def report(self) -> list[Drawn]:
        """What came of each source; complete once the rows were handed out."""
        whole = {
            "rows": self._kept["rows"] + self._rows.total(),
            "tokens": self._kept["tokens"] + self._tokens.total(),
        }
        return [self._drawn(draw, whole[draw.source.by]) for draw in self._draws]

    def _drawn(self, draw: _Draw, whole: int) -> Drawn:
        source = draw.source
        given = {"rows": self._rows[draw.name], "tokens": self._tokens[draw.name]}
        return Drawn(
            name=draw.name,
            path=source.path,
            revision=draw.place.revision,
            by=source.by,
            share=source.share,
            wanted=draw.wanted,
            rows=given["rows"],
            tokens=given["tokens"],
            reached=round(given[source.by] / whole, 4) if whole else 0.0,
            short=draw.size < draw.wanted,
            read=draw.read,
            rejected=dict(draw.rejected.most_common()),
        )

    def _usable(self, draw: _Draw, *, tally: bool) -> Iterator[tuple[Parsed, Attempt]]:
        """Whole rows of a source, each with its first attempt."""
        refused: Counter[str] = draw.rejected if tally else Counter()

        def broken(number: int, line: str) -> None:
            refused["is not a JSON object"] += 1

        for _, row in islice(draw.place.read(broken), draw.source.limit):
            if not field_maps.wanted(draw.found, row):
                continue
            draw.read += tally
            try:
                parsed = field_maps.parse(draw.found, row)
            except ValueError as error:
                refused[str(error)] += 1
                continue
            attempt = parsed.attempts[0]
            if reason := _unfit(attempt):
                refused[reason] += 1
            else:
                yield parsed, attempt

    def _key(self, problem: Problem, attempt: Attempt) -> int:
        return int(content_id("mix", self._seed, problem.id, attempt.prefill, attempt.text), 16)

    def _content(self, draw: _Draw, attempt: Attempt) -> str:
        """The assistant's turn: with the row's own reasoning, with an empty think block, or plain."""
        reasoning, closed, answer = (attempt.prefill + attempt.text).partition(field_maps.TAGS.close)
        own = reasoning.partition(field_maps.TAGS.open)[2].strip() if closed else ""
        answer = answer.lstrip() if closed else reasoning
        kept = own if draw.source.reasoning == "keep" else ""
        if not kept and not self._thinks:
            return answer
        return f"{self._tags.open}\n{kept}\n{self._tags.close}\n\n{answer}"

    def _row(self, draw: _Draw, parsed: Parsed, attempt: Attempt) -> dict[str, Any]:
        problem = parsed.problem
        content = self._content(draw, attempt)
        turns = [message.model_dump(include={"role", "content"}) for message in problem.messages]
        return {
            "messages": (*turns, {"role": "assistant", "content": content}),
            "trace_id": trace_id(problem, attempt),
            "problem_id": problem.id,
            "teacher": attempt.model or None,
            "set": draw.name,
            "language": problem.language,
            "licence": problem.licence,
            "source": parsed.source or draw.found.dataset or draw.source.path,
            "tokens": self._count(content),
        }


def _unfit(attempt: Attempt) -> str:
    """Why an attempt is not fit to train on; empty if it is."""
    if not attempt.text.strip():
        return "its attempt is empty"
    if attempt.finish != "stop":
        return "was cut before it ended"
    before, closed, answer = attempt.text.partition(field_maps.TAGS.close)
    if closed and not answer.strip():
        return "has no answer after its reasoning"
    tags = (field_maps.TAGS.open, field_maps.TAGS.close)
    stray = any(tag in answer for tag in tags) or before.count(field_maps.TAGS.open) > 1
    return "has more than one think block" if stray else ""
