"""The rows that are trained on: order, what is left out, bounded pieces, whole files."""

from __future__ import annotations

from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet as pq
import pytest

from distill.errors import InputError, RunError
from distill.models import chat, presets
from distill.models.chat import Tokenizer
from distill.models.reasoning import Tags
from distill.progress import LogLines
from distill.training.sft import rows
from distill.training.sft.renderer import IGNORED
from distill.types import Message
from tests.training import worlds


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> Tokenizer:
    return Tokenizer(str(tiny / "base"))


def build(set_path: Path, tokenizer: Tokenizer, max_length: int = 2048, **more: int) -> tuple[rows.BuiltRows, Path]:
    out = set_path.with_name("rows.parquet")
    student = presets.student("tiny")
    built = rows.build(
        set_path, student, tokenizer, max_length=max_length, limit=more.get("limit"), rows_path=out, progress=LogLines()
    )
    return built, out


def pairs(count: int) -> list[tuple[str, str]]:
    return [(f"What is {n} * 7?", worlds.reply(f"{n} sevens. " * (1 + n % 9), str(7 * n))) for n in range(count)]


def test_rows_are_those_of_chat_example_in_the_order_of_the_set(tmp_path: Path, tokenizer: Tokenizer) -> None:
    built, out = build(worlds.write_set(tmp_path / "train.parquet", pairs(600)), tokenizer)
    table = pq.read_table(out)
    assert table["id"].to_pylist() == [f"r{n}" for n in range(600)], "over several chunks and row groups"
    assert table.schema.field("input_ids").type == table.schema.field("labels").type == pyarrow.list_(pyarrow.int32())
    for number in (0, 255, 256, 599):
        question, content = pairs(600)[number]
        turns = [Message(role="user", content=question), Message(role="assistant", content=content)]
        example = chat.example(tokenizer, turns, Tags(), "<|im_end|>")
        row = table.slice(number, 1).to_pylist()[0]
        assert tuple(row["input_ids"]) == example.ids
        assert tuple(int(label != IGNORED) for label in row["labels"]) == example.mask
        assert all(label in (IGNORED, id) for label, id in zip(row["labels"], row["input_ids"], strict=True))
        assert row["length"] == len(example.ids)
    assert (built.of, built.rows, built.dropped, built.unfit) == (600, 600, 0, {})
    assert built.tokens == sum(table["length"].to_pylist())
    assert built.loss_tokens == sum(label != IGNORED for labels in table["labels"].to_pylist() for label in labels)
    assert built.longest == max(table["length"].to_pylist())


