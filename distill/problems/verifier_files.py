"""Verifiers of one's own: the files that rows of problem sets name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import orjson

from distill.store import log_parts


def own_verifiers(paths: Iterable[Path]) -> tuple[str, ...]:
    """Verifiers that rows of problem files name and that are a user's own file: their paths as given, sorted.

    Only rows that can name one are parsed; a broken row is told where problems are read.
    """
    kinds = set()
    for path in filter(Path.exists, paths):
        for _, line in log_parts.lines(path):
            if b'.py"' not in line:
                continue
            try:
                kinds.add(str(orjson.loads(line)["verifier"]["kind"]))
            except (orjson.JSONDecodeError, KeyError, TypeError):
                continue
    return tuple(sorted(kind for kind in kinds if kind.endswith(".py")))
