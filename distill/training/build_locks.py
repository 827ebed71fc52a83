"""Locks that killed builds left: DeepSpeed compiles its operators at first use, and waits for a build without end.

torch.utils.cpp_extension puts a file `lock` into an operator's build folder and keeps it open until the build ends
(`FileBaton`). Every later start waits until that file is gone. A build that was killed leaves it for ever.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from distill.errors import RunError
from distill.progress import LOG

_STALE_AFTER = 900.0
"""Seconds after which a lock on a shared file system that no process here has open is no other machine's either."""
_LOCAL_SYSTEMS = {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs"}
"""File systems that no other machine writes to."""
_POLL_SECONDS = 1.0


def check() -> None:
    """Refuse locks that a killed build left, before processes start that use DeepSpeed.

    Waits while another machine may be building.

    Raises:
        RunError: an operator's build was killed; names its lock.
    """
    for lock in locks(_operator_names()):
        warned = False
        while (age := _orphan_age(lock)) is not None:
            if age >= _STALE_AFTER or _is_local(lock):
                raise RunError(
                    f"no process holds this lock: a build of DeepSpeed's {lock.parent.name} was killed {age / 60:,.0f} "
                    "minutes ago, and every later start would wait for it for ever",
                    where=str(lock),
                    fix=f"rm {shlex.quote(str(lock))}",
                )
            if not warned:
                LOG.warning("%s: no process here holds it; waiting for another machine to end its build", lock)
            warned = True
            time.sleep(_POLL_SECONDS)
        if lock.exists():
            LOG.info("DeepSpeed's %s is being compiled by another process: training waits for it", lock.parent.name)


def locks(names: set[str]) -> list[Path]:
    """The locks of operators of these names, where torch compiles for this Python."""
    if override := os.environ.get("TORCH_EXTENSIONS_DIR"):
        folders = [Path(override)]
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "torch_extensions"
        folders = sorted(cache.glob(f"py{sys.version_info.major}{sys.version_info.minor}{sys.abiflags}_*"))
    return [lock for folder in folders for lock in sorted(folder.glob("*/lock")) if lock.parent.name in names]


def _operator_names() -> set[str]:
    """The names of DeepSpeed's operators, read from its files: importing it would load torch."""
    spec = find_spec("deepspeed")
    if spec is None:
        return set()
    folders = [Path(location) for location in spec.submodule_search_locations or ()]
    files = (path for folder in folders for path in (folder / "ops" / "op_builder").rglob("*.py"))
    return {name for path in files for name in re.findall(r'^ +NAME = "(\w+)"', path.read_text(), re.MULTILINE)}


def _orphan_age(lock: Path) -> float | None:
    """The age in seconds of a lock that no process of this machine has open; None if one has it, or if it is gone.

    Processes of other users do not tell what they have open, but their builds are elsewhere.
    """
    for _ in range(2):  # between closing and removing it, its holder is not seen
        try:
            age = time.time() - lock.stat().st_mtime
        except FileNotFoundError:
            return None
        if _is_open(lock):
            return None
        time.sleep(0.2)
    return age


def _is_open(lock: Path) -> bool:
    """Whether a process that this user may look at has the file open."""
    resolved = lock.resolve()
    for path in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if Path(os.readlink(path)) == resolved:
                return True
    return False


def _is_local(path: Path) -> bool:
    """Whether a path lies on a file system of this machine alone."""
    resolved = path.resolve()
    longest = ""
    file_system = ""
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, mount_point, kind, *_ = line.split()
        mount_point = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), mount_point)  # as blanks are written
        if resolved.is_relative_to(mount_point) and len(mount_point) >= len(longest):
            longest = mount_point
            file_system = kind
    return file_system in _LOCAL_SYSTEMS
