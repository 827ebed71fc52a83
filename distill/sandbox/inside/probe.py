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
from typing import TypedDict

_NEWUSER = 0x10000000


class ProbeSettings(TypedDict):
    """Where a way out would lead, and the limits that hold: memory and disk in bytes."""

    port: int
    secret: str
    memory: int
    processes: int
    disk: int


def reaches_network(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0


def reads_outside(path: str) -> bool:
    return os.path.exists(path) or os.path.exists("/proc/1")


def writes_system() -> bool:
    for folder in (os.path.dirname(os.__file__), "/", "/usr", "/dev"):
        with contextlib.suppress(OSError), open(os.path.join(folder, "written"), "w"):
            return True
    return False


def exceeds_memory(mib: int) -> bool:
    with contextlib.suppress(MemoryError):
        bytearray(2 * mib << 20)
        return True
    return False


def exceeds_processes(count: int) -> bool:
    children: list[int] = []
    with contextlib.suppress(OSError):
        while len(children) <= count:
            pid = os.fork()
            if pid == 0:
                signal.pause()
            children.append(pid)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return len(children) > count


def exceeds_disk(mib: int) -> bool:
    for folder in ("/tmp", "/dev/shm"):  # noqa: S108
        with contextlib.suppress(OSError):
            for number in range(2 * mib):
                with open(os.path.join(folder, f"fill{number}"), "wb") as file:
                    file.write(bytes(1 << 20))
            return True
    return False


def makes_namespace() -> bool:
    return bool(ctypes.CDLL(None).unshare(_NEWUSER) == 0)


def main() -> None:
    settings: ProbeSettings = json.loads(sys.stdin.read())
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    escapes: dict[str, Callable[[], bool]] = {
        "reach the network": lambda: reaches_network(settings["port"]),
        "read files outside": lambda: reads_outside(settings["secret"]),
        "write to the system": writes_system,
        "take more memory": lambda: exceeds_memory(settings["memory"]),
        "start more processes": lambda: exceeds_processes(settings["processes"]),
        "fill the disk": lambda: exceeds_disk(settings["disk"]),
        "make a user namespace": makes_namespace,
        "be root": lambda: os.getuid() == 0,
    }
    print(json.dumps([name for name, escape in escapes.items() if escape()]))  # noqa: T201


if __name__ == "__main__":
    main()
