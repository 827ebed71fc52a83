"""The endpoints file: one address per line, read again and again by a running generate.

Several `distill serve` may share one file (jobs of a slurm array, a second one started later): each keeps its own
section, headed by a comment that names it, under a lock. On a file system without POSIX locks they go without.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from distill.errors import writing
from distill.store.replacing import replacing

_TITLE = "# Written by distill serve: endpoints come and go as servers start and stop."
_OWNER = re.compile(r"# served by (\S+)")


class EndpointsFile:
    """This process's section of the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.owner = _own_name()

    def put(self, urls: Sequence[str]) -> None:
        """Replace this owner's addresses; those of others stay, those of processes that died here are dropped."""
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(self.path.with_name(self.path.name + ".lock")):
                sections = {owner: owned_urls for owner, owned_urls in _read(self.path).items() if not _is_dead(owner)}
                sections[self.owner] = list(urls)
                lines = [_TITLE, *sections.pop("", [])]
                for owner, owned_urls in sections.items():
                    if owned_urls:
                        lines += [f"# served by {owner}", *owned_urls]
                with replacing(self.path) as file:
                    file.write("".join(f"{line}\n" for line in lines).encode())


def _own_name() -> str:
    """The name of this process's section.

    A slurm job keeps its id when it is requeued on another machine, and so finds its old section again.
    """
    job = os.environ.get("SLURM_JOB_ID")
    return f"slurm:{job}" if job else f"{socket.gethostname()}:{os.getpid()}"


def _is_dead(owner: str) -> bool:
    """Whether the owner certainly runs no more: a process of this machine that is gone. Of others nothing is known."""
    host, _, pid = owner.rpartition(":")
    return host == socket.gethostname() and pid.isdecimal() and not Path(f"/proc/{pid}").exists()


def _read(path: Path) -> dict[str, list[str]]:
    """Addresses by owner; those that a person wrote belong to nobody, ``""``."""
    sections: dict[str, list[str]] = {"": []}
    owner = ""
    if not path.exists():
        return sections
    for line in path.read_text(encoding="utf-8").splitlines():
        if heading := _OWNER.match(line):
            owner = heading[1]
        elif line.strip() and line != _TITLE:
            sections.setdefault(owner, []).append(line)
    return sections


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        with suppress(OSError):  # no locks on this file system: two writers in the same second may lose one update
            fcntl.lockf(lock, fcntl.LOCK_EX)
        yield
