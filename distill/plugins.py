"""A kind is a file: `filters/length.py` is the filter `length`, with a `Config` and a `build(config, …)`.

Names are read from the folder without importing anything; a user's own file works as `kind: ./mine.py`.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from distill.errors import InputError, from_validation, suggest
from distill.types import Record, content_id

_HERE = Path(__file__).parent
_JUDGING_ROOMS = frozenset({"answers", "filters", "judges", "programs", "sandbox", "text", "verifiers"})
"""Where it is decided what an outcome is; other rooms only carry it there."""
_RUN_BY_NAME = "distill.sandbox.inside"
"""A room whose modules are copied into a sandbox by their names, so that no import tells which."""


def names(family: str) -> list[str]:
    """Kinds of a family (`verifiers`, `filters`, `rewards`, `backends`), sorted, nothing imported."""
    return sorted(path.stem for path in (_HERE / family).glob("*.py") if not path.stem.startswith("_"))


@cache
def load(family: str, kind: str) -> ModuleType:
    """The module of a kind.

    Raises:
        InputError: no such kind or file, or the file lacks `Config` or `build`.
    """
    if kind.endswith(".py"):
        module = _load_file(Path(kind))
    elif kind in names(family):
        module = importlib.import_module(f"distill.{family}.{kind}")
    else:
        raise InputError(f"unknown kind {kind!r} of {family}", fix=suggest(kind, names(family)) + ", or ./a_file.py")
    for attribute in ("Config", "build"):
        if not hasattr(module, attribute):
            raise InputError(f"has no `{attribute}`", where=kind, fix="a plugin needs a `Config` and a `build`")
    return module


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(f"no such plugin file: {path}", fix="paths are relative to the working directory")
    name = f"distill_plugin_{content_id(str(path.resolve()))}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError("is not a Python file", where=str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def code_of(family: str, kind: str) -> dict[str, str]:
    """The code that a kind's outcomes depend on: its own file and all that it imports of the rooms that judge.

    Imports are read from the source, those inside functions included; nothing is run.

    Returns:
        Source texts by module name, a user's own file by its path as given; none for a kind that does not exist.
    """
    own_path = _HERE / family / f"{kind}.py"
    if kind.endswith(".py"):
        own_path = Path(kind)
    sources: dict[str, str] = {}
    pending = [(kind, own_path)]
    while pending:
        name, path = pending.pop()
        if name not in sources and path.is_file():
            sources[name] = path.read_text(encoding="utf-8")
            pending += _judging_imports(sources[name])
    return dict(sorted(sources.items()))


@lru_cache(maxsize=512)
def _judging_imports(source: str) -> tuple[tuple[str, Path], ...]:
    """Names and paths of the judging rooms' modules that a source text imports."""
    try:
        tree = ast.parse(source)
    except SyntaxError:  # told when the file is loaded
        return ()
    names_imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names_imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names_imported.add(node.module)
            names_imported.update(f"{node.module}.{alias.name}" for alias in node.names)
    modules: list[tuple[str, Path]] = []
    for name in sorted(names_imported):
        package, *parts = name.split(".")
        if package != "distill" or not parts or parts[0] not in _JUDGING_ROOMS:
            continue
        target = _HERE.joinpath(*parts)
        modules += [(name, target.with_suffix(".py")), (name, target / "__init__.py")]
        if name == _RUN_BY_NAME:
            modules += [(f"{name}.{path.stem}", path) for path in sorted(target.glob("*.py"))]
    return tuple(modules)


def describe(family: str, kind: str) -> str:
    """First line of a kind's docstring."""
    return (load(family, kind).__doc__ or "").strip().split("\n")[0]


def configure(family: str, options: Mapping[str, Any], *, name: str | None = None, where: str = "") -> Record:
    """Validate `options` (with `kind`, or `name` as the kind) into that kind's frozen Config.

    Raises:
        InputError: names the field at `where` and, for an unknown field, the choices.
    """
    settings = dict(options)
    kind = str(settings.pop("kind", name))
    try:
        config: Record = load(family, kind).Config.model_validate(settings)
    except ValidationError as error:
        config_type = load(family, kind).Config
        unknown_fields = [str(item["loc"][-1]) for item in error.errors() if item["type"] == "extra_forbidden"]
        invalid = from_validation(error, "", where, config_type)
        fix = suggest(unknown_fields[0], config_type.model_fields) if unknown_fields else None
        raise InputError(invalid.message, fix=fix) from error
    except InputError as error:
        raise InputError(error.message, where=where or None, fix=error.fix) from error
    return config


def build(family: str, options: Mapping[str, Any], *args: Any, name: str | None = None, where: str = "") -> Any:
    """Configure and build a kind in one step; further arguments go to its `build`."""
    kind = str(options.get("kind", name))
    return load(family, kind).build(configure(family, options, name=name, where=where), *args)
