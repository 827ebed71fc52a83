"""How bubblewrap is called: what a program sees, as whom it runs and within which limits."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from distill.errors import BackendError, InputError
from distill.sandbox import Limits, _seccomp

_MIB = 1 << 20
_SYSTEM_FOLDERS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_USER_INSIDE = "1000"
"""User and group inside; outside, it is whoever started bwrap."""


@dataclass(frozen=True)
class BwrapLaunch:
    python: str
    """The interpreter that `python` stands for."""
    mounts: tuple[str, ...]
    """Folders that programs may read besides the system's; each lies outside of the others."""
    user: int | None
    """Whom to become first; None for staying oneself."""

    def command(
        self, files: Mapping[str, int], command: list[str], limits: Limits, status_fd: int, filter_fd: int
    ) -> list[str]:
        """The whole command line; numbers are file descriptors that bwrap must inherit."""
        program = [self.python if command[0] == "python" else command[0], *command[1:]]
        return [
            *self._step_down(),
            "bwrap",
            *("--unshare-user", "--disable-userns", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"),
            *("--unshare-cgroup-try", "--uid", _USER_INSIDE, "--gid", _USER_INSIDE, "--hostname", "sandbox"),
            *("--die-with-parent", "--new-session", "--seccomp", str(filter_fd), "--json-status-fd", str(status_fd)),
            *self._environment(),
            *self._view(limits.disk),
            *("--chdir", "/tmp"),  # noqa: S108
            *(
                argument
                for name, fd in files.items()
                for argument in ("--perms", "0444", "--ro-bind-data", str(fd), _path_inside(name))
            ),
            *("--remount-ro", "/", "--"),
            *("prlimit", f"--nproc={limits.processes}", f"--as={limits.memory * _MIB}", f"--nofile={limits.files}"),
            *("--core=0", "--memlock=0", f"--fsize={limits.disk * _MIB}", "--msgqueue=0"),
            *((f"--cpu={limits.cpu}:{limits.cpu + 1}",) if limits.cpu else ()),
            *program,
        ]

    def _view(self, disk: int) -> list[str]:
        # no /proc: nothing in it is needed, and containers often forbid mounting one
        arguments = ["--ro-bind", "/usr", "/usr", "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
        arguments += ["--ro-bind-try", "/etc/alternatives", "/etc/alternatives"]
        for path in map(Path, _SYSTEM_FOLDERS):
            if path.is_symlink():
                arguments += ["--symlink", str(path.readlink()), str(path)]
            elif path.is_dir():
                arguments += ["--ro-bind", str(path), str(path)]
        # its own /tmp comes before the mounts: the interpreter may lie in the machine's
        arguments += ["--size", str(disk * _MIB), "--tmpfs", "/tmp"]  # noqa: S108
        for mount in self.mounts:
            arguments += ["--ro-bind", mount, mount]
        # bwrap's /dev is memory without a limit, so it is closed and its shm replaced
        return [*arguments, "--dev", "/dev", "--size", str(16 * _MIB), "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]  # noqa: S108

    def _environment(self) -> list[str]:
        values = {
            "PATH": f"{Path(self.python).parent}:/usr/bin:/bin",
            "HOME": "/tmp",  # noqa: S108
            "TMPDIR": "/tmp",  # noqa: S108
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "MALLOC_ARENA_MAX": "1",  # an arena per thread would count against the address space
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        return ["--clearenv", *(argument for name, value in values.items() for argument in ("--setenv", name, value))]

    def _step_down(self) -> list[str]:
        """As root: become the spare user, and before that open the way to mounts in folders closed to others.

        That is done in a view of the files of its own: an empty folder covers the closed one and holds those mounts.
        """
        if self.user is None:
            return []
        become = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups"]
        steps: list[str] = []
        for folder, mounts in _closed_folders(self.mounts).items():
            steps += ["cd " + shlex.quote(folder), "mount -t tmpfs -o mode=0755 none " + shlex.quote(folder)]
            for mount in mounts:
                path = shlex.quote(mount)
                relative = shlex.quote(f"./{Path(mount).relative_to(folder)}")
                # the shell still stands in the covered folder, and the name is not to be looked up anew
                steps += [f"mkdir -p {path}", f"mount --no-canonicalize --bind {relative} {path}"]
        if not steps:
            return become
        script = "umask 022; " + " && ".join([*steps, 'cd / && exec "$@"'])
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *become]

    @contextlib.contextmanager
    def start(
        self, files: Mapping[str, str | bytes], command: list[str], limits: Limits, stdin: bytes | None
    ) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
        """The started bwrap and the read end of its status pipe; `stdin` None makes a pipe of it.

        Raises:
            BackendError: the machine cannot start another process, or not with these limits.
        """
        hard_limit = resource.getrlimit(resource.RLIMIT_AS)[1]
        if hard_limit != resource.RLIM_INFINITY and hard_limit < limits.memory * _MIB:
            raise BackendError(
                f"this process may use {hard_limit // _MIB} MiB and cannot grant {limits.memory} MiB",
                fix="raise its `ulimit -v`",
            )
        with contextlib.ExitStack() as stack:

            def sealed(content: bytes) -> int:
                fd = _sealed_file(content)
                stack.callback(os.close, fd)
                return fd

            status_read_fd, status_write_fd = os.pipe()
            stack.callback(os.close, status_write_fd)
            file_fds = {
                name: sealed(text.encode("utf-8", "replace") if isinstance(text, str) else text)
                for name, text in files.items()
            }
            filter_fd = sealed(_seccomp.program())
            try:
                popen = subprocess.Popen(
                    self.command(file_fds, command, limits, status_write_fd, filter_fd),
                    stdin=subprocess.PIPE if stdin is None else sealed(stdin),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    bufsize=0,
                    pass_fds=[*file_fds.values(), filter_fd, status_write_fd],
                )
            except OSError as error:
                os.close(status_read_fd)
                raise BackendError(f"cannot start bwrap: {error}") from error
            yield popen, status_read_fd


def _closed_folders(mounts: tuple[str, ...]) -> dict[str, list[str]]:
    """Folders that only their owner may enter, each with the mounts that lie in it."""
    mounts_by_folder: dict[str, list[str]] = {}
    for mount in mounts:
        for folder in reversed(Path(mount).parents):
            if not folder.stat().st_mode & 0o001:
                mounts_by_folder.setdefault(str(folder), []).append(mount)
                break
    return mounts_by_folder


def plan(python: str | None, mounts: tuple[str, ...]) -> BwrapLaunch:
    """What to call, found out from this machine.

    Raises:
        InputError: a folder to mount does not exist, or the interpreter does not run.
    """
    interpreter, prefixes = _interpreter(python)
    mount_points = [str(Path(mount).resolve()) for mount in (*prefixes, *mounts)]
    for mount in mount_points:
        if not Path(mount).is_dir():
            raise InputError(f"no such folder to mount in the sandbox: {mount}")
    outside_system = sorted({mount for mount in mount_points if not Path(mount).is_relative_to("/usr")}, key=len)
    outermost: list[str] = []
    for mount in outside_system:
        if not any(Path(mount).is_relative_to(outer) for outer in outermost):
            outermost.append(mount)
    return BwrapLaunch(interpreter, tuple(outermost), _spare_user())


def _interpreter(python: str | None) -> tuple[str, list[str]]:
    """The interpreter and the folders it lives in; by default the one below this environment, without its packages."""
    if python is None:
        resolved = Path(sys.executable).resolve()
        return str(resolved), [sys.base_prefix]
    executable = shutil.which(python)
    if executable is None:
        raise InputError(f"no such interpreter: {python}", fix="give the path of a python for the sandbox")
    script = "import os, sys; print(sys.prefix, sys.base_prefix, sep='\\n')"
    completed = subprocess.run([executable, "-I", "-c", script], capture_output=True, text=True, check=False)
    if completed.returncode:
        raise InputError(f"interpreter {python} does not run: {completed.stderr.strip()[-200:]}")
    return str(Path(executable).absolute()), completed.stdout.split("\n")[:2]


def _spare_user() -> int | None:
    """A user id that nobody has, for a root that must step down: limits on processes do not bind user 0."""
    if os.geteuid() != 0:
        return None
    ranges = [tuple(map(int, line.split())) for line in Path("/proc/self/uid_map").read_text().splitlines()]
    user_count = min(max(inside + count for inside, _, count in ranges), 2**31)
    used_ids = {entry.pw_uid for entry in pwd.getpwall()}
    free_users = (user for user in range(user_count - 2 - os.getpid() % 5000, 1000, -1) if user not in used_ids)
    return next(free_users, None)


def _sealed_file(content: bytes) -> int:
    """A file in memory that nobody can change any more, opened at its beginning."""
    fd = os.memfd_create("sandbox", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    unwritten = memoryview(content)
    while unwritten:
        unwritten = unwritten[os.write(fd, unwritten) :]
    os.lseek(fd, 0, os.SEEK_SET)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return fd


def _path_inside(name: str) -> str:
    path = Path(name)
    if path.is_absolute() or ".." in path.parts:
        raise InputError(f"a sandbox's file must lie below its working directory: {name}")
    return f"/tmp/{path}"  # noqa: S108
