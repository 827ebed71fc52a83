"""Locks that killed builds left: DeepSpeed compiles its operators at first use, and waits for a build without end.

torch.utils.cpp_extension puts a file `lock` into an operator's build folder and keeps it open until the build ends
(`FileBaton`). Every later start waits until that file is gone. A build that was killed leaves it for ever.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shlex
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from distill.errors import RunError

LOG = logging.getLogger("distill")
_LONG = 900.0
"""Seconds after which a lock on a shared file system that no process here has open is no other machine's either."""
_LOCAL = {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs"}
"""File systems that no other machine writes to."""
_LOOK = 1.0


def check() -> None:
    """To be called before processes start that use DeepSpeed; waits while another machine may be building.

    Raises:
        RunError: an operator's build was killed; names its lock.
    """
    for lock in locks(_names()):
        told = False
        while (age := _orphaned(lock)) is not None:
            if age >= _LONG or _local(lock):
                raise RunError(
                    f"no process holds this lock: a build of DeepSpeed's {lock.parent.name} was killed {age / 60:,.0f} "
                    "minutes ago, and every later start would wait for it for ever",
                    where=str(lock),
                    fix=f"rm {shlex.quote(str(lock))}",
                )
            if not told:
                LOG.warning("%s: no process here holds it; waiting for another machine to end its build", lock)
            told = True
            time.sleep(_LOOK)
        if lock.exists():
            LOG.info("DeepSpeed's %s is being compiled by another process: training waits for it", lock.parent.name)


def locks(names: set[str]) -> list[Path]:
    """The locks of operators of these names, where torch compiles for this Python."""
    if own := os.environ.get("TORCH_EXTENSIONS_DIR"):
        folders = [Path(own)]
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "torch_extensions"
        folders = sorted(cache.glob(f"py{sys.version_info.major}{sys.version_info.minor}{sys.abiflags}_*"))
    return [lock for folder in folders for lock in sorted(folder.glob("*/lock")) if lock.parent.name in names]


def _names() -> set[str]:
    """Of DeepSpeed's operators, read from its files: importing it would load torch."""
    found = find_spec("deepspeed")
    folders = [Path(place) for place in (found.submodule_search_locations or ())] if found else []
    files = (path for folder in folders for path in (folder / "ops" / "op_builder").rglob("*.py"))
    return {name for path in files for name in re.findall(r'^ +NAME = "(\w+)"', path.read_text(), re.MULTILINE)}


def _orphaned(lock: Path) -> float | None:
    """The age in seconds of a lock that no process of this machine has open; None if one has, or if it is gone.

    Processes of other users do not tell what they have open, but their builds are elsewhere.
    """
    for _ in range(2):  # between closing and removing it, its holder is not seen
        try:
            age = time.time() - lock.stat().st_mtime
        except FileNotFoundError:
            return None
        if _held(lock):
            return None
        time.sleep(0.2)
    return age


def _held(lock: Path) -> bool:
    of = lock.resolve()
    for path in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if Path(os.readlink(path)) == of:
                return True
    return False


def _local(path: Path) -> bool:
    """Whether a path lies on a file system of this machine alone."""
    of, found = path.resolve(), ("", "")
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, place, kind, *_ = line.split()
        place = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), place)  # as blanks are written
        if of.is_relative_to(place) and len(place) >= len(found[0]):
            found = place, kind
    return found[1] in _LOCAL
