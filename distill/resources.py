"""Where recipes/ and data/ are: inside the installed package, or beside it in a checkout."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from distill.errors import InputError, suggest

_PACKAGE = Path(__file__).parent


def folder(name: str) -> Path:
    """The shipped folder `recipes` or `data`."""
    packaged = _PACKAGE / name
    if packaged.is_dir():
        return packaged
    return _PACKAGE.parent / name


def names(subfolder: str, pattern: str = "*.yaml") -> list[str]:
    """Names of the YAML files in a shipped folder such as `recipes/teachers`."""
    top, _, inner = subfolder.partition("/")
    return sorted(path.stem for path in (folder(top) / inner).glob(pattern))


def find(subfolder: str, ref: str, noun: str) -> Path:
    """The YAML file of a shipped name or of a path; `noun` says in errors what it describes, such as `recipe`.

    Raises:
        InputError: neither exists; lists the names.
    """
    if ref.endswith((".yaml", ".yml")):
        if not Path(ref).is_file():
            raise InputError(f"no such file: {ref}", fix=f"or a shipped {noun}: {', '.join(names(subfolder))}")
        return Path(ref)
    if ref not in names(subfolder):
        raise InputError(f"unknown {noun} {ref!r}", fix=suggest(ref, names(subfolder)) + "; or a path to a .yaml file")
    top, _, inner = subfolder.partition("/")
    return folder(top) / inner / f"{ref}.yaml"


class _Loader(yaml.SafeLoader):
    """YAML in which only true and false are booleans: `on` is a word, as in `filter: {on: ray}`."""


_BOOL = "tag:yaml.org,2002:bool"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOL]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile("true|false|True|False"), list("tTfF"))


def parse(text: str) -> Any:
    """YAML text as plain data.

    Raises:
        yaml.YAMLError: the text is not YAML.
    """
    return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader


def load_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping; errors name file, line and column."""
    try:
        loaded = parse(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        location = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise InputError(f"is not YAML: {error.problem}", where=location) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"cannot be read: {error}", where=str(path)) from error
    if not isinstance(loaded, dict):
        raise InputError("should hold a mapping (`key: value` lines)", where=str(path))
    return loaded
