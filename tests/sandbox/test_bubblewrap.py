"""Hostile programs: each tries one way out, or one way to take the machine down."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distill.errors import BackendError, InputError
from distill.sandbox import ChosenSandbox, Ended, Limits, SandboxResult

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap: apt-get install bubblewrap"),
]
LIMITS = Limits(seconds=10, memory=128, processes=8, disk=4, output=1, files=32)


def run(program: str, *args: str, stdin: str = "", **limits: int) -> SandboxResult:
    """Run a program; whatever it does, none of its processes may be left afterwards."""
    mark = secrets.token_hex(8)
    sandbox = ChosenSandbox.of({"kind": "bubblewrap"}).build()
    files = {"program.py": program}
    result: SandboxResult = sandbox.run(
        files, ["python", "-I", "program.py", *args, mark], stdin, LIMITS.model_copy(update=limits)
    )
    assert not running(mark)
    return result


def running(mark: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def programs(mark: str, owner: int) -> list[str]:
    """The processes that have become the program, not bwrap on the way to it."""
    found = []
    for pid in running(mark):
        try:
            if int(pid) != owner and Path(f"/proc/{pid}/comm").read_text().startswith("python"):
                found.append(pid)
        except OSError:
            continue
    return found


def test_a_program_reads_its_input_and_its_files_and_says_how_it_ended() -> None:
    done = run("import sys\nprint(input()[::-1], sys.argv[1])", "x", stdin="olleh\n")
    assert (done.status, done.exit_code, done.stdout) == ("ok", 0, "hello x\n")
    failed = run("raise SystemExit(3)")
    assert (failed.status, failed.exit_code) == ("error", 3)
    crashed = run("import os\nos.abort()")
    assert (crashed.status, crashed.exit_code) == ("killed", 128 + 6)
    raised = run("print(1)\n1 / 0")
    assert "ZeroDivisionError" in raised.stderr
    assert raised.stdout == "1\n"


def test_no_environment_and_no_file_of_the_user_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "s3cr3t")
    (tmp_path / "secret").write_text("s3cr3t")
    seen = [str(tmp_path / "secret"), __file__, "/etc/passwd", "/etc/shadow", "/proc/1/environ", "/proc/self/status"]
    program = f"""
import os
print(dict(os.environ))
for path in {seen!r}:
    try:
        print(open(path).read())
    except OSError as error:
        print(type(error).__name__)
print(os.listdir("/tmp"), os.path.exists("/home") and os.listdir("/home"))
"""
    done = run(program)
    assert done.status == "ok"
    assert "s3cr3t" not in done.stdout
    assert done.stdout.count("FileNotFoundError") == len(seen)
    assert "['program.py'] False" in done.stdout


def test_no_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = run(
            f"""
import socket
for family, address in (
    (socket.AF_INET, ("127.0.0.1", {port})), (socket.AF_INET, ("192.0.2.1", 80)), (socket.AF_VSOCK, (2, 80)),
    (socket.AF_NETLINK, (0, 0)), (socket.AF_PACKET, ("lo", 0)),
):
    try:
        socket.socket(family, socket.SOCK_RAW if family == socket.AF_PACKET else socket.SOCK_STREAM).connect(address)
        print("connected", address)
    except OSError as error:
        print("refused")
try:
    print(socket.getaddrinfo("localhost.example", 80))
except OSError:
    print("refused")
