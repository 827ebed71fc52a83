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
    """The field that holds all options, or one field for each."""
    right: str | None = None
    """The field with the index of the right option, from 0; None: the right option is the first."""
    shuffle: int | None = None
    """Seed of the options' new order, which depends on nothing else but their texts; None keeps the order given."""


class ProblemSet(Record):
    """A problem set: where it lies and how its rows become problems."""

    name: str
    description: str = ""
    source: Literal["jsonl", "hub", "reasoning_gym"]
    splits: dict[str, str] = {}
    """Split name to file (jsonl, relative to the YAML), to the dataset's split (hub), or to the JSON-lines files of a
    Hub repository, joined by `+`, where it has a loading script that `datasets` refuses."""
    dataset: str | None = None
    """Hub id, a folder with the same files, or the name of a reasoning-gym task."""
    config: str | None = None
    revision: str | None = None
    stream: bool = False
    """Read a large Hub dataset as it comes in place of downloading it whole first."""
    options: dict[str, object] = {}
    """Settings of a reasoning-gym task: `size`, `seed` and those of its own."""
    prompt: str = "{problem}"
    """The user turn; {field} inserts a field of the row, lists joined by commas."""
    answer: str | dict[str, str] | None = "answer"
    """Field of the gold answer, or a mapping of names to fields."""
    answer_after: str | None = None
    """The gold is what follows the last occurrence of this mark (GSM8K: ####)."""
    answer_parts: bool = False
    """A list of golds names the parts of one answer, which needs them all; otherwise any of them will do."""
    choices: Choices | None = None
    """Where the options of a multiple-choice question are; the gold is then the letter of the right one."""
    layout: Literal["livecodebench"] | None = None
    """Layout of rows that only code of their own can read."""
    private: bool = False
    """The authors ask that questions are not published: problems carry `private` in their metadata, and nothing that
    is made to be passed on may show them."""
    verifier: dict[str, object] = {"kind": "math"}
    language: str = "en"
    licence: str | None = None


class RejectedProblem(Record):
    """A row that could not become a problem, kept with its line number."""

    line: int
    reason: str
    row: str


OnBad = Callable[[RejectedProblem], None]
FindFault = Callable[[Problem], str]
"""Says why a problem must not be used; empty if it may."""


def shipped_sets() -> list[str]:
    return resources.names("data")


def find(ref: str) -> tuple[ProblemSet, str, Path]:
    """The set, the split asked for (empty: the caller's default) and the folder that its files are relative to."""
    name, _, split = ref.partition(":")
    if name.endswith(".jsonl"):
        path = Path(name)
        if not path.is_file():
            raise InputError(f"no such problem file: {name}", fix=f"or a shipped set: {', '.join(shipped_sets())}")
        return ProblemSet(name=path.stem, source="jsonl", splits={"train": path.name}), split or "train", path.parent
    path = resources.find("data", name, "problem set")
    try:
        problem_set = ProblemSet.model_validate(resources.load_yaml(path))
    except ValidationError as error:
        raise from_validation(error, str(path)) from error
    if split and split not in problem_set.splits:
        raise InputError(f"set {problem_set.name} has no split {split!r}", fix=suggest(split, problem_set.splits))
    return problem_set, split, path.parent


def _source_split(problem_set: ProblemSet, requested: str, default: str) -> str:
    split = requested
    if not split:
        split = default if default in problem_set.splits else next(iter(problem_set.splits), "")
    return problem_set.splits.get(split, split)


def local_files(ref: str, default_split: str) -> list[Path]:
    """The local files that a set is read from, its YAML included: work on it is fresh while they do not change."""
    problem_set, requested, folder = find(ref)
    name = ref.partition(":")[0]
    paths = []
    if not name.endswith(".jsonl"):
        paths.append(resources.find("data", name, "set"))
    if problem_set.source == "jsonl":
        paths.append(folder / _source_split(problem_set, requested, default_split))
    return paths


