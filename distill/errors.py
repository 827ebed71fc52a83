"""Errors with an address: what was given, where, and what to do.

DistillError               anything distill itself raises
├── InputError             what was given is wrong (a recipe, a file, an option): exit status 2
├── RunError               the input was fine, the run failed (a server died, the disk is full): exit status 1
│   └── BackendError       a model could not be reached, started or used
└── Stopped                told to stop (SIGTERM), and did so in good order: exit status 0
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ValidationError

from distill.settings import meanings


class DistillError(Exception):
    """Base of all errors raised on purpose; `str()` is the whole message for the user."""

    exit_code = 1

    def __init__(self, message: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.message = message
        self.where = where
        self.fix = fix
        parts = [f"{where}: {message}" if where else message]
        if fix:
            parts.append(f"  → {fix}")
        super().__init__("\n".join(parts))


class InputError(DistillError):
    exit_code = 2


class RunError(DistillError):
    exit_code = 1


class BackendError(RunError):
    pass


class Stopped(DistillError):
    exit_code = 0


def suggest(name: str, choices: Iterable[str]) -> str:
    """A remedy for a mistyped name: the closest choice, then all of them."""
    names = sorted(choices)
    nearest = closest(name, names)
    listing = f"choices: {', '.join(names) or 'none'}"
    return f"did you mean {nearest}? {listing}" if nearest else listing


def closest(name: str, choices: Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, sorted(choices), n=1)), None)


def from_validation(
    error: ValidationError, where: str, prefix: str = "", config: type[BaseModel] | None = None
) -> InputError:
    """Turn pydantic's report into one message that names each place, the value and what it should be.

    A line's context may hold a remedy as `fix`, of which the first is the error's, and as `meaning` what the setting
    means.

    Args:
        config: the class that was validated, of which the message quotes what each wrong setting means.
    """
    lines = []
    fixes = []
    for item in error.errors(include_url=False):
        field = ".".join(str(part) for part in ((prefix,) if prefix else ()) + item["loc"])
        context = item.get("ctx", {})
        message = _plain_message(item["type"], item["msg"])
        if item["type"] not in ("missing", "extra_forbidden", "kind"):
            message += f" (given: {item['input']!r:.80})"
        meaning = context.get("meaning", "")
        if config is not None and not meaning:
            meaning = meanings.quoted(config, item["loc"])
        if meaning and item["type"] not in ("extra_forbidden", "kind"):
            message += f" ({meaning})"
        lines.append(f"{field}: {message}" if field else message)
        fixes.append(context.get("fix"))
    return InputError("; ".join(lines), where=where, fix=next(filter(None, fixes), None))


def _plain_message(error_type: str, message: str) -> str:
    return {"extra_forbidden": "no such field", "missing": "is required"}.get(error_type, message)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the file when writing fails (a full disk, a read-only folder): the bare OSError often does not."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"cannot write: {error.strerror or error}",
            where=str(path),
            fix="free some space or choose another folder with --run, then give the same command again",
        ) from error
