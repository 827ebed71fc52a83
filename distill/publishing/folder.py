"""The folder to publish: files of the run and those written for it, with a manifest of them all."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import orjson

from distill.errors import InputError, RunError, writing
from distill.types import Record

MANIFEST = "distill.json"
_WEIGHT_SUFFIXES = (".safetensors", ".safetensors.index.json")
_NAME_PREFIXES = (
    "tokenizer",
    "special_tokens",
    "added_tokens",
    "vocab",
    "merges",
    "chat_template",
    "generation_config",
)
_FILE_NAMES = ("config.json", "adapter_config.json", "LICENSE", "LICENSE.txt", "NOTICE", "USE_POLICY.md")
_BOOKKEEPING = ("__pycache__", ".git", ".cache", ".DS_Store")


class File(Record):
    """One file of a publication."""

    size: int
    """Length of the file in bytes."""
    sha256: str
    git: str
    """Git's name of the file, the SHA-1 of a blob; the Hub lists small files by it."""


FileTable = dict[str, File]


def checkpoint_files(student: Path) -> dict[str, Path]:
    """The files of a trained model that others need, by name; `training_args.bin` and the like stay here.

    Raises:
        InputError: there are no weights.
    """
    files = {path.name: path for path in sorted(student.iterdir()) if path.is_file() and _is_published(path.name)}
    if not any(name.endswith(".safetensors") for name in files):
        raise InputError("has no weights (*.safetensors)", where=str(student), fix="run `distill sft` again")
    return files


def _is_published(name: str) -> bool:
    return name in _FILE_NAMES or name.endswith(_WEIGHT_SUFFIXES) or name.startswith(_NAME_PREFIXES)


def write(folder: Path, files: Mapping[str, Path], texts: Mapping[str, str]) -> FileTable:
    """Make the folder hold exactly these files and texts; on one disk the run's files take no room a second time.

    Returns: what the folder holds, by relative path.
    """
    shutil.rmtree(folder, ignore_errors=True)
    with writing(folder):
        folder.mkdir(parents=True)
        for name, source in files.items():
            if name in texts:  # never written through a link into the run
                continue
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(source, path)
            except OSError:
                shutil.copyfile(source, path)
        for name, text in texts.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
    return file_table(folder)


def file_table(folder: Path) -> FileTable:
    """Read sizes and hashes of all files of a folder; bookkeeping of git and of downloads is left out."""
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not set(name.parts) & set(_BOOKKEEPING):
            files[name.as_posix()] = describe_file(path)
    return files


def describe_file(path: Path) -> File:
    size = path.stat().st_size
    sha256_hash = hashlib.sha256()
    git_hash = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sha256_hash.update(block)
            git_hash.update(block)
    return File(size=size, sha256=sha256_hash.hexdigest(), git=git_hash.hexdigest())


def manifest(provenance: str, parts: Mapping[str, object], files: FileTable) -> str:
    """distill.json: what ties a publication to its run, and every other file of it."""
    content = {
        "made_by": "distill",
        "provenance": provenance,
        "of": dict(parts),
        "files": {name: file.model_dump() for name, file in sorted(files.items()) if name != MANIFEST},
    }
    return orjson.dumps(content, option=orjson.OPT_INDENT_2).decode() + "\n"


def read_manifest(text: bytes) -> FileTable | None:
    """The files that a manifest names; None if this is not one of ours."""
    try:
        content = orjson.loads(text)
        if content.get("made_by") != "distill":
            return None
        return {str(name): File.model_validate(file) for name, file in content["files"].items()}
    except (orjson.JSONDecodeError, AttributeError, KeyError, ValueError):
        return None


def require_same(written: FileTable, read_back: FileTable, where: str) -> None:
    """Compare what was read back with what was written.

    Raises:
        RunError: they differ; names the first file.
    """
    for name, file in written.items():
        if name not in read_back:
            raise RunError(f"{name} is missing in what was read back", where=where, fix="give the same command again")
        if read_back[name] != file:
            raise RunError(
                f"{name} read back differs: {read_back[name].size:,} bytes, {file.size:,} were written",
                where=where,
                fix="give the same command again",
            )
    if unexpected := sorted(set(read_back) - set(written) - {".gitattributes"}):
        raise RunError(f"{unexpected[0]} was not written and is there", where=where, fix="give the same command again")
