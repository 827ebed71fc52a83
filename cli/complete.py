"""What the shell is offered after TAB: names read from folders; nothing heavy is imported, and never at start-up."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

LISTS = ("teachers", "students", "problems", "verifiers", "filters", "rewards", "backends", "recipes", "runs")
"""What `distill ls` lists."""
METHODS = ("full", "lora", "qlora", "auto")
Offer = Callable[[str], list[str]]


def teachers(incomplete: str) -> list[str]:
    return _shipped("recipes/teachers", incomplete)


def students(incomplete: str) -> list[str]:
    return _shipped("recipes/students", incomplete)


def problems(incomplete: str) -> list[str]:
    return _shipped("data", incomplete, ".jsonl")


def recipes(incomplete: str) -> list[str]:
    return _shipped("recipes", incomplete)


def maps(incomplete: str) -> list[str]:
    return _shipped("recipes/imports", incomplete)


def verifiers(incomplete: str) -> list[str]:
    from distill import plugins

    return _fitting(plugins.names("verifiers"), incomplete)


def runs(incomplete: str) -> list[str]:
    """Run folders below runs/, and any other folder."""
    found = [str(path.parent) for path in Path("runs").glob("*/run.json")]
    return _fitting([*found, *(str(path) for path in _beside(incomplete) if path.is_dir())], incomplete)


def one_of(*names: str) -> Offer:
    return lambda incomplete: _fitting(names, incomplete)


def _shipped(under: str, incomplete: str, *more: str) -> list[str]:
    """Names in a shipped folder, and files of one's own."""
    from distill import resources

    suffixes = (".yaml", *more)
    own = [str(path) for path in _beside(incomplete) if path.suffix in suffixes or path.is_dir()]
    return _fitting([*resources.names(under), *own], incomplete)


def _beside(incomplete: str) -> Iterable[Path]:
    """Files that the word may become, once it looks like a path."""
    if not incomplete.startswith((".", "/", "~")) and "/" not in incomplete:
        return []
    start = Path(incomplete)
    folder = start if incomplete.endswith("/") else start.parent
    return folder.expanduser().iterdir() if folder.expanduser().is_dir() else []


def _fitting(names: Iterable[str], incomplete: str) -> list[str]:
    # a path that begins with ./ is given back as it was typed, or the shell would drop it
    dot = "./" if incomplete.startswith("./") else ""
    return sorted({dot + name for name in names if (dot + name).startswith(incomplete)})
