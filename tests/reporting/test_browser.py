"""The trace browser's parts of a page: which traces are in it, and that they come out as they went in."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import InputError
from distill.progress import LogLines
from distill.reporting.browser.group_sizes import MIN_PER_GROUP, sample_sizes
from distill.reporting.browser.packed import Packed
from distill.reporting.browser.trace_browser import Browser, pack_browser, run_labels
from distill.run import Run
from distill.store import jsonl
from distill.types import Problem
from tests.conftest import make_problem, make_trace
from tests.reporting.browser_runs import many, unpack, write_run

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "{{ 7 * 7 }} {% raw %} ${1} `",
    '"><img src=x onerror=alert(1)>',
    "\u202eabc\u200b\x00\x1b[31m\u2028",
    "javascript:alert(1)",
    "\U0001f600 é 漢字",
)


def made(run: Run, most: int = 10_000) -> Browser:
    return pack_browser([run], most, LogLines())


@given(st.lists(st.integers(0, 10_000), max_size=60), st.integers(0, 20_000))
def test_shares_add_up_and_no_group_goes_without(sizes: list[int], most: int) -> None:
    taken = sample_sizes(sizes, most)
    assert sum(taken) == min(most, sum(sizes))
    assert all(0 <= share <= size for share, size in zip(taken, sizes, strict=True))
    if most >= 2 * MIN_PER_GROUP * len(sizes):
        assert all(share >= min(MIN_PER_GROUP, size) for share, size in zip(taken, sizes, strict=True))


def test_what_is_beyond_the_floor_is_in_proportion() -> None:
    assert sample_sizes([10_020, 1_020, 5], 1_100 + 2 * MIN_PER_GROUP + 5) == [
        1_000 + MIN_PER_GROUP,
        100 + MIN_PER_GROUP,
        5,
    ]


def test_all_traces_are_there_where_they_are_few(tmp_path: Path) -> None:
    run = many(300, tmp_path)
    page = made(run)
    index, rows = unpack(page)
    logged = [row["id"] for _, row in jsonl.rows(run.traces_file)]
    assert index["columns"]["id"] == logged
    assert index["total"] == len(rows) == 300
    assert "All 300 traces" in page.html


def test_a_sample_is_stratified_stated_and_the_same_whatever_the_order(tmp_path: Path) -> None:
    page = made(many(1500, tmp_path / "a"), 150)
    index, rows = unpack(page)
    columns, names = index["columns"], index["names"]
    assert len(rows) == 150
    assert index["total"] == 1500
    seen = {names["reasons"][number] for numbers in columns["reasons"] for number in numbers}
    every = {"correct:wrong_value", "length:too_long", "language:foreign_script", "language:no_words"}
    assert seen == every | {"repetition:rare"}
    decisions = Counter(names["decision"][number] for number in columns["decision"])
    assert decisions["kept"] > decisions["rejected"] > 0.25 * 150  # in the run 14 % are rejected
    assert decisions["undecidable"] >= 5
    assert {names["set"][number] for number in columns["set"]} == {"odd", "even"}
    assert index["totals"][names["reasons"].index("correct:wrong_value")] == 150
    assert "150 of 1,500 traces" in page.html
    assert "stratified" in page.html
    again, _ = unpack(made(many(1500, tmp_path / "b", backwards=True), 150))
    assert set(again["columns"]["id"]) == set(columns["id"])
    assert again["columns"]["id"] != columns["id"]


def test_fewer_than_the_reasons_is_still_a_page(tmp_path: Path) -> None:
    run = many(300, tmp_path)
    for most in (1, 3, 7):
        assert len(unpack(made(run, most))[1]) == most
    assert "made without" in made(run, 0).html


def test_texts_come_out_as_they_went_in(tmp_path: Path) -> None:
    problems = [make_problem(text, answer=text) for text in HOSTILE]
    traces = [
        make_trace(f"{text} so\n</think>\n\n{text} <answer>{text}</answer>", problem_id=problem.id, model=text)
        for text, problem in zip(HOSTILE, problems, strict=True)
    ]
    page = made(
        write_run(tmp_path, problems, [(trace, {text: text}) for trace, text in zip(traces, HOSTILE, strict=True)])
    )
    index, rows = unpack(page)
    for text, trace, row in zip(HOSTILE, traces, rows, strict=True):
        problem, gold, final, parts, verdicts, facts, hidden = row
        assert problem == [["user", text]]
        assert (gold, final, hidden) == (text, text.strip(), False)
        assert "".join(filter(None, parts)) == trace.completion
        assert verdicts[0] == [text, False, text, None, ""]
        assert facts["Model"] == text
    assert index["names"]["model"] == list(HOSTILE)
    assert page.html.count("<script") == page.html.count("</script>") == 1  # the index
    assert "</script" not in page.script


def test_parts_of_a_completion_say_what_lies_where(tmp_path: Path) -> None:
    problem = make_problem()
    texts = ["<think>a</think>b", "a</think>b", "a", "no reasoning"]
    prefills = ["", "<think>\n", "<think>\n", ""]
    pairs = zip(texts, prefills, strict=True)
    run = write_run(tmp_path, [problem], [(make_trace(text, prefill), {}) for text, prefill in pairs])
    parts = [row[3] for row in unpack(made(run))[1]]
    assert parts == [
        ["<think>", "a", "</think>", "b"],
        ["", "a", "</think>", "b"],
        ["", "a", "", None],
        ["", None, "", "no reasoning"],
    ]


def test_tokens_that_nobody_counted_are_not_told(tmp_path: Path) -> None:
    problem = make_problem()
    found = [make_trace(sample=n, usage={"prompt": n, "reasoning": 0, "answer": 0}) for n in range(2)]
    facts = [row[5]["Prompt"] for row in unpack(made(write_run(tmp_path, [problem], [(one, {}) for one in found])))[1]]
    assert [fact.split("hash")[0] for fact in facts] == ["", "1 tokens, "]


def test_of_an_id_the_last_row_counts(tmp_path: Path) -> None:
    first = make_trace("cut", finish="length")
    whole = make_trace("cut no more", id=first.id, usage={"prompt": 1, "reasoning": 3, "answer": 0})
    run = write_run(tmp_path, [make_problem()], [(first, {}), (whole, {"finish": ""})])
    index, rows = unpack(made(run))
    assert [row[3][1] for row in rows] == ["cut no more"]
    assert index["columns"]["reasoning"] == [3]
    assert index["names"]["finish"] == ["stop"]


def test_before_the_filter_has_run_the_grades_say_what_is_correct(tmp_path: Path) -> None:
    traces = [make_trace(str(n)) for n in range(3)]
    run = write_run(tmp_path, [make_problem()], [(trace, None) for trace in traces])
    run.verdicts_file.unlink()
    run.grades.write_bytes(b"".join(
        orjson.dumps({"trace_id": trace.id, "passed": passed}) + b"\n"
        for trace, passed in zip(traces, (True, False, None), strict=True)
    ))  # fmt: skip
    index, _ = unpack(made(run))
    assert index["columns"]["correct"] == [True, False, None]
    assert index["names"]["decision"] == ["unjudged"]


def test_a_filter_of_other_runs_shows_their_traces_with_its_own_verdicts(tmp_path: Path) -> None:
    problem = make_problem()
    traces = [make_trace(str(n)) for n in range(4)]
    pool = write_run(tmp_path / "pool", [problem], [(trace, {"length": ""}) for trace in traces])
    own = Run(tmp_path / "own")
    write_run(own.folder, [], [(trace, {"length": "too_long"}) for trace in traces], filter={
        "traces": [str(pool.folder), str(tmp_path / "gone")]
    })  # fmt: skip
    for path in (own.traces_file, own.problems):
        path.unlink()
    page = pack_browser([pool, own], 100, LogLines())
    index, rows = unpack(page)
    assert index["columns"]["run"] == [0] * 4 + [1] * 4
    words = [index["names"]["decision"][number] for number in index["columns"]["decision"]]
    assert words == ["kept"] * 4 + ["rejected"] * 4
    assert rows[7][0] == [["user", problem.messages[0].content]]
    assert str(tmp_path / "gone") in page.html


@pytest.mark.parametrize("how", ["metadata", "set"])
def test_of_a_private_set_neither_question_nor_text_is_shown(tmp_path: Path, how: str) -> None:
    secret = "zebra crossing"
    fields = {"metadata": {"private": True}} if how == "metadata" else {}
    problem: Problem = make_problem(f"{secret}?", answer=f"{secret} gold", **fields)
    if how == "set":
        problem = problem.model_copy(update={"set": "gpqa-diamond"})
    trace = make_trace(f"{secret}</think><answer>{secret} answer</answer>", problem_id=problem.id)
    run = write_run(tmp_path, [problem], [(trace, {"correct": "wrong_answer"})])
    told = run.verdicts_file.read_bytes().replace(b'"detail":""', f'"detail":"{secret} detail"'.encode())
    run.verdicts_file.write_bytes(told)
    page = made(run)
    index, rows = unpack(page)
    assert secret not in orjson.dumps([index, rows]).decode()
    assert rows[0][6] is True
    assert index["names"]["reasons"] == ["correct:wrong_answer"]
    assert "neither question nor text" in page.html


@pytest.mark.slow
def test_memory_does_not_grow_with_the_logs(tmp_path: Path) -> None:
    line = (many(1, tmp_path / "one").traces_file).read_bytes()
    id = orjson.loads(line)["id"].encode()
    peaks = []
    for count in (2_000, 20_000):
        run = Run(tmp_path / str(count))
        run.folder.mkdir()
        with run.traces_file.open("wb") as traces, run.verdicts_file.open("wb") as verdicts:
            for number in range(count):
                own = b"%020x" % (number * 2654435761 % 2**32)
                traces.write(line.replace(id, own))
                verdicts.write(b'{"trace_id":"%s","check":"decision","passed":true,"reason":""}\n' % own)
        tracemalloc.start()
        page = pack_browser([run], 300, LogLines())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert "300 of" in page.html
    assert peaks[1] < peaks[0] + (1 << 20)


def test_a_broken_verdict_is_named_by_its_place(tmp_path: Path) -> None:
    run = many(3, tmp_path)
    with run.verdicts_file.open("ab") as file:
        file.write(b"[1]\n")
    with pytest.raises(InputError, match="no row of this log"):
        made(run)


def test_a_run_without_traces_says_so(tmp_path: Path) -> None:
    page = made(Run(tmp_path))
    assert "There are no traces" in page.html
    assert unpack(page)[1] == []


def test_runs_are_told_apart_by_as_much_of_their_path_as_it_takes(tmp_path: Path) -> None:
    runs = [Run(tmp_path / name) for name in ("a/tiny", "b/tiny", "b/other")]
    assert run_labels(runs) == ["a/tiny", "b/tiny", "b/other"]
    assert run_labels(runs[1:]) == ["tiny", "other"]


def test_rows_larger_than_a_chunk_have_one_of_their_own() -> None:
    packed = Packed("traces", chunk_bytes=1000)
    for size in (400, 400, 5000, 10, 10):
        packed.add(["x" * size], [])
    assert packed.end() == [0, 2, 3]
    pieces = "".join(packed)
    assert packed.size == len(pieces)
    assert "".join(packed) == pieces
