"""Which problems a student learns from by reward, in what order, and prompts.parquet, which verl reads too."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from distill.errors import InputError, writing
from distill.models.chat import Tags, Tokenizer
from distill.rollouts import prompt_rows
from distill.run import Run
from distill.store import jsonl
from distill.types import Problem, Record

How = Literal["shuffled", "easy_to_hard", "prioritised"]
_UNKNOWN = 0.5
"""The pass rate that a problem without an estimate is ordered by."""


class Band(Record):
    """Pass rates, both ends included; a problem without an estimate is in every band."""

    low: float = Field(0.0, ge=0, le=1)
    high: float = Field(1.0, ge=0, le=1)

    @model_validator(mode="after")
    def _ordered(self) -> Band:
        if self.low > self.high:
            raise ValueError(f"low ({self.low}) is above high ({self.high})")
        return self


class Chosen(Record):
    """What prompts.parquet holds."""

    rows: int
    longest: int
    """Prompt, tokens."""
    outside: int
    """Problems left out by their pass rate."""
    too_long: int
    unknown: int
    """Problems without an estimate of their pass rate, which are kept."""


def rates_of(run: Run) -> dict[str, float]:
    """Problem to pass rate, as generate estimated it from the teacher's attempts; the last row of a problem counts."""
    if not run.rates.is_file():
        return {}
    return {row["problem_id"]: row["pass_rate"] for _, row in jsonl.rows(run.rates)}


def write(
    path: Path,
    problems: Sequence[Problem],
    rates: Mapping[str, float],
    band: Band,
    tokenizer: Tokenizer,
    tags: Tags,
    room: int,
) -> Chosen:
    """Write the prompts whose pass rate is in the band and that have no more than `room` tokens.

    Raises:
        InputError: none is left.
    """
    rows, longest, outside, too_long, unknown = [], 0, 0, 0, 0
    for problem in problems:
        rate = rates.get(problem.id)
        if rate is not None and not band.low <= rate <= band.high:
            outside += 1
            continue
        prompt = tokenizer.prompt(problem.messages, tags)
        if len(prompt.ids) > room:
            too_long += 1
            continue
        unknown += rate is None
        longest = max(longest, len(prompt.ids))
        rows.append(prompt_rows.of(problem, prompt.prefill, rate))
    if not rows:
        raise InputError(
            f"no prompt is left: of {len(problems)} problems {outside} have a pass rate outside {band.low:g}-"
            f"{band.high:g}, {too_long} have more than {room:,} tokens",
            where="grpo.pass_rate",
            fix="widen the band, or lower max_completion_length",
        )
    _save(path, rows)
    return Chosen(rows=len(rows), longest=longest, outside=outside, too_long=too_long, unknown=unknown)


def _save(path: Path, rows: list[dict[str, object]]) -> None:
    import pyarrow
    from pyarrow import parquet

    text, number = pyarrow.string(), pyarrow.float64()
    turn = pyarrow.struct([("role", text), ("content", text)])
    about = [(name, text) for name in ("problem_id", "verifier", "language", "prefill")]
    schema = pyarrow.schema(
        [
            ("data_source", text),
            ("prompt", pyarrow.list_(turn)),
            ("ability", text),
            ("reward_model", pyarrow.struct([("style", text), ("ground_truth", text)])),
            ("extra_info", pyarrow.struct([*about, ("pass_rate", number)])),
        ]
    )
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        parquet.write_table(pyarrow.Table.from_pylist(rows, schema), partial)
        partial.replace(path)


def order(rates: Sequence[float | None], count: int, how: How, seed: int) -> list[int]:
    """Which prompt each of `count` groups is for: a pure function, so that a resumed run goes on where it was.

    `shuffled`: each prompt once before any comes again. `easy_to_hard`: the same, sorted by falling pass rate over the
    whole training (Kimi k1.5's curriculum). `prioritised`: drawn with p ∝ 1 − pass rate (section 2.3.4 there).

    Raises:
        InputError: prioritised, and every prompt is always solved.
    """
    draw = random.Random(f"{seed}:{how}")  # noqa: S311
    known = [_UNKNOWN if rate is None else rate for rate in rates]
    if how == "prioritised":
        weights = [1 - rate for rate in known]
        if not any(weights):
            raise InputError(
                f"all {len(known)} prompts have a pass rate of 1, so none would ever be drawn",
                where="grpo.order",
                fix="take harder problems, or order: shuffled",
            )
        return draw.choices(range(len(known)), weights, k=count)
    found: list[int] = []
    while len(found) < count:
        once = list(range(len(known)))
        draw.shuffle(once)
        found += once
    found = found[:count]
    if how == "easy_to_hard":
        found.sort(key=lambda at: -known[at])  # stable: those of equal rate stay shuffled
    return found