def hub_commit(ref: str) -> str | None:
    """The commit that a Hub set is loaded from, 40 hex digits; None for other sets and where the Hub does not say."""
    problem_set, _, _ = find(ref)
    if problem_set.source != "hub":
        return None
    return _commit(str(problem_set.dataset), problem_set.revision)


@cache
def _commit(dataset: str, revision: str | None) -> str | None:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    if revision and re.fullmatch("[0-9a-f]{40}", revision):
        return revision
    # its bases are OSError and the root of the HTTP client's errors, whichever client this version has
    lookup_errors: tuple[type[Exception], ...] = (ValueError, *HfHubHTTPError.__bases__)
    try:
        if Path(dataset).is_dir():
            return None
        return HfApi().dataset_info(dataset, revision=revision).sha
    except lookup_errors:
        return None


def load(
    ref: str,
    default_split: str,
    limit: int | None = None,
    on_bad: OnBad | None = None,
    find_fault: FindFault | None = None,
) -> Iterator[Problem]:
    """Problems of a set in file order, duplicates (same prompt) left out; streams.

    Args:
        on_bad: takes rows that are broken or repeated or have a fault; without it such a row is an error.
        find_fault: looks at each problem, such as `gold_checks.screen()`.

    Raises:
        InputError: the set, split or file does not exist, or a broken row without `on_bad`.
    """
    problem_set, requested, folder = find(ref)
    split = _source_split(problem_set, requested, default_split)
    return islice(_problems(problem_set, split, folder, on_bad, find_fault), limit)


def _problems(
    problem_set: ProblemSet, split: str, folder: Path, on_bad: OnBad | None, find_fault: FindFault | None
) -> Iterator[Problem]:
    first_lines: dict[str, int] = {}

    def reject(line: int, reason: str, row: object) -> None:
        if on_bad is None:
            raise InputError(
                f"line {line}: {reason}", where=f"problem set {problem_set.name}", fix=f"row: {str(row)[:120]}"
            )
        on_bad(RejectedProblem(line=line, reason=reason, row=str(row)))

    for line, row in _rows(problem_set, split, folder, reject):
        try:
            problem = _problem(problem_set, row)
        except KeyError as error:
            reject(line, f"lacks the field {error}", row)
        except ValidationError as error:
            reject(line, from_validation(error, "").message, row)
        except ValueError as error:
            reject(line, str(error), row)
        else:
            fault = ""
            if problem.id in first_lines:
                fault = f"repeats line {first_lines[problem.id]}"
            elif find_fault:
                fault = find_fault(problem)
            if fault:
                reject(line, fault, row)
            else:
                first_lines[problem.id] = line
                yield problem


def _rows(
    problem_set: ProblemSet, split: str, folder: Path, reject: Callable[[int, str, object], None]
) -> Iterator[tuple[int, Mapping[str, object]]]:
    if problem_set.source == "jsonl":
        yield from jsonl.rows(folder / split, lambda number, text: reject(number, "is not a JSON object", text))
    elif problem_set.source == "hub":
        yield from enumerate(_hub_rows(problem_set, split), 1)
    else:
        yield from enumerate(_gym_rows(problem_set), 1)


def _hub_rows(problem_set: ProblemSet, split: str) -> Iterator[Mapping[str, object]]:
    dataset = str(problem_set.dataset)
    revision = _commit(dataset, problem_set.revision) or problem_set.revision
    try:
        if split.endswith(".jsonl"):
            yield from _file_rows(dataset, revision, split.split("+"))
            return
        import datasets

        # whole, not streamed: streaming imports torch, which evaluating a served model does without
        yield from datasets.load_dataset(
            dataset, problem_set.config, split=split, revision=revision, streaming=problem_set.stream
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"cannot load dataset {dataset}: {str(error).splitlines()[0]}",
            where=f"problem set {problem_set.name}",
            fix="check the network, HF_ENDPOINT and access, or give a local .jsonl with --problems",
        ) from error


