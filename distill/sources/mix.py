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
from typing import Literal

from pydantic import Field

from distill.errors import InputError, RunError
from distill.models.reasoning import Tags
from distill.progress import Progress
from distill.sources import field_maps
from distill.sources.field_maps import FieldMap, ParsedRow, RowAttempt
from distill.sources.imported import trace_id
from distill.sources.rows import RowReader
from distill.types import Problem, Record, TrainingRow, content_id

CountTokens = Callable[[str], int]
ShareUnit = Literal["rows", "tokens"]


class MixSource(Record):
    """Where general data is from, and how much of it."""

    path: str
    """File of the rows (.jsonl, .jsonl.zst or .parquet), a folder of such files, or a Hub dataset."""
    map: str | dict[str, object]
    """Name or .yaml of a field map, or the map itself, such as `{messages: conversations, licence: cc-by-4.0}`; in a
    map written here `thinks` is false unless it says otherwise."""
    share: float = Field(gt=0, lt=1)
    """Share of the final mix that this source makes up; the kept reasoning is part of the mix."""
    by: ShareUnit = "rows"
    """Unit in which the share is measured, equal in all sources of a mix."""
    reasoning: Literal["keep", "empty"] = "empty"
    """Whether a row's own reasoning stays, or an empty think block takes its place."""
    limit: int | None = Field(None, ge=1)
    """Only the first so many rows are drawn from; None draws from all."""


class DrawnSource(Record):
    """What came of one source."""

    name: str
    path: str
    revision: str | None
    by: ShareUnit
    share: float
    """The share asked for."""
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
    source: MixSource
    field_map: FieldMap
    reader: RowReader
    target: int = 0
    """Rows or tokens that the source must give."""
    held_size: int = 0
    """Size of what is held, in the unit of the share."""
    rows_read: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    held: list[tuple[int, int]] = field(default_factory=list)
    """Pairs of -hash and size: a heap whose top is the first to go."""
    held_keys: set[int] = field(default_factory=set)
    """The hashes in `held`."""


