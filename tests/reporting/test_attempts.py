"""What became of each trace, counted from the logs."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from distill.errors import InputError
from distill.progress import LogLines
from distill.reporting.reading.token_use import DECISIONS, OUTCOMES, Attempts, read
from distill.run import Run
from distill.store import jsonl
from distill.types import Segment
from tests.reporting.worlds import trace, write_filtered


def counted(found: Attempts) -> dict[tuple[str, str], tuple[int, int]]:
    """(outcome, what the filter did) to traces and tokens."""
    pairs = {}
    for one in range(len(found)):
        key = (OUTCOMES[found.outcome[one]], DECISIONS[found.decision[one]])
        traces, tokens = pairs.get(key, (0, 0))
        pairs[key] = (traces + 1, tokens + int(found.tokens[one]))
    return pairs


def test_a_trace_that_was_continued_counts_once_and_as_its_last_row(tmp_path: Path) -> None:
    run = Run(tmp_path)
    parts = [Segment(end=1, tokens=n, finish="stop", seed=1, endpoint="x", seconds=0.1) for n in (100, 30)]
    first = trace(0, 100, 0, "length", segments=(parts[0],))
    others = [trace(1, 10, 5), trace(2, 50, 0, "length"), trace(3, 60, 0, "repetition")]
    whole = trace(0, 120, 10, segments=tuple(parts))
    write_filtered(run, [first, *others, whole], {"t0"})
    found = read([run], run, LogLines())
    assert counted(found) == {
        ("correct", "kept"): (1, 130),
        ("wrong", "rejected"): (1, 15),
        ("cut", "rejected"): (1, 50),
        ("loop", "rejected"): (1, 60),
    }
    longest = int(np.argmax(found.tokens))
    assert found.prompt[longest] == 10 + 110, "the second request sends again what the first had said"


def test_before_the_filter_the_grades_count_and_the_last_one(tmp_path: Path) -> None:
    run = Run(tmp_path)
    jsonl.write(run.traces_file, [trace(n, 10, 5) for n in range(4)])
    told = [("t0", False), ("t1", None), ("t2", False), ("t0", True)]
    jsonl.write(run.grades, [{"trace_id": id, "passed": passed, "reason": ""} for id, passed in told])
    assert counted(read([run], run, LogLines())) == {
        ("correct", "not filtered"): (1, 15),
        ("undecided", "not filtered"): (1, 15),
        ("wrong", "not filtered"): (1, 15),
        ("not judged", "not filtered"): (1, 15),
    }


def test_accepted_and_not_drawn_is_neither_kept_nor_rejected(tmp_path: Path) -> None:
    run = Run(tmp_path)
    jsonl.write(run.traces_file, [trace(n, 10, 5) for n in range(2)])
    words = [("correct", True, ""), ("decision", False, "not_selected")]
    jsonl.write(
        run.verdicts_file,
        [{"trace_id": "t0", "check": check, "passed": passed, "reason": why} for check, passed, why in words],
    )
    found = counted(read([run], run, LogLines()))
    assert found == {("correct", "not chosen"): (1, 15), ("not judged", "not filtered"): (1, 15)}


def test_a_text_that_quotes_the_ledger_is_not_read_as_it(tmp_path: Path) -> None:
    run = Run(tmp_path)
    jsonl.write(run.traces_file, [trace(0, 10, 5)])
    quoted = {"trace_id": "t0", "check": "format", "passed": False, "reason": "x", "detail": '"check":"correct"'}
    jsonl.write(run.verdicts_file, [quoted])
    assert counted(read([run], run, LogLines())) == {("not judged", "not filtered"): (1, 15)}


def test_a_broken_row_names_its_file(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.traces_file.write_bytes(b'{"id": "a"}\n')
    with pytest.raises(InputError, match=r"traces\.jsonl.*usage"):
        read([run], run, LogLines())
    run.traces_file.write_bytes(b'{"id": "a"\n')
    with pytest.raises(InputError, match=r"traces\.jsonl"):
        read([run], run, LogLines())
    run.traces_file.unlink()
    assert len(read([run], run, LogLines())) == 0


def test_memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    run = Run(tmp_path)
    line = trace(0, 10, 5).model_dump_json().replace("That is 29.", "That is 29. " * 2_000).encode()
    with run.traces_file.open("wb") as file:
        for number in range(2_000):
            file.write(line.replace(b'"t0"', b'"t%d"' % number) + b"\n")
    tracemalloc.start()
    found = read([run], run, LogLines())
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == 2_000
    assert run.traces_file.stat().st_size > 40e6
    assert most < 4e6
