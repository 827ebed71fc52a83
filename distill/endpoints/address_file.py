"""The endpoints file: one address per line, read again and again by a running generate.

Several `distill serve` may share one file (jobs of a slurm array, a second one started later): each keeps its own
section, headed by a comment that names it, and holds the writer's lock (`store/lock.py`) while it changes the file.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Sequence
from pathlib import Path

from distill.errors import writing
from distill.store.lock import LEASE, WriterLock
from distill.store.replacing import replacing

_TITLE = "# Written by distill serve: endpoints come and go as servers start and stop."
_LOCK_PATIENCE = 2 * LEASE
"""Seconds; enough to follow a writer whose machine went down with the lock in its hands."""
_OWNER = re.compile(r"# served by (\S+)")


class EndpointsFile:
    """This process's section of the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.owner = _own_name()

    def put(self, urls: Sequence[str]) -> None:
        """Replace this owner's addresses; those of others stay, those of processes that died here are dropped.

        Raises:
            RunError: another process holds the file for minutes, or it cannot be written.
        """
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = WriterLock(self.path, patience=_LOCK_PATIENCE)
            try:
                sections = {owner: owned_urls for owner, owned_urls in _read(self.path).items() if not _is_dead(owner)}
                sections[self.owner] = list(urls)
                lines = [_TITLE, *sections.pop("", [])]
                for owner, owned_urls in sections.items():
                    if owned_urls:
                        lines += [f"# served by {owner}", *owned_urls]
                with replacing(self.path) as file:
                    file.write("".join(f"{line}\n" for line in lines).encode())
            finally:
                lock.release()


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