class Mix:
    """A mix that is drawn; iterate to get its rows.

    Args:
        sources: by name, which becomes the rows' `set`.
        rows, tokens: size of the kept reasoning set, in the student's tokens of the assistant's turns.
        count_tokens: tokens of a text for the student.
        tags: the think tags of the training set.
        thinks: whether the student's template begins the assistant's turn with them, so that each turn needs a block.

    Raises:
        InputError: the shares leave no room, are measured differently, or a source cannot be read or fits no map.
    """

    def __init__(
        self,
        sources: Mapping[str, MixSource],
        rows: int,
        tokens: int,
        *,
        count_tokens: CountTokens,
        tags: Tags,
        thinks: bool,
        seed: int,
        progress: Progress,
    ) -> None:
        self._count = count_tokens
        self._tags = tags
        self._thinks = thinks
        self._seed = seed
        self._progress = progress
        self._row_counts: Counter[str] = Counter()
        self._token_counts: Counter[str] = Counter()
        self._kept_sizes = {"rows": rows, "tokens": tokens}
        if len({source.by for source in sources.values()}) > 1:
            raise InputError("sources measure their share differently", where="mix", fix="give all the same `by`")
        if sum(source.share for source in sources.values()) >= 1:
            raise InputError("the shares leave no room for the reasoning", where="mix", fix="their sum must be below 1")
        self._draws = [self._open_source(name, source) for name, source in sources.items()]
        self._set_targets()
        for draw in self._draws:
            self._draw_rows(draw)
        self._balance()

    def _open_source(self, name: str, source: MixSource) -> _Draw:
        if isinstance(source.map, dict):
            field_map = field_maps.build({"thinks": False, **source.map}, f"mix.{name}.map")
        else:
            field_map = field_maps.find(source.map)
        field_map = field_map.model_copy(update={"name": name})
        reader = RowReader(
            source.path, field_map.fields(), config=field_map.config, split=field_map.split, revision=field_map.revision
        )
        return _Draw(name, source, field_map, reader)

    def _set_targets(self, exhausted: Mapping[str, int] | None = None) -> None:
        """What each source must give, so that its share holds once all have given; `exhausted` ones give no more."""
        exhausted = exhausted or {}
        open_draws = [draw for draw in self._draws if draw.name not in exhausted]
        remaining_share = 1 - sum(draw.source.share for draw in open_draws)
        unit = self._draws[0].source.by if self._draws else "rows"
        mix_size = (self._kept_sizes[unit] + sum(exhausted.values())) / remaining_share
        for draw in open_draws:
            draw.target = round(draw.source.share * mix_size)

    def _draw_rows(self, draw: _Draw) -> None:
        """First reading: hold the rows with the lowest hashes whose sizes make up the target."""
        self._progress.start(f"mix: draw {draw.name}", draw.source.limit or draw.reader.total or 0, unit="rows")
        for parsed, attempt in self._usable_rows(draw, first_reading=True):
            self._progress.advance()
            key = self._key(parsed.problem, attempt)
            full = draw.held_size >= draw.target
            if key in draw.held_keys or (full and (not draw.held or key >= -draw.held[0][0])):
                continue
            size = 1
            if draw.source.by == "tokens":
                size = self._count(self._assistant_turn(draw, attempt))
            heappush(draw.held, (-key, size))
            draw.held_keys.add(key)
            draw.held_size += size
            self._drop_surplus(draw)
        self._progress.stop()

    def _drop_surplus(self, draw: _Draw) -> None:
        while draw.held and draw.held_size - draw.held[0][1] >= draw.target:
            key, size = heappop(draw.held)
            draw.held_keys.discard(-key)
            draw.held_size -= size

    def _balance(self) -> None:
        """Where a source ran out the whole is smaller, and the others give less until all shares hold."""
        exhausted: dict[str, int] = {}
        while short := [d for d in self._draws if d.name not in exhausted and d.held_size < d.target]:
            exhausted |= {draw.name: draw.held_size for draw in short}
            self._set_targets(exhausted)
        for draw in self._draws:
            if draw.name not in exhausted:
                self._drop_surplus(draw)

    def __iter__(self) -> Iterator[TrainingRow]:
        """Second reading: the drawn rows as training rows, source by source, in the order of the source.

        Content decides where they belong, so shuffle them together with the reasoning rows by `trace_id`.
        """
        self._row_counts.clear()
        self._token_counts.clear()
        for draw in self._draws:
            missing_keys = set(draw.held_keys)
            self._progress.start(f"mix: read {draw.name}", len(missing_keys), unit="rows")
            for parsed, attempt in self._usable_rows(draw, first_reading=False):
                key = self._key(parsed.problem, attempt)
                if key not in missing_keys:
                    continue
                missing_keys.discard(key)
                row = self._training_row(draw, parsed, attempt)
                self._row_counts[draw.name] += 1
                self._token_counts[draw.name] += row.tokens
                self._progress.advance()
                yield row
            self._progress.stop()
            if missing_keys:
                raise RunError("changed while it was read", where=draw.source.path, fix="run the stage again")

    def report(self) -> list[DrawnSource]:
        """What came of each source; complete once the rows were handed out."""
        mix_sizes = {
            "rows": self._kept_sizes["rows"] + self._row_counts.total(),
            "tokens": self._kept_sizes["tokens"] + self._token_counts.total(),
        }
        return [self._drawn_from(draw, mix_sizes[draw.source.by]) for draw in self._draws]

    def _drawn_from(self, draw: _Draw, mix_size: int) -> DrawnSource:
        source = draw.source
        sizes = {"rows": self._row_counts[draw.name], "tokens": self._token_counts[draw.name]}
        return DrawnSource(
            name=draw.name,
            path=source.path,
            revision=draw.reader.revision,
            by=source.by,
            share=source.share,
            wanted=draw.target,
            rows=sizes["rows"],
            tokens=sizes["tokens"],
            reached=round(sizes[source.by] / mix_size, 4) if mix_size else 0.0,
            short=draw.held_size < draw.target,
            read=draw.rows_read,
            rejected=dict(draw.rejected.most_common()),
        )

    def _usable_rows(self, draw: _Draw, *, first_reading: bool) -> Iterator[tuple[ParsedRow, RowAttempt]]:
        """Whole rows of a source, each with its first attempt."""
        reject_counts: Counter[str] = draw.rejected if first_reading else Counter()

        def count_broken_line(number: int, line: str) -> None:
            reject_counts["is not a JSON object"] += 1

        for _, row in islice(draw.reader.read(count_broken_line), draw.source.limit):
            if not field_maps.admits(draw.field_map, row):
                continue
            draw.rows_read += first_reading
            try:
                parsed = field_maps.parse(draw.field_map, row)
            except ValueError as error:
                reject_counts[str(error)] += 1
                continue
            attempt = parsed.attempts[0]
            if reason := _misfit_reason(attempt):
                reject_counts[reason] += 1
            else:
                yield parsed, attempt

    def _key(self, problem: Problem, attempt: RowAttempt) -> int:
        return int(content_id("mix", self._seed, problem.id, attempt.prefill, attempt.text), 16)

    def _assistant_turn(self, draw: _Draw, attempt: RowAttempt) -> str:
        """The assistant's turn: with the row's own reasoning, with an empty think block, or plain."""
        before_tag, closing_tag, answer = (attempt.prefill + attempt.text).partition(field_maps.TAGS.close)
        row_reasoning = ""
        if closing_tag:
            row_reasoning = before_tag.partition(field_maps.TAGS.open)[2].strip()
            answer = answer.lstrip()
        else:
            answer = before_tag
        reasoning = row_reasoning if draw.source.reasoning == "keep" else ""
        if not reasoning and not self._thinks:
            return answer
        return f"{self._tags.open}\n{reasoning}\n{self._tags.close}\n\n{answer}"

    def _training_row(self, draw: _Draw, parsed: ParsedRow, attempt: RowAttempt) -> TrainingRow:
        problem = parsed.problem
        content = self._assistant_turn(draw, attempt)
        prompt_turns = [message.model_dump(include={"role", "content"}) for message in problem.messages]
        return TrainingRow(
            messages=(*prompt_turns, {"role": "assistant", "content": content}),
            trace_id=trace_id(problem, attempt),
            problem_id=problem.id,
            teacher=attempt.model or None,
            set=draw.name,
            language=problem.language,
            licence=problem.licence,
            source=parsed.source or draw.field_map.dataset or draw.source.path,
            tokens=self._count(content),
        )


def _misfit_reason(attempt: RowAttempt) -> str:
    """Why an attempt is not fit to train on; empty if it is."""
    if not attempt.text.strip():
        return "its attempt is empty"
    if attempt.finish != "stop":
        return "was cut before it ended"
    before_tag, closing_tag, answer = attempt.text.partition(field_maps.TAGS.close)
    if closing_tag and not answer.strip():
        return "has no answer after its reasoning"
    tags = (field_maps.TAGS.open, field_maps.TAGS.close)
    has_stray_tag = any(tag in answer for tag in tags) or before_tag.count(field_maps.TAGS.open) > 1
    if has_stray_tag:
        return "has more than one think block"
    return ""
