"""What is wrong with a machine is told from its kernel's settings and bubblewrap's words."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from distill.errors import BackendError
from distill.sandbox import Limits, SandboxResult, _launch, _seccomp, _selftest

pytestmark = pytest.mark.slow
needs_bwrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap: apt-get install bubblewrap")
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("settings", "seen", "remedy"),
    [
        (
            {"kernel/unprivileged_userns_clone": "0"},
            "No permissions to create new namespace",
            "unprivileged_userns_clone=1",
        ),
        ({"user/max_user_namespaces": "0"}, "Creating new namespace failed", "user.max_user_namespaces=10000"),
        (
            {"kernel/apparmor_restrict_unprivileged_userns": "1", "user/max_user_namespaces": "9999"},
            "setting up uid map: Permission denied",
            "apparmor_restrict_unprivileged_userns=0",
        ),
        ({}, "cannot open /proc/sys/user/max_user_namespaces: Read-only file system", "--privileged"),
        ({}, "Can't find source path /closed/x: Permission denied", "/usr/bin/python3"),
        ({"../self/status": "Name:\tx\nSeccomp:\t2\n"}, "Operation not permitted", "seccomp=unconfined"),
        ({}, "something else", "bwrap --unshare-user"),
    ],
)
def test_diagnosis(tmp_path: Path, settings: dict[str, str], seen: str, remedy: str) -> None:
    (tmp_path / "sys").mkdir()
    for name, value in settings.items():
        path = tmp_path / "sys" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value)
    error = _selftest.diagnosis(seen, tmp_path)
    assert seen in str(error)
    assert remedy in str(error)
    assert "fusion" in str(error)


class Open:
    """A sandbox that isolates nothing: the probe runs as it is, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def run(
        self, files: dict[str, str], command: list[str], stdin: str = "", limits: Limits | None = None
    ) -> SandboxResult:
        for name, text in files.items():
            (self._folder / name).write_text(text.replace('"/tmp", "/dev/shm"', f'"{self._folder}",'))
        done = subprocess.run(
            [sys.executable, *command[1:]], input=stdin, cwd=self._folder, capture_output=True, text=True, check=False
        )
        return SandboxResult(
            status="ok" if not done.returncode else "error",
            exit_code=0,
            stdout=done.stdout,
            stderr=done.stderr,
            seconds=0,
        )


def test_the_probe_finds_what_an_open_sandbox_lets_through(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="the sandbox leaks") as raised:
        _selftest.prove(Open(tmp_path))
    for leak in (
        "reach the network",
        "read files outside",
        "take more memory",
        "start more processes",
        "fill the disk",
    ):
        assert leak in str(raised.value)


def test_the_filter_has_a_jump_for_every_call_and_refuses_odd_machines() -> None:
    for machine in ("x86_64", "aarch64"):
        steps = list(struct.iter_unpack("=HBBI", _seccomp.program(machine)))
        assert all(index + 1 + max(step[1], step[2]) < len(steps) for index, step in enumerate(steps[:-1]))
        assert steps[-1] == (0x06, 0, 0, 0x7FFF0000)
        assert len({step[3] for step in steps if step[0] == 0x15}) >= len(_seccomp._REFUSED_CALLS)
    with pytest.raises(BackendError, match="riscv64"):
        _seccomp.program("riscv64")


@needs_bwrap
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_an_ordinary_user_gets_the_same_sandbox() -> None:
    code = """
import os
from distill.sandbox import ChosenSandbox, Limits
assert os.getuid() != 0
run = ChosenSandbox.of({"kind": "bubblewrap"}).build().run
limits = Limits(seconds=3, memory=64, processes=8)
print(run({}, ["python", "-I", "-c", "import os; print(os.getuid())"], "", limits).stdout)
bomb = "import os, signal\\nn = 0\\nwhile os.fork():\\n    n += 1\\nsignal.pause()"
print(run({}, ["python", "-I", "-c", bomb], "", limits).stderr[-60:])
print(run({}, ["python", "-I", "-c", "while True: pass"], "", limits.model_copy(update={"seconds": 1})).status)
"""
    mounts = (sys.prefix, sys.base_prefix, str(ROOT))
    step_down = _launch.BwrapLaunch(sys.executable, mounts, 54_321)._step_down()
    done = subprocess.run(
        [*step_down, sys.executable, "-B", "-c", code],
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": "/"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "1000"
    assert "Resource temporarily unavailable" in done.stdout
    assert done.stdout.endswith("timeout\n")
