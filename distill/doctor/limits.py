"""What the cgroups of this process allow, of versions 1 and 2."""

from __future__ import annotations

import contextlib
from pathlib import Path


def memory(root: Path = Path("/")) -> int | None:
    """Bytes of memory that this process's cgroup and those above it allow; None without a limit."""
    texts = _cgroup_files(root, "memory", "memory.max", "memory.limit_in_bytes")
    sizes = [int(text) for text in texts if text.isdecimal()]
    return min((size for size in sizes if size < 1 << 60), default=None)


def cores(root: Path = Path("/")) -> float | None:
    """Cores' worth of time that the cgroups allow: version 2's `quota period`, or version 1's two files."""
    pairs = [text.split() for text in _cgroup_files(root, "cpu", "cpu.max")]
    quotas = _cgroup_files(root, "cpu", "cpu.cfs_quota_us")
    periods = _cgroup_files(root, "cpu", "cpu.cfs_period_us")
    pairs += [list(pair) for pair in zip(quotas, periods, strict=False)]
    shares = [int(quota) / int(period) for quota, period in pairs if quota.isdecimal()]  # not `max`, nor -1
    return min(shares, default=None)


def _cgroup_files(root: Path, controller: str, *names: str) -> list[str]:
    """The contents of these files of this process's cgroup, and of those above it."""
    contents: list[str] = []
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and controller not in controllers.split(","):
                continue
            top = root / "sys/fs/cgroup" / (controller if controllers else "")
            own_group = top / path.lstrip("/")
            for folder in (own_group, *(parent for parent in own_group.parents if parent.is_relative_to(top))):
                for name in names:
                    with contextlib.suppress(OSError):
                        contents.append((folder / name).read_text().strip())
    return contents
