"""The writer's lock: one process at a time appends to a log, on any file system that machines may share.

Kernel locks (`fcntl`, `flock`) reach other machines over NFSv4, GPFS and Lustre only where the mounts are set up for
it, and elsewhere fail without a word. So the lock is a file beside the log, created exclusively, that names its holder
(host, process, start time) and is touched every few seconds; filelock's `SoftFileLease` is that protocol. A holder that
died on this machine is followed at once. One on another machine is followed after its file was watched for `LEASE`
seconds, by this machine's own clock, without a sign of life. A holder that was merely stopped for so long finds out
before it appends again, and then writes no more.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

from distill.errors import RunError, writing
from distill.progress import LOG

if TYPE_CHECKING:
    from filelock import OwnerRecord, SoftFileLease

LEASE = 120.0
"""Seconds; above the minute for which an NFS client may answer from its cache."""
HEARTBEAT = 20.0


class WriterLock:
    """The right to write one log, held from construction to `release`.

    Args:
        patience: seconds to wait for a holder that lives; for files that are held only while they are written.

    Raises:
        RunError: somebody else holds it (named), or the folder cannot be written.
    """

    def __init__(self, path: Path, patience: float = 0.0) -> None:
        from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

        self._path = path
        self._file = path.with_name(path.name + ".lock")
        self._lease: SoftFileLease = SoftFileLease(
            self._file, lease_duration=LEASE, heartbeat_interval=HEARTBEAT, thread_local=False
        )
        with writing(self._file):
            try:
                self._lease.acquire(timeout=max(patience, self._patience()), poll_interval=0.05 if patience else 0.5)
            except (Timeout, LeaseSettingsMismatch) as error:  # the latter: another version of distill holds it
                raise self._held_error() from error
        self._checked = time.time()

    def _patience(self) -> float:
        """Seconds to wait for the lock: none unless its holder is out of sight and seems to be gone."""
        owner = self._lease.owner
        age = self._age()
        if owner is None:
            return 0
        state = _process_state(owner)
        if state in ("Z", "X"):  # killed but not yet waited for by its parent: filelock takes it for alive
            current = self._lease.owner
            if current is not None and current.token == owner.token:
                self._lease.force_break()
        if state or age is None or age < LEASE:
            return 0
        LOG.warning("%s: %s; watching for %.0f s that it is gone", self._path, self._holder_description(), LEASE)
        return LEASE + 2

    def _age(self) -> float | None:
        """Seconds since the holder's last sign of life. Machines' clocks differ, so nothing is taken away by it."""
        with contextlib.suppress(OSError):
            return max(0.0, time.time() - self._file.stat().st_mtime)
        return None

    def _holder_description(self) -> str:
        owner = self._lease.owner
        age = self._age()
        if owner is None or age is None:
            return "its holder is just changing"
        return f"process {owner.pid} on {owner.hostname.partition('?')[0]} gave its last sign of life {age:.0f} s ago"

    def _held_error(self) -> RunError:
        return RunError(
            f"another process is writing this log: {self._holder_description()}",
            where=str(self._path),
            fix=f"wait for it or end it, or use another folder with --run; {LEASE / 60:.0f} minutes after its machine "
            "went down, the same command takes over",
        )

    def check(self) -> None:
        """Make sure that the lock is still ours; to be called before each write.

        Raises:
            RunError: this process was stopped for so long that another took over, or the lock's file was removed.
        """
        lost = self._lease.compromise is not None
        now = time.time()
        if not lost and not 0 <= now - self._checked < HEARTBEAT:
            # after a pause the heartbeat may not have run yet; a file that cannot be read now proves nothing
            owner = self._lease.owner
            lost = owner is not None and owner.token != self._lease.token
            self._checked = now
        if lost:
            raise RunError(
                "this process has lost the right to write this log",
                where=str(self._path),
                fix=f"another process took over, or {self._file.name} was removed; if none runs, give the same command "
                "again",
            )

    def release(self) -> None:
        with contextlib.suppress(OSError):  # at worst the next writer finds a dead holder
            self._lease.release()


def _process_state(owner: OwnerRecord) -> str:
    """The state of the owner's process as Linux's /proc gives it, `""` if it does not run on this machine.

    Pids come back and mean nothing in another container: the start time, in clock ticks since boot, must agree.
    """
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{owner.pid}/stat").read_bytes().rpartition(b")")[2].split()
        if owner.start is not None and int(fields[19]) == owner.start % 2**64:
            return fields[0].decode()
    return ""
