"""Problem sets to a stream of Problems: a Hub dataset, a local JSONL file, or a reasoning-gym task.

A set is one YAML in data/ (or anywhere) with facts only; `name:split` picks a split. A bare .jsonl path works too: its
rows hold `problem` (or `messages`), `answer`, and optionally `verifier`, `language`, `licence`, `set`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import islice
from pathlib import Path
from string import ascii_uppercase
from typing import Any, Literal

from pydantic import ValidationError

from distill import resources
from distill.errors import InputError, from_validation, suggest
from distill.problems import livecodebench
from distill.store import jsonl
from distill.types import Message, Problem, Record, content_id


class Choices(Record):
    """Where the options of a multiple-choice question are. They become `A) …` lines for `{choices}` of the prompt."""

    options: str | tuple[str, ...]
    """The field that holds them all, or one field for each."""
    right: str | None = None
    """The field with the place of the right one, from 0; None: it is the first."""
    shuffle: int | None = None
    """Seed of an order that depends on nothing else but the options themselves; None keeps the order given."""


class Set(Record):
    """A problem set: where it lies and how its rows become problems."""

    name: str
    description: str = ""
    source: Literal["jsonl", "hub", "reasoning_gym"]
    splits: dict[str, str] = {}
    """Split name to file (jsonl, relative to the YAML), to the dataset's split (hub), or to the JSON-lines files of a
    Hub repository, joined by `+`, where it has a loading script that `datasets` refuses."""
    dataset: str | None = None
    """Hub id or a folder with the same files, or reasoning-gym task."""
    config: str | None = None
    revision: str | None = None
    stream: bool = False
    """Read a large Hub dataset as it comes in place of downloading it whole first."""
    options: dict[str, Any] = {}
    """reasoning-gym: `size`, `seed` and the task's own settings."""
    prompt: str = "{problem}"
    """The user turn; {field} inserts a field of the row, lists joined by commas."""
    answer: str | dict[str, str] | None = "answer"
    """Field of the gold answer, or a mapping of names to fields."""
    answer_after: str | None = None
    """The gold is what follows the last occurrence of this mark (GSM8K: ####)."""
    answer_parts: bool = False
    """A list of golds names the parts of one answer, which needs them all; otherwise any of them will do."""
    choices: Choices | None = None
    """The gold is then the letter of the right option."""
    layout: Literal["livecodebench"] | None = None
    """Rows that only code of their own can read."""
    private: bool = False
    """The authors ask that questions are not published: problems carry `private` in their metadata, and nothing that
    is made to be passed on may show them."""
    verifier: dict[str, Any] = {"kind": "math"}
    language: str = "en"
    licence: str | None = None


class Rejected(Record):
    """A row that could not become a problem, kept with its place."""

    line: int
    reason: str
    row: str


OnBad = Callable[[Rejected], None]
Fault = Callable[[Problem], str]
"""Why a problem must not be used; empty if it may."""


def known() -> list[str]:
    return resources.names("data")


def find(ref: str) -> tuple[Set, str, Path]:
    """The set, the split (empty: the caller's default) and the folder that its files are relative to."""
    name, _, split = ref.partition(":")
    if name.endswith(".jsonl"):
        path = Path(name)
        if not path.is_file():
            raise InputError(f"no such problem file: {name}", fix=f"or a shipped set: {', '.join(known())}")
        return Set(name=path.stem, source="jsonl", splits={"train": path.name}), split or "train", path.parent
    path = resources.find("data", name, "problem set")
    try:
        found = Set.model_validate(resources.load_yaml(path))
    except ValidationError as error:
        raise from_validation(error, str(path)) from error
    if split and split not in found.splits:
        raise InputError(f"set {found.name} has no split {split!r}", fix=suggest(split, found.splits))
    return found, split, path.parent


def _split(found: Set, asked: str, default: str) -> str:
    split = asked or (default if default in found.splits else next(iter(found.splits), ""))
    return found.splits.get(split, split)


def files(ref: str, default_split: str) -> list[Path]:
    """The local files that a set is read from, its YAML included: work on it is fresh while they do not change."""
    found, asked, folder = find(ref)
    facts = [] if ref.partition(":")[0].endswith(".jsonl") else [resources.find("data", ref.partition(":")[0], "set")]
    return facts + ([folder / _split(found, asked, default_split)] if found.source == "jsonl" else [])


def commit(ref: str) -> str | None:
    """The commit that a Hub set is loaded from, 40 hex digits; None for other sets and where the Hub does not say."""
    found, _, _ = find(ref)
    return _commit(str(found.dataset), found.revision) if found.source == "hub" else None


@cache
def _commit(dataset: str, revision: str | None) -> str | None:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    if revision and re.fullmatch("[0-9a-f]{40}", revision):
        return revision
    # its bases are OSError and the root of the HTTP client's errors, whichever client this version has
    unknown: tuple[type[Exception], ...] = (ValueError, *HfHubHTTPError.__bases__)
    try:
        return None if Path(dataset).is_dir() else HfApi().dataset_info(dataset, revision=revision).sha
    except unknown:
        return None


def load(
    ref: str, default_split: str, limit: int | None = None, on_bad: OnBad | None = None, fault: Fault | None = None
) -> Iterator[Problem]:
    """Problems of a set in file order, duplicates (same prompt) left out; streams.

    Args:
        on_bad: takes rows that are broken or repeated or have a fault; without it such a row is an error.
        fault: looks at each problem, such as `golds.screen()`.

    Raises:
        InputError: the set, split or file does not exist, or a broken row without `on_bad`.
    """
    found, asked, folder = find(ref)
    split = _split(found, asked, default_split)
    return islice(_problems(found, split, folder, on_bad, fault), limit)


