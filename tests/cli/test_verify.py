"""`distill verify` as a user gives it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_app import distill

ROWS: list[Any] = [
    {"id": "a", "gold": "1/2", "pred": "<think>2?</think>\\boxed{0.5}", "expected": True},
    {"id": "b", "gold": "1/2", "pred": "2", "expected": True},
    {"id": "c", "gold": {"target": 29, "numbers": [3, 7, 8]}, "pred": "3 * 7 + 8", "kind": "countdown"},
    "broken",
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in ROWS))
    return path


def verdicts(text: str) -> list[tuple[str | None, bool | None, str]]:
    rows = [json.loads(line) for line in text.splitlines()]
    assert all({"passed", "reason", "score", "detail"} <= set(row) for row in rows)
    return [(row.get("id"), row["passed"], row["reason"]) for row in rows]


EXPECTED = [("a", True, ""), ("b", False, "wrong_answer"), ("c", True, ""), (None, None, "bad_row")]


@pytest.mark.slow
def test_verdicts_go_to_a_file_and_counts_to_stdout(source: Path, tmp_path: Path) -> None:
    done = distill("verify", "pairs.jsonl", "--out", "new/v.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert verdicts((tmp_path / "new" / "v.jsonl").read_text()) == EXPECTED
    assert done.stdout.splitlines() == [
        "4 pairs: 2 right, 1 wrong, 0 undecidable, 1 bad rows (named in their `detail`)",
        "  wrong: wrong_answer 1",
        "  as `expected`: 1 of 2 (50.0%)",
        "  not as `expected`: line 2",
    ]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["v.jsonl"]
    again = distill("verify", "pairs.jsonl", "--out", "new/v.jsonl", "--kind", "exact", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert verdicts((tmp_path / "new" / "v.jsonl").read_text())[0] == ("a", False, "wrong_answer")


@pytest.mark.slow
def test_without_out_verdicts_go_to_stdout_and_counts_to_stderr(source: Path, tmp_path: Path) -> None:
    done = distill("verify", "pairs.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert verdicts(done.stdout) == EXPECTED
    assert "4 pairs: 2 right" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.jsonl"]


def test_wrong_input_is_one_message_and_status_2(tmp_path: Path) -> None:
    done = distill("verify", "none.jsonl", cwd=tmp_path)
    assert done.returncode == 2
    assert "none.jsonl: no such file" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"gold": "1", "pred": "1"}\n' * 5_000)
    line = f"{sys.executable} -m distill.cli verify pairs.jsonl | head -1"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout)["passed"] is True
    assert "rror" not in done.stderr


SLOW = """
import os, time
from pathlib import Path
from distill.types import Outcome, Record
from distill.verifiers import Verifier

class Config(Record):
    pass

class Slow(Verifier):
    def verify(self, gold, text):
        Path(f"begun-{os.getpid()}").touch()
        time.sleep(0.01)
        return Outcome(passed=True)

    def key(self, gold, text):
        return text

def build(config):
    return Slow()
"""


@pytest.mark.slow
def test_a_stop_leaves_the_old_verdicts_and_no_process(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "pairs.jsonl").write_text('{"gold": "1", "pred": "1"}\n' * 20_000)
    (tmp_path / "v.jsonl").write_text("old")
    command = [sys.executable, "-m", "distill.cli", "verify", "pairs.jsonl", "--kind", "./slow.py", "--out", "v.jsonl"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True) as child:
        until = time.monotonic() + 60
        while len(list(tmp_path.glob("begun-*"))) < len(os.sched_getaffinity(0)):  # every worker is at work
            assert time.monotonic() < until
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=60)
    assert child.returncode == 1
    assert "stopped; v.jsonl is as it was" in said
    assert "Traceback" not in said
    assert (tmp_path / "v.jsonl").read_text() == "old"
    assert not (tmp_path / "v.jsonl.partial").exists()
    until = time.monotonic() + 10
    while family(child.pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert not family(child.pid)


def family(session: int) -> list[int]:
    """Processes of a session that live."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of, *_ = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(of) == session and state != "Z":
            found.append(int(stat.parent.name))
    return [pid for pid in found if pid != os.getpid()]
