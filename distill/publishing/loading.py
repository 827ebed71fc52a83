"""Does a publication work? Loaded in a process of its own, as whoever downloads it would."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from distill.errors import InputError, RunError
from distill.machine import children
from distill.models import chat
from distill.models.reasoning import Tags
from distill.publishing.text import visible
from distill.types import Message

if TYPE_CHECKING:
    from distill.publishing.loader import LoadingAnswer, LoadingQuestion

_TIMEOUT = 3600.0
"""Seconds that loading may take: reading the largest students takes minutes."""
_SPARE_TOKENS = 64
"""Tokens that a reply may take beyond the answer that it was trained on."""
_ROWS_READ = 500
"""Rows of the set among which the shortest are looked for."""


def load_model(folder: Path, set_path: Path) -> str:
    """Read configuration, tokenizer and all weights, and let it finish replies that begin with a trace's reasoning.

    Args:
        set_path: the set that it was trained on, whose shortest replies are taken; need not exist.

    Returns: what was seen, in words.

    Raises:
        RunError: it cannot be loaded, weights are missing, or no reply ends.
    """
    answer = _load_in_process("model", folder, {"starts": _reply_starts(folder, set_path)})
    if not answer["ended"]:
        raise RunError(
            f"loads, but none of {answer['replies']} replies ended",
            where=str(folder),
            fix="train longer; `distill eval` tells how many replies are cut (publish.load=false skips this)",
        )
    return f"loads, {answer['ended']} of {answer['replies']} replies end"


def load_dataset(folder: Path, row_count: int) -> str:
    """Load a set of traces with `datasets`, and count its rows.

    Returns: what was seen, in words.

    Raises:
        RunError: `datasets` cannot read it, or finds another number of rows.
    """
    answer = _load_in_process("dataset", folder, {})
    if answer["rows"] != row_count:
        raise RunError(f"has {answer['rows']:,} rows for `datasets`, and should have {row_count:,}", where=str(folder))
    return f"loads, {row_count:,} rows"


def _reply_starts(folder: Path, set_path: Path, max_starts: int = 4) -> list[tuple[list[int], int]]:
    """Token ids of each reply's start, with the tokens that the reply may take from there."""
    try:
        tokenizer = chat.Tokenizer(str(folder))
    except InputError as error:
        raise RunError(error.message, where=error.where, fix=error.fix) from error
    tags = Tags()
    starts = []
    for messages in _shortest_conversations(set_path, max_starts):
        reasoning, closed, answer = messages[-1].content.partition(tags.close)
        prompt = tokenizer.prompt(messages[:-1], tags)
        if prompt.prefill:
            reasoning = reasoning.lstrip().removeprefix(prompt.prefill.strip()).lstrip("\n")
        ids = [*prompt.ids, *tokenizer.encode(reasoning + closed)]
        starts.append((ids, tokenizer.count(answer) + _SPARE_TOKENS))
    if not starts:
        prompt = tokenizer.prompt((Message(role="user", content="What is 2 + 3?"),), tags)
        starts = [(list(prompt.ids), 512)]
    return starts


def _shortest_conversations(set_path: Path, max_conversations: int) -> list[tuple[Message, ...]]:
    """The shortest conversations among the first rows that think and answer."""
    if not set_path.is_file():
        return []
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(set_path) as file:
        batch = next(file.iter_batches(_ROWS_READ, columns=["messages"]), None)
    conversations = [] if batch is None else batch.column("messages").to_pylist()
    complete = [row for row in conversations if len(row) > 1 and Tags().close in row[-1]["content"]]
    complete.sort(key=lambda row: sum(len(turn["content"]) for turn in row))
    return [tuple(Message.model_validate(turn) for turn in row) for row in complete[:max_conversations]]


def _load_in_process(kind: str, folder: Path, question: LoadingQuestion) -> LoadingAnswer:
    """The answer of loader.py, which loads the folder in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="distill-") as temporary_folder:
        question_path = Path(temporary_folder) / "asked.json"
        question_path.write_text(json.dumps(question))
        answer_path = Path(temporary_folder) / "told.json"
        arguments = [kind, str(folder), str(question_path), str(answer_path)]
        ended = children.run_module("distill.publishing.loader", *arguments, seconds=_TIMEOUT)
        if ended.status is None:
            raise RunError(f"was not loaded within {_TIMEOUT / 3600:g} h", where=str(folder), fix=_SKIP_HINT)
        if ended.status or not answer_path.is_file():
            last_line = (ended.last_words.strip().splitlines() or ["it ended without a word"])[-1]
            raise RunError(f"does not load: {visible(last_line)}", where=str(folder), fix=_SKIP_HINT)
        answer: LoadingAnswer = json.loads(answer_path.read_bytes())
        return answer


_SKIP_HINT = "look at the folder; where the machine is too small for it, --set publish.load=false"