def _problems(found: Set, split: str, folder: Path, on_bad: OnBad | None, fault: Fault | None) -> Iterator[Problem]:
    seen: dict[str, int] = {}

    def bad(line: int, reason: str, row: Any) -> None:
        if on_bad is None:
            raise InputError(f"line {line}: {reason}", where=f"problem set {found.name}", fix=f"row: {str(row)[:120]}")
        on_bad(Rejected(line=line, reason=reason, row=str(row)))

    for line, row in _rows(found, split, folder, bad):
        try:
            problem = _problem(found, row)
        except KeyError as error:
            bad(line, f"lacks the field {error}", row)
        except ValidationError as error:
            bad(line, from_validation(error, "").what, row)
        except ValueError as error:
            bad(line, str(error), row)
        else:
            if problem.id in seen:
                bad(line, f"repeats line {seen[problem.id]}", row)
            elif reason := fault(problem) if fault else "":
                bad(line, reason, row)
            else:
                seen[problem.id] = line
                yield problem


def _rows(
    found: Set, split: str, folder: Path, bad: Callable[[int, str, Any], None]
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if found.source == "jsonl":
        yield from jsonl.rows(folder / split, lambda number, text: bad(number, "is not a JSON object", text))
    elif found.source == "hub":
        yield from enumerate(_hub(found, split), 1)
    else:
        yield from enumerate(_gym(found), 1)


def _hub(found: Set, split: str) -> Iterator[Mapping[str, Any]]:
    dataset, revision = str(found.dataset), _commit(str(found.dataset), found.revision) or found.revision
    try:
        if split.endswith(".jsonl"):
            yield from _files(dataset, revision, split.split("+"))
            return
        import datasets

        # whole, not streamed: streaming imports torch, which evaluating a served model does without
        yield from datasets.load_dataset(dataset, found.config, split=split, revision=revision, streaming=found.stream)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"cannot load dataset {dataset}: {str(error).splitlines()[0]}",
            where=f"problem set {found.name}",
            fix="check the network, HF_ENDPOINT and access, or give a local .jsonl with --problems",
        ) from error


def _files(dataset: str, revision: str | None, names: list[str]) -> Iterator[Mapping[str, Any]]:
    from huggingface_hub import hf_hub_download

    for name in names:
        local = Path(dataset) / name
        path = local if local.is_file() else hf_hub_download(dataset, name, repo_type="dataset", revision=revision)
        for _, row in jsonl.rows(Path(path)):
            yield row


def _gym(found: Set) -> Iterator[Mapping[str, Any]]:
    try:
        import reasoning_gym
    except ImportError as error:
        raise InputError("needs reasoning-gym", fix="pip install 'distill[reasoning-gym]'") from error
    for entry in reasoning_gym.create_dataset(str(found.dataset), **found.options):
        yield {**entry, "entry": {"task": found.dataset, **entry}}


def _problem(found: Set, row: Mapping[str, Any]) -> Problem:
    if found.layout == "livecodebench":
        row = livecodebench.row(row)
    if found.choices:
        row = {**row, **_chosen(found.choices, row)}
    own = row if found.source == "jsonl" else {}  # columns of these names mean something else in other people's sets
    if "messages" in own:
        messages = tuple(Message.model_validate(message) for message in own["messages"])
    else:
        shown = {k: ", ".join(map(str, v)) if isinstance(v, list | tuple) else v for k, v in row.items()}
        messages = (Message(role="user", content=found.prompt.format_map(shown)),)
    if not any(message.content.strip() for message in messages):
        raise ValueError("is empty")
    return Problem.make(
        messages,
        answer=row["letter"] if found.choices else _answer(found, row),
        verifier=own.get("verifier", found.verifier),
        set=own.get("set", found.name),
        language=own.get("language", found.language),
        licence=own.get("licence", found.licence),
        metadata={"private": True} if found.private else {},
    )


def _chosen(choices: Choices, row: Mapping[str, Any]) -> dict[str, str]:
    """The options as lines, and the letter of the right one.

    Raises:
        ValueError: there are fewer than two options or more than letters, or none of them is the right one.
    """
    given = row[choices.options] if isinstance(choices.options, str) else [row[name] for name in choices.options]
    texts = [str(option).strip() for option in given]
    right = 0 if choices.right is None else row[choices.right]
    if not 2 <= len(texts) <= len(ascii_uppercase):
        raise ValueError(f"has {len(texts)} options")
    if isinstance(right, bool) or not isinstance(right, int) or not 0 <= right < len(texts):
        raise ValueError(f"its right option is {right!r} of {len(texts)}")
    order = list(range(len(texts)))
    if choices.shuffle is not None:
        order.sort(key=lambda place: content_id("option", choices.shuffle, texts, place))
    lines = [f"{letter}) {texts[place]}" for letter, place in zip(ascii_uppercase, order, strict=False)]
    return {"choices": "\n".join(lines), "letter": ascii_uppercase[order.index(right)]}


def _answer(found: Set, row: Mapping[str, Any]) -> Any:
    if isinstance(found.answer, dict):
        return {name: row[source] for name, source in found.answer.items()}
    answer = row.get(found.answer) if found.answer else None
    if found.answer_parts and isinstance(answer, list | tuple):
        return ", ".join(map(str, answer))
    if found.answer_after and isinstance(answer, str):
        if found.answer_after not in answer:
            raise ValueError(f"its answer lacks the mark {found.answer_after!r}")
        return answer.rsplit(found.answer_after, 1)[1].strip()
    return answer
