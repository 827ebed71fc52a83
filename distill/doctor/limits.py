"""What the cgroups of this process allow, of versions 1 and 2."""

from __future__ import annotations

import contextlib
from pathlib import Path


def memory(root: Path = Path("/")) -> int | None:
    """Bytes that the cgroups on the way up allow: version 2's memory.max, or version 1's; None without a limit."""
    found = [int(text) for text in _cgroup(root, "memory", "memory.max", "memory.limit_in_bytes") if text.isdecimal()]
    return min((size for size in found if size < 1 << 60), default=None)


def cores(root: Path = Path("/")) -> float | None:
    """Cores' worth of time: version 2's `quota period`, or version 1's two files."""
    pairs = [text.split() for text in _cgroup(root, "cpu", "cpu.max")]
    ones = zip(_cgroup(root, "cpu", "cpu.cfs_quota_us"), _cgroup(root, "cpu", "cpu.cfs_period_us"), strict=False)
    pairs += [list(pair) for pair in ones]
    shares = [int(quota) / int(period) for quota, period in pairs if quota.isdecimal()]  # not `max`, nor -1
    return min(shares, default=None)


def _cgroup(root: Path, controller: str, *names: str) -> list[str]:
    """What the files of this process's cgroup, and of those above it, say."""
    found: list[str] = []
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and controller not in controllers.split(","):
                continue
            top = root / "sys/fs/cgroup" / (controller if controllers else "")
            own = top / path.lstrip("/")
            for folder in (own, *(up for up in own.parents if up.is_relative_to(top))):
                for name in names:
                    with contextlib.suppress(OSError):
                        found.append((folder / name).read_text().strip())
    return found