"""
        )
    assert done.stdout.split() == ["refused"] * 6


def test_a_fork_bomb() -> None:
    done = run(
        "import os, signal\nn = 0\nwhile True:\n    try:\n        if os.fork() == 0:\n            signal.pause()\n"
        "        n += 1\n    except OSError:\n        print(n)\n        break\n"
    )
    assert done.status == "ok"
    assert int(done.stdout) < LIMITS.processes


def test_a_fork_bomb_that_never_stops() -> None:
    bomb = "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass"
    assert run(bomb, seconds=1).status == "timeout"


def test_too_many_threads() -> None:
    done = run(
        "import threading, time\nfor i in range(100):\n"
        "    threading.Thread(target=time.sleep, args=(5,), daemon=True).start()"
    )
    assert done.status == "error"
    assert "can't start new thread" in done.stderr


def test_memory_of_one_process() -> None:
    assert run("x = []\nwhile True:\n    x.append(bytearray(1 << 20))").status == "memory"


def test_memory_of_many_processes_together() -> None:
    program = (
        "import os, time\nfor i in range(5):\n    if os.fork() == 0:\n        x = b'a' * (80 << 20)\n"
        "        time.sleep(20)\n"
        "time.sleep(20)"
    )
    done = run(program)
    assert done.status == "memory"
    assert done.seconds < 8


def test_memory_that_no_limit_counts() -> None:
    done = run(
        "import os, ctypes\n"
        "try:\n    os.memfd_create('x')\n    print('memfd')\nexcept OSError:\n    print('refused')\n"
        "print(ctypes.CDLL(None).shmget(0, 1 << 20, 0o1600))"
    )
    assert done.stdout.split() == ["refused", "-1"]


@pytest.mark.parametrize("folder", ["/tmp", "/dev/shm"])
def test_filling_the_disk(folder: str) -> None:
    done = run(
        f"n = 0\nwhile True:\n    with open(f'{folder}/{{n}}', 'wb') as file:\n"
        "        file.write(bytes(1 << 20))\n    n += 1\n"
        "    print(n, flush=True)"
    )
    assert done.status == "error"
    assert "No space left" in done.stderr
    assert int(done.stdout.split()[-1]) <= 16


def test_one_huge_file() -> None:
    done = run("import os\nfd = os.open('x', os.O_CREAT | os.O_RDWR)\nos.ftruncate(fd, 1 << 40)\nprint('grown')")
    assert "grown" not in done.stdout
    assert done.status != "ok"


def test_a_double_forked_daemon_dies_with_the_run() -> None:
    done = run(
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(60)\n"
        "    os._exit(0)\n"
        "os.wait()\nprint('left')"
    )
    assert (done.status, done.stdout) == ("ok", "left\n")
    assert done.seconds < 8


def test_signals_can_be_ignored_but_not_outlived() -> None:
    program = (
        "import signal\nfor number in range(1, 65):\n    try:\n        signal.signal(number, signal.SIG_IGN)\n"
        "    except (OSError, ValueError):\n        pass\nwhile True:\n    signal.sigtimedwait([], 1)"
    )
    assert run(program, seconds=1).status == "timeout"


def test_killing_everything_in_sight() -> None:
    done = run(
        "import os\nfor pid in (1, os.getppid(), -1):\n    try:\n        os.kill(pid, 9)\n"
        "    except OSError as error:\n"
        "        print(error.errno)\nprint(os.getpid(), 'lives')"
    )
    assert done.status == "ok"
    assert "lives" in done.stdout
    assert subprocess.run(["true"], check=False).returncode == 0


def test_output_without_end() -> None:
    done = run("while True:\n    print('y' * 4000)")
    assert done.status == "output"
    assert len(done.stdout) <= (1 << 20) + 1


def test_errors_without_end_keep_their_tail_only() -> None:
    done = run("import sys\nfor i in range(3000):\n    sys.stderr.write('y' * 1000)\nsys.exit('the end')")
    assert done.status == "error"
    assert done.stderr.endswith("the end\n")
    assert len(done.stderr) <= 64_000


def test_an_endless_loop_and_endless_sleep() -> None:
    assert run("while True:\n    pass", seconds=1).status == "timeout"
    assert run("import time\ntime.sleep(60)", seconds=1).status == "timeout"
    assert run("while True:\n    pass", cpu=1).status == "timeout"


def test_closing_stdout_changes_nothing() -> None:
    assert run("import os\nos.closerange(0, 100)\nwhile True:\n    pass", seconds=1).status == "timeout"
    assert run("import os\nos.closerange(0, 100)\nos._exit(0)").stdout == ""


def test_running_out_of_file_descriptors() -> None:
    done = run("x = []\nwhile True:\n    x.append(open('/dev/null'))")
    assert done.status == "error"
    assert "Too many open files" in done.stderr


def test_no_namespaces_of_its_own() -> None:
    done = run(
        "import ctypes, os, subprocess\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "print(libc.unshare(0x10000000), libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0))\n"
        "print(subprocess.run(['unshare', '--user', 'true'], capture_output=True).returncode)\n"
        "print(libc.mount(b'none', b'/tmp', b'tmpfs', 0, None), os.getuid())"
    )
    assert done.stdout.split() == ["-1", "-1", "1", "-1", "1000"]


def test_the_system_cannot_be_written() -> None:
    prefix = str(Path(os.__file__).parent)
    done = run(
        f"import os\nfor folder in ({prefix!r}, '/', '/usr/bin', '/dev', '/etc', '/lib', '/root'):\n"
        "    try:\n        open(os.path.join(folder, 'written'), 'w')\n        print('wrote', folder)\n"
        "    except OSError:\n        print('refused')\n"
        "for change in (lambda: os.chmod('program.py', 0o777), lambda: os.remove('program.py'),\n"
        "               lambda: open('program.py', 'w')):\n"
        "    try:\n        change()\n        print('changed')\n    except OSError:\n        print('refused')"
    )
    assert done.stdout.split() == ["refused"] * 10


def test_ptrace_and_other_ways_into_a_process() -> None:
    done = run(
        "import ctypes, os, time\nlibc = ctypes.CDLL(None)\nchild = os.fork()\nif not child:\n    time.sleep(5)\n"
        "    os._exit(0)\n"
        "print(libc.ptrace(16, child, 0, 0), libc.process_vm_readv(child, 0, 0, 0, 0, 0))\nos.kill(child, 9)"
    )
    assert done.stdout.split() == ["-1", "-1"]


def test_links_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cr3t")
    done = run(
        "import os\n"
        f"for target in ({str(tmp_path / 'secret')!r}, '../../../..{tmp_path}/secret', "
        f"'/proc/1/root{tmp_path}/secret'):\n"
        "    os.symlink(target, 'link')\n"
        "    try:\n        print(open('link').read())\n    except OSError:\n        print('refused')\n"
        "    os.remove('link')\n"
        "try:\n    os.link('/usr/bin/env', 'hard')\n    print('linked')\nexcept OSError:\n    print('refused')"
    )
    assert done.stdout.split() == ["refused"] * 4


def test_recursion_without_end() -> None:
    plain = run("def f(n):\n    return f(n + 1) + 1\nf(0)")
    assert "RecursionError" in plain.stderr
    deep = (
        "import sys\nsys.setrecursionlimit(10**9)\ndef f(n):\n    return [f(n + 1)][0].__add__(1)\n"
        "map(f, [0]).__next__()"
    )
    assert run(deep, seconds=1).status in ("killed", "memory", "timeout")


def test_files_must_lie_inside() -> None:
    sandbox = ChosenSandbox.of({"kind": "bubblewrap"}).build()
    for name in ("../x", "/etc/x"):
        with pytest.raises(InputError, match="below its working directory"):
            sandbox.run({name: ""}, ["true"])


def test_a_session_answers_line_by_line_until_it_ends() -> None:
    sandbox = ChosenSandbox.of({"kind": "bubblewrap"}).build()
    program = (
        "import sys\nfor line in sys.stdin:\n    if line == 'stop\\n':\n        sys.exit(3)\n"
        "    print(line.upper(), end='', flush=True)"
    )
    session = sandbox.open({"program.py": program}, ["python", "-I", "program.py"], LIMITS)
    assert session.ask(b"one\n", 5) == b"ONE\n"
    long = b"x" * 300_000 + b"\n"
    assert session.ask(long, 5) == long.upper()
    with pytest.raises(Ended) as ended:
        session.ask(b"stop\n", 5)
    assert ended.value.status == "error"
    assert not session.alive


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("while True:\n    pass", "timeout"),
        ("print('x' * (2 << 20), end='', flush=True)\ninput()\ninput()", "output"),
        ("x = []\nwhile True:\n    x.append(bytearray(1 << 20))", "memory"),
        ("import os\nos._exit(0)", "ok"),
    ],
)
def test_a_session_that_breaks_a_limit_is_over(program: str, status: str) -> None:
    mark = secrets.token_hex(8)
    sandbox = ChosenSandbox.of({"kind": "bubblewrap"}).build()
    session = sandbox.open({"program.py": program}, ["python", "-I", "program.py", mark], LIMITS)
    with pytest.raises(Ended) as ended:
        session.ask(b"hello\n", 1)
    assert ended.value.status == status
    assert not running(mark)


def test_closing_a_session_kills_it() -> None:
    mark = secrets.token_hex(8)
    sandbox = ChosenSandbox.of({"kind": "bubblewrap"}).build()
    session = sandbox.open({}, ["python", "-I", "-c", "input()\nprint('up')\ninput()", mark], LIMITS)
    assert session.ask(b"\n", 5) == b"up\n"
    assert running(mark)
    session.close()
    session.close()
    assert not running(mark)


def test_a_killed_owner_leaves_nothing_behind() -> None:
    mark = secrets.token_hex(8)
    code = (
        "from distill.sandbox import ChosenSandbox\n"
        f"ChosenSandbox.of({{}}, 'bubblewrap').build().run({{}}, ['python', '-c', 'import time; "
        f"time.sleep(60)', {mark!r}])"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as owner:
        until = time.monotonic() + 20
        # bwrap binds its processes to the owner one after the other: only the program itself shows that all are bound
        while not (up := programs(mark, owner.pid)) and time.monotonic() < until:
            time.sleep(0.05)
        assert up
        owner.kill()
    until = time.monotonic() + 5
    while running(mark) and time.monotonic() < until:
        time.sleep(0.05)
    assert not running(mark)


def test_a_command_that_does_not_exist_is_the_programs_error() -> None:
    sandbox = ChosenSandbox.of({"kind": "bubblewrap"}).build()
    assert sandbox.run({}, ["no-such-command"], "", LIMITS).status == "error"


def test_an_interpreter_and_folders_of_ones_own(tmp_path: Path) -> None:
    sandbox = ChosenSandbox.of({"kind": "bubblewrap", "python": sys.executable}).build()
    done = sandbox.run({}, ["python", "-I", "-c", "import pydantic; print('found')"], "", LIMITS)
    assert done.stdout == "found\n"
    with pytest.raises(InputError, match="no such interpreter"):
        ChosenSandbox.of({"kind": "bubblewrap", "python": "no-such-python"}).build()
    with pytest.raises(InputError, match="no such folder"):
        ChosenSandbox.of({"kind": "bubblewrap", "mounts": [str(tmp_path / "none")]}).build()


def test_a_machine_that_forbids_namespaces_is_told_apart_from_a_program() -> None:
    """Inside a namespace that allows no further ones, distill itself must refuse to run anything."""
    code = (
        "from distill.errors import BackendError\nfrom distill.sandbox import ChosenSandbox\n"
        "try:\n    ChosenSandbox.of({'kind': 'bubblewrap'}).build()\nexcept BackendError as error:\n    print(error)"
    )
    host = ["bwrap", "--unshare-user", "--disable-userns", "--dev-bind", "/", "/", sys.executable, "-c", code]
    done = subprocess.run(host, capture_output=True, text=True, check=False)
    assert "user.max_user_namespaces" in done.stdout, done
    assert "fusion" in done.stdout


def test_a_missing_bwrap_is_an_error_with_its_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from distill.sandbox import _selftest

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackendError, match=r"apt-get install bubblewrap"):
        _selftest.require()
    old = tmp_path / "bwrap"
    old.write_text("#!/bin/sh\necho bubblewrap 0.6.1\n")
    old.chmod(0o755)
    for name in ("prlimit", "setpriv", "unshare"):
        (tmp_path / name).symlink_to("/bin/true")
    with pytest.raises(BackendError, match=r"0\.8 or newer"):
        _selftest.require()


def test_a_process_that_may_not_grant_the_limits_says_so() -> None:
    code = (
        "import resource\nfrom distill.errors import BackendError\nfrom distill.sandbox import ChosenSandbox\n"
        "sandbox = ChosenSandbox.of({'kind': 'bubblewrap'}).build()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))\n"
        "try:\n    sandbox.run({}, ['true'])\nexcept BackendError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "512 MiB" in done.stdout, done