def test_the_same_set_gives_the_same_bytes(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = worlds.write_set(tmp_path / "train.parquet", pairs(300))
    _, out = build(path, tokenizer)
    first = out.read_bytes()
    out.unlink()
    build(path, tokenizer)
    assert out.read_bytes() == first
    assert sorted(p.name for p in tmp_path.iterdir()) == ["rows.parquet", "train.parquet"], "nothing partial is left"


def test_rows_are_made_again_only_where_something_changed(tmp_path: Path, tokenizer: Tokenizer, tiny: Path) -> None:
    path = worlds.write_set(tmp_path / "train.parquet", pairs(20))
    built, out = build(path, tokenizer)

    def again(tokenizer: Tokenizer = tokenizer, max_length: int = 2048, **more: int) -> bool:
        before = out.stat().st_mtime_ns
        found, _ = build(path, tokenizer, max_length, **more)
        assert found.rows == pq.read_metadata(out).num_rows
        return out.stat().st_mtime_ns != before

    assert not again()
    assert not again(limit=20), "all there are"
    assert again(limit=10)
    assert again(limit=10, max_length=100)
    assert again(Tokenizer(str(tiny / "base"), template=worlds.template_text("think-chatml")))
    worlds.write_set(path, pairs(21))
    assert again()
    assert not again()
    out.write_bytes(b"broken")
    assert again()
    assert build(path, tokenizer)[0].of == built.of + 1


def test_long_rows_go_whole_and_are_counted_by_set(tmp_path: Path, tokenizer: Tokenizer) -> None:
    long = worlds.reply("word " * 500)
    mixed = [*pairs(40), ("a", long), ("b", long), ("c", long)]  # even places are `code`, odd ones `math`
    built, out = build(worlds.write_set(tmp_path / "train.parquet", mixed), tokenizer, max_length=300)
    assert (built.of, built.rows, built.dropped) == (43, 40, 3)
    assert built.dropped_by_set == {"code": (2, 22), "math": (1, 21)}
    assert sum(built.histogram.values()) == 43
    assert max(pq.read_table(out)["length"].to_pylist()) <= 300
    assert built.keep_at[max(built.keep_at)] == 1.0


def test_a_limit_takes_the_first_rows(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = worlds.write_set(tmp_path / "train.parquet", pairs(600))
    for limit in (1, 256, 300):
        built, out = build(path, tokenizer, limit=limit)
        assert built.of == built.rows == limit
        assert pq.read_table(out)["id"].to_pylist()[-1] == f"r{limit - 1}"


def test_rows_that_would_teach_something_broken_are_left_out(tmp_path: Path, tokenizer: Tokenizer) -> None:
    hostile = [
        ("a", worlds.reply("so <|im_end|> it ends")),
        ("b", worlds.reply("ok", "7<|im_start|>user\nmore")),
        ("c", "<think>\n<think>\ntwice\n</think>\n\n7"),
        ("d", "no thoughts"),
        ("tell me of <|im_end|>", worlds.reply("in the prompt it is no harm; <think> and </think> are words")),
    ]
    built, out = build(worlds.write_set(tmp_path / "train.parquet", hostile), tokenizer)
    assert {reason: (found.count, found.first) for reason, found in built.unfit.items()} == {
        "double_think": (1, "r2"),
        "refused": (1, "r3"),
        "special_token": (2, "r0"),
    }
    assert "<|im_end|> is written out" in built.unfit["special_token"].what
    assert pq.read_table(out)["id"].to_pylist() == ["r4"]
    assert (built.of, built.rows, built.dropped) == (5, 1, 0)


def test_nothing_is_written_where_the_set_is_damaged(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = worlds.write_set(tmp_path / "train.parquet", pairs(2000))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = bytes(2000)
    path.write_bytes(data)
    with pytest.raises((RunError, InputError), match=r"train\.parquet"):
        build(path, tokenizer)
    assert not (tmp_path / "rows.parquet").exists()


def test_a_set_in_a_single_row_group_is_read_in_pieces(tmp_path: Path) -> None:
    """Other libraries write a million rows as one group; a set of ours has small ones."""
    text = "".join(chr(97 + n * n % 26) for n in range(10_000))
    turns = [[{"role": "user", "content": f"{n}"}, {"role": "assistant", "content": f"{n}{text}"}] for n in range(2000)]
    message = pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())])
    columns = {
        "messages": pyarrow.array(turns, pyarrow.list_(message)),
        "trace_id": [str(n) for n in range(2000)],
        "set": ["s"] * 2000,
    }
    path = tmp_path / "one.parquet"
    pq.write_table(pyarrow.table(columns), path, compression="none", use_dictionary=False)
    del columns
    source = rows.open_parquet(path)
    assert source.num_row_groups == 1
    before, most, read = pyarrow.total_allocated_bytes(), 0, 0
    for batch in source.iter_batches(batch_size=100, columns=list(rows.COLUMNS)):
        read += batch.num_rows
        most = max(most, pyarrow.total_allocated_bytes() - before)
    assert read == 2000
    assert most < path.stat().st_size / 2


def test_what_is_no_set_is_named(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match="no such file"):
        build(tmp_path / "none.parquet", tokenizer)
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(InputError, match="cannot be read as parquet"):
        build(tmp_path / "text.parquet", tokenizer)
    pq.write_table(pyarrow.table({"text": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(InputError, match="has no column 'trace_id'"):
        build(tmp_path / "other.parquet", tokenizer)
    with pytest.raises(InputError, match="has no column 'id'"):
        list(rows.rows_of_length(tmp_path / "other.parquet", {1}))


@pytest.mark.parametrize(
    "turns",
    [
        [],
        [{"role": "user", "content": "only a question"}],
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": None}],
        [{"role": "user", "content": "a"}, {"role": "robot", "content": "b"}],
    ],
)
def test_a_row_without_a_reply_is_named(turns: list[dict[str, str]], tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = tmp_path / "odd.parquet"
    message = pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())])
    columns = {
        "messages": pyarrow.array([turns], pyarrow.list_(message)),
        "trace_id": ["t7"],
        "set": ["s"],
    }
    pq.write_table(pyarrow.table(columns), path)
    with pytest.raises(InputError, match="row t7"):
        build(path, tokenizer)


def test_rows_are_found_by_length(tmp_path: Path, tokenizer: Tokenizer) -> None:
    built, out = build(worlds.write_set(tmp_path / "train.parquet", pairs(600)), tokenizer)
    found = list(rows.rows_of_length(out, {built.longest}))
    lengths = pq.read_table(out)["length"].to_pylist()
    assert len(found) == lengths.count(built.longest) > 0
    assert all(len(ids) == len(labels) == built.longest for ids, labels in found)


def test_the_library_that_trains_reads_the_file(tmp_path: Path, tokenizer: Tokenizer) -> None:
    built, out = build(worlds.write_set(tmp_path / "train.parquet", pairs(20)), tokenizer)
    loaded = datasets.load_dataset("parquet", data_files=str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.column_names == ["id", "input_ids", "labels", "length"]
    assert len(loaded) == built.rows
    assert loaded[3]["length"] == len(loaded[3]["input_ids"]) == len(loaded[3]["labels"])
