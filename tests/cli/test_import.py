"""`distill import` as a user gives it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run, distill


@pytest.mark.slow
def test_import_then_show(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "problem": "2+2?", "reference": "4", "text": "<think>\nAdd.\n</think>\n\n\\boxed{4}"},
        {"id": "b", "problem": "2+3?", "reference": None, "text": "<think>\nAdd"},
        {"id": "c", "problem": "2+4?"},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = distill("import", "rows.jsonl", "--map", "real-traces", "--run", "mine", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for line in (
        "3 rows read",
        "2 new traces of 2 new problems (1 without a gold answer)",
        "1 of them were cut",
        "1 rows or attempts set aside in mine/imports.rejected.jsonl",
        "1 × lacks the field 'text'",
        "next: distill filter --run mine",
    ):
        assert line in done.stdout
    first = json.loads((tmp_path / "mine/traces.jsonl").read_text().splitlines()[0])
    shown = distill("show", first["id"][:8], "--run", "mine", cwd=tmp_path)
    assert "\\boxed{4}" in shown.stdout
    again = distill("import", "rows.jsonl", "--map", "real-traces", "--run", "mine", "--limit", "1", cwd=tmp_path)
    assert "1 attempts were there from an earlier import" in again.stdout


@pytest.mark.slow
def test_a_map_may_be_a_file_and_names_the_run(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"q": "2+2?", "a": "<think>\\nAdd.\\n</think>\\n\\n4"}\n')
    (tmp_path / "own.yaml").write_text("prompt: '{q}'\ntext: a\n")
    done = distill("import", "rows.jsonl", "--map", "own.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs/own/traces.jsonl").stat().st_size


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("import nowhere.jsonl --map real-traces", "no such file: nowhere.jsonl"),
        ("import rows.jsonl", "name one with --map"),
        ("import rows.jsonl --map real-trace", "did you mean real-traces"),
        ("import rows.jsonl --map real-traces", "fits the map 'real-traces'"),
        ("import rows.jsonl --map real-traces --limit 0", "Invalid value"),
    ],
)
def test_wrong_input_is_one_message_and_status_2(words: str, message: str, tmp_path: Path, run_here: Run) -> None:
    (tmp_path / "rows.jsonl").write_text('{"question": "2+2?"}\n')
    done = run_here(*words.split())
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
