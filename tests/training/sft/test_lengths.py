"""What a length limit costs: bins, round lengths, the table and the refusal."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import RunError
from distill.models import presets
from distill.models.chat import Tokenizer
from distill.progress import LogLines
from distill.training.sft import lengths, rows
from distill.training.sft.rows import bin_of, round_up
from tests.training import worlds


@given(st.integers(1, 2_000_000))
def test_bins_and_round_lengths_lie_close_above(size: int) -> None:
    upper = bin_of(size)
    assert size <= upper
    assert upper == 16 or size > upper * 2 / 3, "else it would belong into the bin below"
    assert bin_of(upper) == upper
    rounded = round_up(size)
    assert size <= rounded <= min(size * 9 / 8, size + 1024)
    assert round_up(rounded) == rounded


def test_the_bins_are_powers_of_two_and_the_middle_between() -> None:
    assert sorted({bin_of(size) for size in range(1, 1025)}) == [
        16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024,
    ]  # fmt: skip
    assert [round_up(size) for size in (7, 100, 1000, 5000, 20_000, 32_100)] == [7, 104, 1024, 5120, 20_480, 32_768]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> rows.BuiltRows:
    """100 rows: 80 short ones, and of the set `math` 15 of some 500 and 5 of some 2,000 tokens."""
    folder = tmp_path_factory.mktemp("set")
    pairs = [("a?", worlds.reply("no " * 10))] * 80
    pairs += [("a?", worlds.reply("no " * 250))] * 15 + [("a?", worlds.reply("no " * 1000))] * 5
    path = worlds.write_set(folder / "train.parquet", pairs)
    return rows.build(
        path,
        presets.student("tiny"),
        Tokenizer(str(tiny / "base")),
        max_length=256,
        rows_path=folder / "rows.parquet",
        progress=LogLines(),
    )


def test_too_much_left_out_stops_and_says_what_would_keep_how_much(built: rows.BuiltRows) -> None:
    with pytest.raises(RunError) as told:
        lengths.check(built, 256)
    said, fix = told.value.message, told.value.fix or ""
    assert "20 of 100 rows would be left out, more than sft.max_dropped allows (5.0%)" in said
    assert "20 (20.0%) are longer than 256 tokens; by set: code 10 of 50 (20.0%), math 10 of 50 (20.0%)" in said
    assert "raise sft.max_length (" in fix
    assert "keeps 95.0%" in fix
    assert "keeps all; activation memory grows" in fix
    assert "--set sft.max_dropped=0.2" in fix
    lengths.check(built, 256, 0.2)


def test_every_length_it_names_keeps_what_it_says(built: rows.BuiltRows) -> None:
    assert built.histogram == {48: 80, 768: 15, 2048: 5}
    assert built.keep_at == {40: 0.8, 576: 0.95, 2048: 1.0}


def test_the_table_is_plain_text(built: rows.BuiltRows) -> None:
    lines = lengths.table(built, 256).splitlines()
    assert lines[0] == "length of 100 rows, tokens"
    assert lines[1].split()[-3:] == ["80", "80.0%", "#" * 40]
    assert "max_length 256 leaves out 20 (20.0%)" in lines
    assert "  left out of math: 10 of 50 (20.0%)" in lines
    hostile = built.model_copy(update={"dropped_by_set": {"\x1b]0;title\x07": (1, 2), "": (1, 98)}})
    lines += lengths.table(hostile, 256).splitlines()
    assert "  left out of '\\x1b]0;title\\x07': 1 of 2 (50.0%)" in lines
    assert "  left out of no set: 1 of 98 (1.0%)" in lines
    assert all(line.isprintable() for line in lines)


def test_unfit_rows_count_and_are_explained(built: rows.BuiltRows) -> None:
    unfit = {"refused": rows.UnfitRows(count=40, first="t9", what="the template prefills <think>")}
    broken = built.model_copy(update={"unfit": unfit, "rows": 40})
    with pytest.raises(RunError, match=r"60 of 100 rows .*first t9.*prefills <think>") as told:
        lengths.check(broken, 256, 0.3)
    assert "mend or filter those traces" in (told.value.fix or "")
    assert "left out as refused: 40, first t9" in lengths.table(broken, 256)


def test_nothing_to_train_on_is_refused_whatever_is_allowed(built: rows.BuiltRows) -> None:
    none = built.model_copy(update={"rows": 0, "dropped": 100})
    with pytest.raises(RunError, match="100 of 100 rows"):
        lengths.check(none, 16, 1.0)
    with pytest.raises(RunError, match="has no rows"):
        lengths.check(built.model_copy(update={"rows": 0, "of": 0}), 16, 1.0)