def _file_rows(dataset: str, revision: str | None, file_names: list[str]) -> Iterator[Mapping[str, object]]:
    from huggingface_hub import hf_hub_download

    for name in file_names:
        local = Path(dataset) / name
        if not local.is_file():
            local = Path(hf_hub_download(dataset, name, repo_type="dataset", revision=revision))
        for _, row in jsonl.rows(local):
            yield row


def _gym_rows(problem_set: ProblemSet) -> Iterator[Mapping[str, object]]:
    try:
        import reasoning_gym
    except ImportError as error:
        raise InputError("needs reasoning-gym", fix="pip install 'distill[reasoning-gym]'") from error
    for entry in reasoning_gym.create_dataset(str(problem_set.dataset), **problem_set.options):
        yield {**entry, "entry": {"task": problem_set.dataset, **entry}}


def _problem(problem_set: ProblemSet, row: Mapping[str, Any]) -> Problem:
    if problem_set.layout == "livecodebench":
        row = livecodebench.parse_row(row)
    if problem_set.choices:
        row = {**row, **_choice_fields(problem_set.choices, row)}
    # columns of these names mean something else in other people's sets
    overrides = row if problem_set.source == "jsonl" else {}
    if "messages" in overrides:
        messages = tuple(Message.model_validate(message) for message in overrides["messages"])
    else:
        values = {k: ", ".join(map(str, v)) if isinstance(v, list | tuple) else v for k, v in row.items()}
        messages = (Message(role="user", content=problem_set.prompt.format_map(values)),)
    if not any(message.content.strip() for message in messages):
        raise ValueError("is empty")
    return Problem.make(
        messages,
        answer=row["letter"] if problem_set.choices else _answer(problem_set, row),
        verifier=overrides.get("verifier", problem_set.verifier),
        set=overrides.get("set", problem_set.name),
        language=overrides.get("language", problem_set.language),
        licence=overrides.get("licence", problem_set.licence),
        metadata={"private": True} if problem_set.private else {},
    )


def _choice_fields(choices: Choices, row: Mapping[str, Any]) -> dict[str, str]:
    """The options as lines, and the letter of the right one.

    Raises:
        ValueError: there are fewer than two options or more than letters, or none of them is the right one.
    """
    options = row[choices.options] if isinstance(choices.options, str) else [row[name] for name in choices.options]
    texts = [str(option).strip() for option in options]
    right_index = 0 if choices.right is None else row[choices.right]
    if not 2 <= len(texts) <= len(ascii_uppercase):
        raise ValueError(f"has {len(texts)} options")
    if isinstance(right_index, bool) or not isinstance(right_index, int) or not 0 <= right_index < len(texts):
        raise ValueError(f"its right option is {right_index!r} of {len(texts)}")
    order = list(range(len(texts)))
    if choices.shuffle is not None:
        order.sort(key=lambda index: content_id("option", choices.shuffle, texts, index))
    lines = [f"{letter}) {texts[index]}" for letter, index in zip(ascii_uppercase, order, strict=False)]
    return {"choices": "\n".join(lines), "letter": ascii_uppercase[order.index(right_index)]}


def _answer(problem_set: ProblemSet, row: Mapping[str, object]) -> object:
    if isinstance(problem_set.answer, dict):
        return {name: row[source] for name, source in problem_set.answer.items()}
    answer = row.get(problem_set.answer) if problem_set.answer else None
    if problem_set.answer_parts and isinstance(answer, list | tuple):
        return ", ".join(map(str, answer))
    if problem_set.answer_after and isinstance(answer, str):
        if problem_set.answer_after not in answer:
            raise ValueError(f"its answer lacks the mark {problem_set.answer_after!r}")
        return answer.rsplit(problem_set.answer_after, 1)[1].strip()
    return answer
