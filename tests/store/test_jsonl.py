"""The append-only log: torn tails, one writer, nothing lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import InputError, RunError
from distill.store import jsonl
from distill.types import Metric


def test_appended_records_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "log.jsonl"
    with jsonl.Log(path) as log:
        log.append(Metric(value=1.0))
        log.append(Metric(value=2.0, low=1.5))
    with jsonl.Log(path) as log:
        log.append(Metric(value=3.0))
    assert [m.value for m in jsonl.read(path, Metric)] == [1.0, 2.0, 3.0]


@given(cut=st.integers(min_value=1, max_value=200))
def test_a_tail_torn_anywhere_costs_only_the_last_records(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("torn") / "log.jsonl"
    with jsonl.Log(path) as log:
        for value in range(5):
            log.append(Metric(value=value))
    whole = path.read_bytes()
    path.write_bytes(whole[: max(0, len(whole) - cut)])
    complete = path.read_bytes().count(b"\n")
    # a reader may also take a last line that lacks nothing but its newline
    assert [m.value for m in jsonl.read(path, Metric)][:complete] == list(range(complete))
    with jsonl.Log(path) as log:
        log.append(Metric(value=99))
    assert [m.value for m in jsonl.read(path, Metric)] == [*range(complete), 99]
    torn = path.with_name("log.jsonl.torn")
    kept = torn.read_bytes().rstrip(b"\n") if torn.exists() else b""
    assert whole.startswith(b"".join(whole.splitlines(keepends=True)[:complete]) + kept)


def test_a_broken_line_in_the_middle_is_an_error_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"value": 1}\n{"value": \n{"value": 3}\n')
    with pytest.raises(InputError, match="line 2 is not a JSON object"):
        list(jsonl.read(path, Metric))
    bad: list[int] = []
    assert [row["value"] for _, row in jsonl.rows(path, lambda number, text: bad.append(number))] == [1, 3]
    assert bad == [2]


def test_a_row_of_another_kind_names_line_and_field(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"value": 1}\n\n{"value": 1, "colour": 2}\n')
    with pytest.raises(InputError, match=r"line 3 is no Metric: colour"):
        list(jsonl.read(path, Metric))


@pytest.mark.slow
def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    code = f"from pathlib import Path; from distill.store import jsonl; jsonl.Log(Path({str(path)!r}))"
    with jsonl.Log(path):
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert other.returncode != 0
    assert "another process is writing this log" in other.stderr
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_kill_9_loses_nothing_that_was_appended(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    code = f"""
import sys
from pathlib import Path
from distill.store import jsonl
from distill.types import Metric
with jsonl.Log(Path({str(path)!r})) as log:
    for value in range(10**9):
        log.append(Metric(value=value))
        print(value, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        said = -1
        while said < 200:
            said = int(child.stdout.readline())
        os.kill(child.pid, signal.SIGKILL)
        said = max([said, *(int(line) for line in child.stdout.read().split("\n")[:-1])])
    values = [m.value for m in jsonl.read(path, Metric)]
    assert values == list(range(len(values)))
    assert len(values) > said


def test_a_full_disk_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "full.jsonl"
    path.symlink_to("/dev/full")
    with pytest.raises(RunError, match="No space left on device"), jsonl.Log(path) as log:
        log.append(Metric(value=1.0))


def test_a_whole_file_is_replaced_or_left(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    assert jsonl.write(path, [Metric(value=1)]) == 1

    def failing() -> object:
        yield Metric(value=2)
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        jsonl.write(path, failing())  # type: ignore[arg-type]
    assert [m.value for m in jsonl.read(path, Metric)] == [1]
