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
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def names(under: str, pattern: str = "*.yaml") -> list[str]:
    """Names of the YAML files in a shipped folder such as `recipes/teachers`."""
    top, _, rest = under.partition("/")
    return sorted(path.stem for path in (folder(top) / rest).glob(pattern))


def find(under: str, ref: str, what: str) -> Path:
    """The YAML file of a shipped name or of a path.

    Raises:
        InputError: neither exists; lists the names.
    """
    if ref.endswith((".yaml", ".yml")):
        if not Path(ref).is_file():
            raise InputError(f"no such file: {ref}", fix=f"or a shipped {what}: {', '.join(names(under))}")
        return Path(ref)
    if ref not in names(under):
        raise InputError(f"unknown {what} {ref!r}", fix=suggest(ref, names(under)) + "; or a path to a .yaml file")
    top, _, rest = under.partition("/")
    return folder(top) / rest / f"{ref}.yaml"


class _Loader(yaml.SafeLoader):
    """YAML in which only true and false are booleans: `on` is a word, as in `filter: {on: ray}`."""


_BOOL = "tag:yaml.org,2002:bool"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag != _BOOL]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile("true|false|True|False"), list("tTfF"))


def parse(text: str) -> Any:
    """YAML text as plain data.

    Raises:
        yaml.YAMLError: it is none.
    """
    return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader


def load_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping; errors name file, line and column."""
    try:
        loaded = parse(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise InputError(f"is not YAML: {error.problem}", where=place) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"cannot be read: {error}", where=str(path)) from error
    if not isinstance(loaded, dict):
        raise InputError("should hold a mapping (`key: value` lines)", where=str(path))
    return loaded
