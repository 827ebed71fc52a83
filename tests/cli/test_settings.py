"""`distill settings`: what is printed, on any width, and offered after TAB."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

from distill.cli import complete

from distill.explaining import schema
from tests.cli.conftest import Run


def test_a_setting_is_one_line_with_type_default_and_meaning(run_here: Run) -> None:
    lines = run_here("settings", "filter.checks.length").stdout.splitlines()
    assert lines[0].split() == ["setting", "type", "default", "meaning"]
    assert " ".join(lines[2].split()) == (
        "max_tokens int ≥ 1 16384 Most tokens of the assistant's turn, reasoning included, as the student counts."
    )


def test_without_a_place_the_recipes_own_settings_are_listed_and_where_to_go_on(run_here: Run) -> None:
    shown = run_here("settings").stdout
    assert {"teacher", "student", "sft", "publish", "verifiers"} <= {line.split()[0] for line in shown.splitlines()}
    assert "`distill settings student_facts` shows what is in it." in shown


def test_kinds_are_listed_with_the_way_to_choose_one(run_here: Run) -> None:
    shown = run_here("settings", "generate.backend").stdout
    assert "vllm" in shown
    assert "{kind: chat, …}" in shown
    assert "{kind:" not in run_here("settings", "filter.checks").stdout


def test_a_typo_ends_with_status_2_and_the_nearest_names(run_here: Run) -> None:
    ended = run_here("settings", "grpo.bta")
    assert ended.exit_code == 2
    assert "did you mean beta?" in ended.stderr


def test_the_schema_is_printed_as_the_file_holds_it(run_here: Run) -> None:
    assert run_here("settings", "--schema").stdout == schema.text()


def test_on_a_narrow_terminal_a_meaning_stands_under_its_setting() -> None:
    lines = _on_a_terminal("settings", "filter.checks.length", columns=50)
    assert "max_tokens  int ≥ 1, default 16384" in lines
    assert all(len(line) <= 50 for line in lines)


def test_tab_offers_places_a_level_at_a_time() -> None:
    assert "sft" in complete.settings("s")
    assert complete.settings("filter.checks.le") == ["filter.checks.length"]
    assert complete.settings("sft.lora.r") == ["sft.lora.rank"]
    assert complete.settings("study.arms.") == []
    assert complete.settings("nothing.here") == []


def _on_a_terminal(*words: str, columns: int) -> list[str]:
    """The lines that a command prints on a terminal, without styles."""
    reader, terminal = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    command = [sys.executable, "-m", "distill.cli", *words]
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, env=environment):
        os.close(terminal)
        printed = b"".join(_pieces(reader))
    os.close(reader)
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", printed.decode()).splitlines()]


def _pieces(reader: int) -> Iterator[bytes]:
    with suppress(OSError):  # how Linux says that the other end was closed
        while piece := os.read(reader, 1 << 16):
            yield piece
