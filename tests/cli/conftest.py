"""Commands in a process of their own, and without one for the tests that need none."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

Run = Callable[..., Result]


def distill(*words: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `distill WORDS` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "distill.cli", *words],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "160", **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.fixture
def run_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run `distill WORDS` in this process, with an empty folder as the working directory."""
    from distill.cli.app import app

    monkeypatch.chdir(tmp_path)
    yield lambda *words: CliRunner().invoke(app, words, env={"COLUMNS": "160"})
    log = logging.getLogger("distill")
    while log.handlers:  # a command's own, which end with its process
        log.handlers[0].close()
        log.removeHandler(log.handlers[0])
