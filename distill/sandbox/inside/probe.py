"""Runs inside the sandbox and tries to get out: prints a JSON list of what it could do and should not."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

_NEWUSER = 0x10000000


def network(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0


def outside(path: str) -> bool:
    return os.path.exists(path) or os.path.exists("/proc/1")


def writing() -> bool:
    for folder in (os.path.dirname(os.__file__), "/", "/usr", "/dev"):
        with contextlib.suppress(OSError), open(os.path.join(folder, "written"), "w"):
            return True
    return False


def memory(mib: int) -> bool:
    with contextlib.suppress(MemoryError):
        bytearray(2 * mib << 20)
        return True
    return False


def processes(count: int) -> bool:
    children: list[int] = []
    with contextlib.suppress(OSError):
        while len(children) <= count:
            if (pid := os.fork()) == 0:
                signal.pause()
            children.append(pid)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return len(children) > count


def disk(mib: int) -> bool:
    for folder in ("/tmp", "/dev/shm"):  # noqa: S108
        with contextlib.suppress(OSError):
            for number in range(2 * mib):
                with open(os.path.join(folder, f"fill{number}"), "wb") as file:
                    file.write(bytes(1 << 20))
            return True
    return False


def namespaces() -> bool:
    return bool(ctypes.CDLL(None).unshare(_NEWUSER) == 0)


def main() -> None:
    told: dict[str, Any] = json.loads(sys.stdin.read())
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    attempts: dict[str, Callable[[], bool]] = {
        "reach the network": lambda: network(told["port"]),
        "read files outside": lambda: outside(told["secret"]),
        "write to the system": writing,
        "take more memory": lambda: memory(told["memory"]),
        "start more processes": lambda: processes(told["processes"]),
        "fill the disk": lambda: disk(told["disk"]),
        "make a user namespace": namespaces,
        "be root": lambda: os.getuid() == 0,
    }
    print(json.dumps([name for name, attempt in attempts.items() if attempt()]))  # noqa: T201


if __name__ == "__main__":
    main()
