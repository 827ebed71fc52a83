"""What this machine has, found without importing torch."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def gpus() -> int:
    """NVIDIA or AMD accelerators that the kernel shows."""
    nvidia = len(list(Path("/dev").glob("nvidia[0-9]*")))
    return nvidia or len(list(Path("/sys/class/kfd/kfd/topology/nodes").glob("[1-9]*")))


def installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
