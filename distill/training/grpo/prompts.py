"""Which problems a student learns from by reward, in what order, and prompts.parquet, which verl reads too."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from distill.errors import InputError
from distill.models.chat import Tokenizer
from distill.models.reasoning import Tags
from distill.rollouts import prompt_rows
from distill.run import Run
from distill.store import jsonl
from distill.store.replacing import replacing_path
from distill.types import Problem, Record

PromptOrder = Literal["shuffled", "easy_to_hard", "prioritised"]
_ASSUMED_RATE = 0.5
"""The pass rate that a problem without an estimate is ordered by."""


class PassRateBand(Record):
    """Pass rates, both ends included; a problem without an estimate is in every band."""

    low: float = Field(0.0, ge=0, le=1)
    """Least pass rate of a problem, this one included."""
    high: float = Field(1.0, ge=0, le=1)
    """Greatest pass rate of a problem, this one included."""

    @model_validator(mode="after")
    def _ordered(self) -> PassRateBand:
        if self.low > self.high:
            raise ValueError(f"low ({self.low}) is above high ({self.high})")
        return self


class ChosenPrompts(Record):
    """What prompts.parquet holds."""

    rows: int
    """Prompts in the file."""
    longest: int
    """Tokens of the longest prompt."""
    outside: int
    """Problems left out by their pass rate."""
    too_long: int
    """Problems left out since their prompts leave no room for a completion."""
    unknown: int
    """Problems without an estimate of their pass rate, which are kept."""


def pass_rates_of(run: Run) -> dict[str, float]:
    """Pass rates by problem, as generate estimated them from the teacher's attempts; a problem's last row counts."""
    if not run.rates.is_file():
        return {}
    return {row["problem_id"]: row["pass_rate"] for _, row in jsonl.rows(run.rates)}


def write(
    path: Path,
    problems: Sequence[Problem],
    rates: Mapping[str, float],
    band: PassRateBand,
    tokenizer: Tokenizer,
    tags: Tags,
    max_tokens: int,
) -> ChosenPrompts:
    """Write the prompts whose pass rate is in the band and that have no more than `max_tokens` tokens.

    Raises:
        InputError: none is left.
    """
    rows = []
    longest = 0
    outside = 0
    too_long = 0
    unknown = 0
    for problem in problems:
        rate = rates.get(problem.id)
        if rate is not None and not band.low <= rate <= band.high:
            outside += 1
            continue
        prompt = tokenizer.prompt(problem.messages, tags)
        if len(prompt.ids) > max_tokens:
            too_long += 1
            continue
        unknown += rate is None
        longest = max(longest, len(prompt.ids))
        rows.append(prompt_rows.of(problem, prompt.prefill, rate))
    if not rows:
        raise InputError(
            f"no prompt is left: of {len(problems)} problems {outside} have a pass rate outside {band.low:g}-"
            f"{band.high:g}, {too_long} have more than {max_tokens:,} tokens",
            where="grpo.pass_rate",
            fix="widen the band, or lower max_completion_length",
        )
    _save(path, rows)
    return ChosenPrompts(rows=len(rows), longest=longest, outside=outside, too_long=too_long, unknown=unknown)


def _save(path: Path, rows: list[dict[str, object]]) -> None:
    import pyarrow
    from pyarrow import parquet

    string = pyarrow.string()
    turn = pyarrow.struct([("role", string), ("content", string)])
    text_fields = [(name, string) for name in ("problem_id", "verifier", "language", "prefill")]
    schema = pyarrow.schema(
        [
            ("data_source", string),
            ("prompt", pyarrow.list_(turn)),
            ("ability", string),
            ("reward_model", pyarrow.struct([("style", string), ("ground_truth", string)])),
            ("extra_info", pyarrow.struct([*text_fields, ("pass_rate", pyarrow.float64())])),
        ]
    )
    with replacing_path(path) as partial:
        parquet.write_table(pyarrow.Table.from_pylist(rows, schema), partial)


def order(rates: Sequence[float | None], count: int, kind: PromptOrder, seed: int) -> list[int]:
    """Which prompt each of `count` groups is for: a pure function, so that a resumed run goes on where it was.

    `shuffled`: each prompt once before any comes again. `easy_to_hard`: the same, sorted by falling pass rate over the
    whole training (Kimi k1.5's curriculum). `prioritised`: drawn with p ∝ 1 − pass rate (section 2.3.4 there).

    Raises:
        InputError: prioritised, and every prompt is always solved.
    """
    rng = random.Random(f"{seed}:{kind}")  # noqa: S311
    pass_rates = [_ASSUMED_RATE if rate is None else rate for rate in rates]
    if kind == "prioritised":
        weights = [1 - rate for rate in pass_rates]
        if not any(weights):
            raise InputError(
                f"all {len(pass_rates)} prompts have a pass rate of 1, so none would ever be drawn",
                where="grpo.order",
                fix="take harder problems, or order: shuffled",
            )
        return rng.choices(range(len(pass_rates)), weights, k=count)
    indices: list[int] = []
    while len(indices) < count:
        round_indices = list(range(len(pass_rates)))
        rng.shuffle(round_indices)
        indices += round_indices
    indices = indices[:count]
    if kind == "easy_to_hard":
        indices.sort(key=lambda index: -pass_rates[index])  # stable: those of equal rate stay shuffled
    return indices
