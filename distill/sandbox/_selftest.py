"""Proof at start that the sandbox isolates, and what is wrong with the machine where it cannot."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from distill.errors import BackendError
from distill.sandbox import Limits, Sandbox

_OLDEST_BWRAP = (0, 8)
_FUSION_REMEDY = "or let another machine run the code with sandbox kind fusion"
_PROBE_LIMITS = Limits(seconds=20, memory=256, processes=8, disk=2)


def require() -> None:
    """Find out whether the machine has the programs that the sandbox needs.

    Raises:
        BackendError: one of them is missing or too old.
    """
    for name, package in (
        ("bwrap", "bubblewrap"),
        ("prlimit", "util-linux"),
        ("setpriv", "util-linux"),
        ("unshare", "util-linux"),
    ):
        if shutil.which(name) is None:
            raise BackendError(f"the sandbox needs {name}", fix=f"apt-get install {package}, {_FUSION_REMEDY}")
    version_text = subprocess.run(["bwrap", "--version"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"(\d+)\.(\d+)", version_text)
    if not version or (int(version[1]), int(version[2])) < _OLDEST_BWRAP:
        raise BackendError(
            f"the sandbox needs bubblewrap 0.8 or newer, found {version_text.strip()!r}", fix="upgrade it"
        )


def prove(sandbox: Sandbox) -> None:
    """Let a probe try to get out.

    Raises:
        BackendError: it did, or it could not be run; says why and what to do.
    """
    probe = (Path(__file__).parent / "inside" / "probe.py").read_text(encoding="utf-8")
    with tempfile.NamedTemporaryFile() as secret, socket.create_server(("127.0.0.1", 0)) as server:
        settings = {
            "port": server.getsockname()[1],
            "secret": secret.name,
            "memory": _PROBE_LIMITS.memory,
            "processes": _PROBE_LIMITS.processes,
            "disk": max(_PROBE_LIMITS.disk, 16),  # /dev/shm has a size of its own
        }
        try:
            result = sandbox.run(
                {"probe.py": probe}, ["python", "-I", "-B", "probe.py"], json.dumps(settings), _PROBE_LIMITS
            )
        except BackendError as error:
            raise diagnosis(error.message) from error
    if result.status != "ok":
        raise diagnosis(f"the sandbox's probe ended with {result.status}: {result.stderr.strip()[-500:]}")
    leaks = json.loads(result.stdout)
    if leaks:
        raise BackendError(
            f"the sandbox leaks: a program in it can {', '.join(leaks)}", fix=f"report this, {_FUSION_REMEDY}"
        )


def diagnosis(message: str, proc: Path = Path("/proc")) -> BackendError:
    """Why bubblewrap cannot work here, judged from its message and the settings in the kernel's tree `proc`."""

    def setting(name: str) -> str:
        try:
            return (proc / "sys" / name).read_text().strip()
        except OSError:
            return ""

    confined = re.search(r"^Seccomp:\s*2", _text_or_empty(proc / "self/status"), re.MULTILINE)
    if setting("kernel/unprivileged_userns_clone") == "0":
        fix = "user namespaces are switched off: sysctl -w kernel.unprivileged_userns_clone=1"
    elif setting("user/max_user_namespaces") == "0" or "namespaces exceeded" in message:
        fix = "no more user namespaces are allowed: sysctl -w user.max_user_namespaces=10000"
    elif setting("kernel/apparmor_restrict_unprivileged_userns") == "1":
        fix = (
            "AppArmor keeps user namespaces from ordinary programs (Ubuntu): give bwrap a profile with `userns,`, "
            "or sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
        )
    elif "max_user_namespaces" in message and "ead-only" in message:
        fix = "the container mounts /proc/sys read-only: start it with it writable (docker run --privileged)"
    elif "unshare failed" in message or ("denied" in message and "source path" in message):
        fix = "the folder is closed to other users: set sandbox.python to one that all may read (/usr/bin/python3)"
    elif confined:
        fix = (
            "the container's seccomp profile forbids namespaces: start it with --security-opt seccomp=unconfined, "
            "or a profile that allows clone, unshare, mount and pivot_root"
        )
    else:
        fix = "try `bwrap --unshare-user --ro-bind / / true`"
    return BackendError(message, where="sandbox bubblewrap", fix=f"{fix}; {_FUSION_REMEDY}")


def _text_or_empty(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
