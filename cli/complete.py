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

    return _matching(plugins.names("verifiers"), incomplete)


def runs(incomplete: str) -> list[str]:
    """Run folders below runs/, and any other folder."""
    run_folders = [str(path.parent) for path in Path("runs").glob("*/run.json")]
    other_folders = [str(path) for path in _files_beside(incomplete) if path.is_dir()]
    return _matching([*run_folders, *other_folders], incomplete)


def settings(incomplete: str) -> list[str]:
    """Places of settings, one level below what is typed so far; a name of the user's own is not offered."""
    from distill.errors import InputError
    from distill.explaining import places as explained

    try:
        listed = explained.below(incomplete.rpartition(".")[0])
    except InputError:
        return []
    return _matching([setting.place for setting in listed if setting.name != explained.NAME], incomplete)


def one_of(*names: str) -> Offer:
    return lambda incomplete: _matching(names, incomplete)


def _shipped(folder: str, incomplete: str, *extra_suffixes: str) -> list[str]:
    """Names in a shipped folder, and files of one's own."""
    from distill import resources

    suffixes = (".yaml", *extra_suffixes)
    own_files = [str(path) for path in _files_beside(incomplete) if path.suffix in suffixes or path.is_dir()]
    return _matching([*resources.names(folder), *own_files], incomplete)


def _files_beside(incomplete: str) -> Iterable[Path]:
    """Files that the typed text may become, once it looks like a path."""
    if not incomplete.startswith((".", "/", "~")) and "/" not in incomplete:
        return []
    typed = Path(incomplete)
    folder = (typed if incomplete.endswith("/") else typed.parent).expanduser()
    return folder.iterdir() if folder.is_dir() else []


def _matching(names: Iterable[str], incomplete: str) -> list[str]:
    # a path that begins with ./ is given back as it was typed, or the shell would drop it
    prefix = "./" if incomplete.startswith("./") else ""
    return sorted({prefix + name for name in names if (prefix + name).startswith(incomplete)})
