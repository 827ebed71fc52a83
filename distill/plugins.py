"""A kind is a file: `filters/length.py` is the filter `length`, with a `Config` and a `build(config, …)`.

Names are read from the folder without importing anything; a user's own file works as `kind: ./mine.py`. The base class
in a family's `__init__` says all that its kinds may offer. `Chosen` is a kind with its settings as a recipe holds them.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType
from typing import ClassVar, Generic, Literal, Self, TypeVar

from pydantic import GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from distill.errors import InputError, from_validation, suggest
from distill.settings import meanings
from distill.types import Record, content_id

_HERE = Path(__file__).parent
_JUDGING_ROOMS = frozenset({"answers", "filters", "judges", "programs", "sandbox", "text", "verifiers"})
"""Where it is decided what an outcome is; other rooms only carry it there."""
_RUN_BY_NAME = "distill.sandbox.inside"
"""A room whose modules are copied into a sandbox by their names, so that no import tells which."""


ChosenT = TypeVar("ChosenT", bound="Chosen")


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
        if attribute not in vars(module):
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


def _split(options: Mapping[str, object], name: str | None) -> tuple[str, dict[str, object]]:
    """The kind that options name, else `name`, and its settings."""
    return str(options.get("kind", name)), {key: value for key, value in options.items() if key != "kind"}


def _config(family: str, kind: str, settings: Mapping[str, object]) -> Record:
    config_type: type[Record] = load(family, kind).Config
    try:
        return config_type.model_validate(settings)
    except ValidationError as error:
        raise _with_choices(error, config_type) from error


def _with_choices(error: ValidationError, config_type: type[Record]) -> ValidationError:
    """The same report, with hints: the choices where a field does not exist, and else what the setting means."""
    lines = []
    for item in error.errors(include_url=False):
        hints = {"meaning": meanings.quoted(config_type, item["loc"])}
        if item["type"] == "extra_forbidden" and len(item["loc"]) == 1:
            hints = {"fix": suggest(str(item["loc"][0]), config_type.model_fields)}
        lines.append(_line(item["type"], item["msg"], item["loc"], item["input"], hints))
    return ValidationError.from_exception_data(error.title, lines)


def _line(
    type_name: str, message: str, location: tuple[int | str, ...], value: object, hints: Mapping[str, str]
) -> InitErrorDetails:
    """A line of a validation report; its hints are in the context, where `from_validation` looks for them."""
    context = {**hints, "message": message}
    return InitErrorDetails(type=PydanticCustomError(type_name, "{message}", context), loc=location, input=value)


def _moved(error: ValidationError, name: str) -> list[InitErrorDetails]:
    """The lines of a report on what stands under a name."""
    return [
        _line(item["type"], item["msg"], (name, *item["loc"]), item["input"], item.get("ctx", {}))
        for item in error.errors(include_url=False)
    ]


def _plain_schema(read: Callable[[object], object], write: Callable[[object], object]) -> CoreSchema:
    """A value that is read from a plain form by one function and written as it by another."""
    return core_schema.no_info_plain_validator_function(
        read,
        json_schema_input_schema=core_schema.any_schema(),
        serialization=core_schema.plain_serializer_function_ser_schema(write, return_schema=core_schema.any_schema()),
    )


@dataclass(frozen=True)
class Chosen:
    """A kind with its settings, validated once; in YAML and in run.json `{kind?, …}`, where true and null are `{}`.

    Each family has a child, which names it and knows what its kinds build. As a field of a Record it is read from the
    plain form and written as it, with nothing in it that was not set.
    """

    kind: str
    config: Record
    plain: Mapping[str, object] | Literal[True] | None
    """What was set, as it was written."""
    family: ClassVar[str]
    default: ClassVar[str | None] = None
    """The kind where neither settings nor a name says which."""
    contract: ClassVar[str]
    """The class that a `build` of the family returns an instance of, as one imports it."""

    @classmethod
    def of(cls, plain: object, name: str | None = None, where: str = "") -> Self:
        """The choice that a plain form stands for; a choice is returned as it is.

        Args:
            name: the kind where `plain` names none.

        Raises:
            InputError: names the field at `where` and, for an unknown field, the choices.
        """
        try:
            return cls._validated(plain, name)
        except ValidationError as error:
            invalid = from_validation(error, "", where)
            raise InputError(invalid.message, fix=invalid.fix) from error

    @classmethod
    def vet(cls, kind: str, config: Record) -> None:
        """Look at a Config of which a family asks more than to be one.

        Raises:
            InputError: it lacks something.
        """

    @classmethod
    def _validated(cls, plain: object, name: str | None = None) -> Self:
        """The same as `of`, with errors as pydantic has them inside a larger form."""
        if isinstance(plain, cls):
            return plain
        stored = dict(plain) if isinstance(plain, Mapping) else plain
        try:
            if not isinstance(stored, dict) and stored is not True and stored is not None:
                raise InputError(f"should hold settings as a mapping, or true or false, not {plain!r:.80}")
            kind, settings = _split(stored if isinstance(stored, dict) else {}, name or cls.default)
            config = cls._configured(kind, settings)
            cls.vet(kind, config)
        except InputError as error:
            line = _line("kind", error.message, (), plain, {"fix": error.fix} if error.fix else {})
            raise ValidationError.from_exception_data(cls.__name__, [line]) from error
        return cls(kind, config, stored)

    @classmethod
    def _configured(cls, kind: str, settings: Mapping[str, object]) -> Record:
        return _config(cls.family, kind, settings)

    def setting(self, name: str) -> object:
        """The value of a setting that not every kind has; None where this one has none of that name."""
        return dict(self.config).get(name)

    def _build(self, *args: object) -> object:
        """What the kind's own `build` makes of its Config and further arguments.

        Raises:
            InputError: a user's own file does not follow the family's contract.
        """
        module = load(self.family, self.kind)
        try:
            return module.build(self.config, *args)
        except TypeError as error:
            if not self.kind.endswith(".py"):
                raise
            raise InputError(f"cannot be built: {error}", where=self.kind, fix=self._remedy()) from error

    def _misbuilt(self, built: object) -> InputError:
        """The error for what is no instance of the family's class."""
        message = f"its `build` gives a {type(built).__name__}, which is no {self.contract.rpartition('.')[2]}"
        return InputError(message, where=self.kind, fix=self._remedy())

    def _remedy(self) -> str:
        return f"let `build` return an instance of a class derived from {self.contract}"

    def __reduce__(self) -> tuple[Callable[[object, str], Self], tuple[object, str]]:
        """By its plain form: a user's own file is a module of this process only."""
        return type(self)._validated, (self.plain, self.kind)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _plain_schema(cls._validated, _plain_of)


def _plain_of(chosen: object) -> object:
    return chosen.plain if isinstance(chosen, Chosen) else chosen


def _plain_of_all(choices: object) -> dict[str, object]:
    assert isinstance(choices, Mapping)
    return {name: _plain_of(chosen) for name, chosen in choices.items()}


class ByName(Generic[ChosenT]):
    """Annotates a mapping of names to choices of one family; a name is the kind, and false switches one off."""

    def __init__(self, chosen: type[ChosenT]) -> None:
        self.chosen = chosen

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _plain_schema(self._validated, _plain_of_all)

    def _validated(self, plain: object) -> dict[str, ChosenT | Literal[False]]:
        if not isinstance(plain, Mapping):
            raise PydanticCustomError("dict_type", "Input should be a mapping of names to settings")
        choices: dict[str, ChosenT | Literal[False]] = {}
        lines: list[InitErrorDetails] = []
        for name, options in plain.items():
            if options is False:
                choices[str(name)] = False
                continue
            try:
                choices[str(name)] = self.chosen._validated(options, str(name))
            except ValidationError as error:
                lines += _moved(error, str(name))
        if lines:
            raise ValidationError.from_exception_data(self.chosen.__name__, lines)
        return choices
