"""Does a publication work? Loaded in a process of its own, as whoever downloads it would."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from distill.errors import InputError, RunError
from distill.models import chat
from distill.publishing.text import visible
from distill.types import Message

_LONGEST = 3600.0
"""Seconds: reading the largest students takes minutes."""
_SPARE = 64
_LOOKED_AT = 500


def model(folder: Path, rows: Path) -> str:
    """Read configuration, tokenizer and all weights, and let it finish replies that begin with a trace's reasoning.

    Args:
        rows: the set that it was trained on, whose shortest replies are taken; need not exist.

    Returns: what was seen, in words.

    Raises:
        RunError: it cannot be loaded, weights are missing, or no reply ends.
    """
    told = _run("model", folder, {"starts": _starts(folder, rows)})
    if not told["ended"]:
        raise RunError(
            f"loads, but none of {told['asked']} replies ended",
            where=str(folder),
            fix="train longer; `distill eval` tells how many replies are cut (publish.load=false skips this)",
        )
    return f"loads, {told['ended']} of {told['asked']} replies end"


def dataset(folder: Path, count: int) -> str:
    """
    Raises:
        RunError: `datasets` cannot read it, or finds another number of rows.
    """
    told = _run("dataset", folder, {})
    if told["rows"] != count:
        raise RunError(f"has {told['rows']:,} rows for `datasets`, and should have {count:,}", where=str(folder))
    return f"loads, {count:,} rows"


def _starts(folder: Path, rows: Path, most: int = 4) -> list[tuple[list[int], int]]:
    """Token ids to go on from, with the tokens that an answer may take."""
    try:
        tokenizer = chat.Tokenizer(str(folder))
    except InputError as error:
        raise RunError(error.what, where=error.where, fix=error.fix) from error
    tags, found = chat.Tags(), []
    for messages in _shortest(rows, most):
        reasoning, closed, answer = messages[-1].content.partition(tags.close)
        prompt = tokenizer.prompt(messages[:-1], tags)
        said = reasoning.lstrip().removeprefix(prompt.prefill.strip()).lstrip("\n") if prompt.prefill else reasoning
        found.append(([*prompt.ids, *tokenizer.encode(said + closed)], tokenizer.count(answer) + _SPARE))
    if not found:
        ids = tokenizer.prompt((Message(role="user", content="What is 2 + 3?"),), tags).ids
        found = [(list(ids), 512)]
    return found


def _shortest(rows: Path, most: int) -> list[tuple[Message, ...]]:
    """The shortest conversations among the first rows that think and answer."""
    if not rows.is_file():
        return []
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(rows) as file:
        batch = next(file.iter_batches(_LOOKED_AT, columns=["messages"]), None)
    told = [] if batch is None else batch.column("messages").to_pylist()
    able = [row for row in told if len(row) > 1 and chat.Tags().close in row[-1]["content"]]
    able.sort(key=lambda row: sum(len(turn["content"]) for turn in row))
    return [tuple(Message.model_validate(turn) for turn in row) for row in able[:most]]


def _run(kind: str, folder: Path, asked: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="distill-") as place:
        question = Path(place) / "asked.json"
        question.write_text(json.dumps(asked))
        answer = Path(place) / "told.json"
        command = [sys.executable, "-m", "distill.publishing.loader", kind, str(folder), str(question), str(answer)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST, check=False)
        except subprocess.TimeoutExpired as error:
            raise RunError(f"was not loaded within {_LONGEST / 3600:g} h", where=str(folder), fix=_SKIP) from error
        if done.returncode or not answer.is_file():
            last = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
            raise RunError(f"does not load: {visible(last)}", where=str(folder), fix=_SKIP)
        return dict(json.loads(answer.read_bytes()))


_SKIP = "look at the folder; where the machine is too small for it, --set publish.load=false"
