"""Replacing a file or folder whole: readers see the old one or the new one, never half, whenever the writer dies.

The new file is written beside the old one as `<name>.partial`, synced to disk, and renamed over it; then the folder is
synced, which makes the rename itself last. Renaming before syncing would be worse than nothing: after a loss of power
the name may stand for an empty file. A partial file goes with the failure that left it, or with the next writer.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from distill.errors import writing


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Give a binary file to write, which takes the place of `path` when the block ends; makes the path's folder.

    Args:
        durable: whether the new file is synced to disk; without, a loss of power may leave an empty one.

    Raises:
        RunError: the disk is full, for one; the old file is as it was.
    """
    with replacing_path(path, durable=durable) as partial, partial.open("wb") as file:
        yield file


@contextmanager
def replacing_path(path: Path, *, partial: Path | None = None, durable: bool = True) -> Iterator[Path]:
    """Give the path of a file to write, for writers that open it themselves; it takes the place of `path` at the end.

    Args:
        partial: another name for the unfinished file, where several processes may replace `path` at once.
        durable: whether the new file is synced to disk; without, a loss of power may leave an empty one.

    Raises:
        RunError: the disk is full, for one; the old file is as it was.
    """
    partial = partial or path.with_name(path.name + ".partial")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        try:
            yield partial
        except OSError as error:
            if error.filename is not None and Path(error.filename).parent != path.parent:
                raise  # it is about another file, which the block reads
            with writing(path):
                raise
        with writing(path):
            if durable:
                _sync(partial)
            os.replace(partial, path)
            if durable:
                sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):  # the failure itself is what matters
            partial.unlink(missing_ok=True)
        raise


def replace_folder(new: Path, path: Path) -> None:
    """Put a finished folder in another's place by one rename, by two where the other is there and not empty.

    Between the two the old one is `.<name>.old`; it is deleted once the new one is in its place.
    """
    with writing(path):
        if path.is_dir() and any(path.iterdir()):
            previous = path.with_name(f".{path.name}.old")
            shutil.rmtree(previous, ignore_errors=True)
            os.replace(path, previous)
            try:
                os.replace(new, path)
            except OSError:
                os.replace(previous, path)
                raise
            shutil.rmtree(previous, ignore_errors=True)
        else:
            os.replace(new, path)
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder last, where its file system can."""
    with contextlib.suppress(OSError):
        _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
