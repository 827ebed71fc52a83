"""`distill report`: writes the page and says where it is."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from distill import recipe as recipes
from distill.progress import LOG, LogLines, Progress
from distill.run import Run
from distill.stages import report
from distill.stages.report import Config

from .. import settings
from ..progress import Bar


def execute(ref: str | None, folders: Sequence[Path], page_path: Path | None, changes: Sequence[str]) -> None:
    """Write the page and print where it is.

    Args:
        ref: a recipe whose run is meant where no folder is given.
        folders: of the runs; found by the recipe's name, or the default one's, when there are none.
    """
    config = settings.build(Config, "report", {"out": page_path}, changes)
    if not folders:
        name = recipes.load(ref).name if ref else recipes.DEFAULT_RECIPE
        folders = [Path("runs") / name]
    stderr_console = Console(stderr=True)
    progress: Progress = Bar(stderr_console) if stderr_console.is_terminal else LogLines()
    LOG.setLevel(logging.INFO)
    LOG.handlers = [logging.StreamHandler()]
    result = report.run([Run(folder) for folder in folders], config, progress)
    console = Console()
    console.print(
        f"{result['file']}: {_size(result['bytes'])}; open it in any browser",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    for reason in result["left_out"]:
        console.print(f"left out: {reason}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"next: {result['next']}", highlight=False, markup=False, soft_wrap=True)


def _size(byte_count: int) -> str:
    if byte_count >= 1e6:
        return f"{byte_count / 1e6:,.1f} MB"
    return f"{byte_count / 1e3:,.0f} kB"
