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
"""Seconds after which a build that no process of this machine is at is none of another machine with the same home."""


def check() -> None:
    """To be called before processes start that use DeepSpeed.

    Raises:
        RunError: an operator's build was killed; names its lock.
    """
    for lock in locks(_names()):
        with contextlib.suppress(FileNotFoundError):  # that build has just ended
            age = time.time() - lock.stat().st_mtime
            if _held(lock):
                LOG.info("DeepSpeed's %s is being compiled by another process: training waits for it", lock.parent.name)
            elif age < _LONG:
                LOG.warning(
                    "%s is %d s old and no process here has it open: training waits while another machine compiles",
                    *(lock, age),
                )
            else:
                raise RunError(
                    f"a killed build left this lock {age / 60:,.0f} minutes ago; DeepSpeed would wait for it for ever",
                    where=str(lock),
                    fix=f"rm {shlex.quote(str(lock))}",
                )


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


def _held(lock: Path) -> bool:
    """Whether a process of this machine has the file open; those of other users do not tell."""
    of = lock.resolve()
    for path in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if Path(os.readlink(path)) == of:
                return True
    return False
