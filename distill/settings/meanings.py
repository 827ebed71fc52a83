"""What settings mean: the text below a field, read from the source when somebody asks for it.

Pydantic can take these texts as descriptions when it makes a class, which would cost every command a fifth of its
start for what few of them show.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Sequence
from functools import cache

from pydantic import BaseModel


@cache
def of(config: type[BaseModel]) -> dict[str, str]:
    """The meaning of each field that has a text, in the order of the fields; those of a base class count too."""
    texts: dict[str, str] = {}
    for base in reversed(config.__mro__):
        if issubclass(base, BaseModel) and base.__module__ != BaseModel.__module__:
            texts |= _own_texts(base)
    return {name: texts[name] for name in config.model_fields if name in texts}


def _own_texts(config: type[BaseModel]) -> dict[str, str]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(config)))
    except (OSError, TypeError):  # made at run time, or its file is gone
        return {}
    [definition] = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    texts: dict[str, str] = {}
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
            texts[field.target.id] = " ".join(below.value.value.split())
    return texts


def first_sentence(text: str) -> str:
    """What stands before the first full stop that ends a sentence, without it."""
    return re.split(r"\.(?:\s+(?=[A-Z`])|$)", text, maxsplit=1)[0]


def record_at(config: type[BaseModel], location: Sequence[int | str]) -> type[BaseModel] | None:
    """The class whose fields stand at a place below a config; None where no such class does."""
    annotation: object = config
    for part in location:
        annotation = inner(annotation, part)
    return record_in(annotation)


def inner(annotation: object, part: int | str) -> object:
    """The type of what lies under a name or a position in a value of a type; None where nothing can."""
    record = record_in(annotation)
    if record is not None:
        return record.model_fields[str(part)].annotation if part in record.model_fields else None
    for option in options(annotation):
        arguments = typing.get_args(option)
        if typing.get_origin(option) is dict:  # its keys are the user's
            return arguments[1]
        if typing.get_origin(option) in (tuple, list) and isinstance(part, int):
            return arguments[0]
    return None


def options(annotation: object) -> tuple[object, ...]:
    """The members of a union, and any other type alone."""
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        return tuple(member for union in typing.get_args(annotation) for member in options(union))
    return (annotation,)


def record_in(annotation: object) -> type[BaseModel] | None:
    """The record class that a type is, or allows beside others."""
    for option in options(annotation):
        if isinstance(option, type) and typing.get_origin(option) is None and issubclass(option, BaseModel):
            return option
    return None


def quoted(config: type[BaseModel], location: Sequence[int | str]) -> str:
    """The deepest setting on the way to a place, with the first sentence of its meaning; empty where there is none.

    What has settings of its own is not quoted: an error there speaks of how these go together.
    """
    if record_at(config, location) is not None:
        return ""
    for depth in range(len(location) - 1, -1, -1):
        owner = record_at(config, location[:depth])
        name = str(location[depth])
        if owner is not None and name in owner.model_fields:
            meaning = of(owner).get(name)
            return f"{name}: {first_sentence(meaning)}" if meaning else ""
    return ""
