"""Children are started one way, keep their last words, are deaf to Ctrl-C where they should be, and do not stay."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from distill.machine import children

PROGRAM = """
import sys
from distill.machine import children
children.end_with_parent()
print("halfway", flush=True)
print("x" * 100_000, file=sys.stderr)
print("ValueError: nothing works here", file=sys.stderr, flush=True)
if sys.argv[1] == "hang":
    import time
    time.sleep(60)
sys.exit(3)
"""
OWNER = """
import sleeper
from distill.machine import children
if __name__ == "__main__":
    {}
"""
OWNERS = {
    "run_module": "children.run_module('sleeper', seconds=60)",
    "spawned": "children.spawned(sleeper.sleep, name='sleeper').join()",
}
SLEEPER = """
import os, sys, time
from distill.machine import children
def sleep():
    with open(os.environ["PID_FILE"] + ".new", "w") as file:
        file.write(str(os.getpid()))
    os.rename(os.environ["PID_FILE"] + ".new", os.environ["PID_FILE"])
    time.sleep(60)
if __name__ == "__main__":
    children.end_with_parent()
    sleep()
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules that children can import, as they can distill."""
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))
    return tmp_path


@pytest.mark.usefixtures("modules")
def test_a_module_that_fails_leaves_its_status_and_last_words() -> None:
    answer = children.run_module("program", "fail", seconds=60)
    assert (answer.status, answer.output) == (3, "halfway\n")
    assert answer.last_words.splitlines()[-1] == "ValueError: nothing works here"
    assert len(answer.last_words) <= 1 << 16


@pytest.mark.slow
@pytest.mark.usefixtures("modules")
def test_a_module_that_takes_too_long_is_killed_and_what_it_printed_is_kept() -> None:
    answer = children.run_module("program", "hang", seconds=3)
    assert (answer.status, answer.output) == (None, "halfway\n")


def test_a_function_is_found_on_this_process_s_import_path_and_does_not_hear_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere.py").write_text(
        "import gc, os, signal\n"
        "def tell(word):\n    os.kill(os.getpid(), signal.SIGINT)\n    print(word, gc.isenabled(), __name__)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    tell = importlib.import_module("elsewhere").tell
    command = children.function_command(tell, "hello")
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "hello False elsewhere\n"


@pytest.mark.parametrize("start", list(OWNERS))
def test_a_child_ends_when_its_parent_is_killed(modules: Path, start: str) -> None:
    script = modules / "owner.py"
    script.write_text(OWNER.format(OWNERS[start]))
    pid_file = modules / "pid"
    with subprocess.Popen([sys.executable, str(script)], env={**os.environ, "PID_FILE": str(pid_file)}) as owner:
        until(pid_file.exists, 30)
        pid = int(pid_file.read_text())
        assert runs(pid)
        owner.send_signal(signal.SIGKILL)
    until(lambda: not runs(pid), 10)


def test_a_group_that_does_not_heed_term_is_killed_with_what_it_started(tmp_path: Path) -> None:
    code = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.fork(); "
        f"open({str(tmp_path / 'pid')!r} + str(os.getpid()), 'w').close(); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    until(lambda: len(list(tmp_path.glob("pid*"))) == 2, 30)
    children.end_group(process, 0.2)
    assert process.returncode == -signal.SIGKILL
    pids = [int(path.name.removeprefix("pid")) for path in tmp_path.glob("pid*")]
    until(lambda: not any(map(runs, pids)), 10)


def until(reached: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "too slow"
        time.sleep(0.02)


def runs(pid: int) -> bool:
    """A zombie, which waits for whoever adopted it, has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
