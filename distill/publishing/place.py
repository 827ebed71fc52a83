"""To a plain folder: copied beside it, read back and loaded, then put in its place by one rename."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from distill.errors import InputError, writing
from distill.publishing import folder as files
from distill.publishing.folder import MANIFEST, FileTable
from distill.store.replacing import replace_folder


def publish(
    source: Path, files_to_publish: FileTable, target: Path, verify_folder: Callable[[Path], None], *, replace: bool
) -> dict[str, object]:
    """Make the target hold exactly these files, once a copy beside it is verified.

    Raises:
        InputError: the folder holds what publishing did not put there.
        RunError: the disk, or what was read back differs.
    """
    if target.is_dir() and any(target.iterdir()):
        published_files = files.file_table(target)
        if published_files == files_to_publish:
            return {"changed": False, "url": str(target)}
        manifest = None
        if MANIFEST in published_files:
            manifest = files.read_manifest((target / MANIFEST).read_bytes())
        manifest_files = manifest or {}
        foreign_names = [
            name for name, file in published_files.items() if name != MANIFEST and manifest_files.get(name) != file
        ]
        if (manifest is None or foreign_names) and not replace:
            raise InputError(
                f"holds what was not published from here: {', '.join((foreign_names or [MANIFEST])[:3])}",
                where=str(target),
                fix="choose another folder, or --set publish.replace=true to replace it",
            )
    elif target.exists() and not target.is_dir():
        raise InputError("is a file", where=str(target), fix="give --to a folder")
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with writing(target):
        for name in files_to_publish:
            path = partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, path)
    try:
        files.require_same(files_to_publish, files.file_table(partial), str(partial))
        verify_folder(partial)
        replace_folder(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return {"changed": True, "url": str(target)}
