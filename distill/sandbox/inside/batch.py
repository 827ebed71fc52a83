"""Runs inside a sandbox: one program on several inputs, a fork for each, until one passes a limit.

Standard input is JSON `{"inputs", "seconds", "output"}` (the latter in bytes); each result is one JSON line. Expected
outputs are never here: what a program does to this process can only change what it says itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import tempfile
import time
import types
from typing import IO


def main(path: str) -> None:
    job = json.loads(sys.stdin.buffer.read())
    results_fd = os.dup(1)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    for stdin_text in job["inputs"]:
        with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            stdin.write(stdin_text.encode("utf-8", "replace"))
            stdin.seek(0)
            child = os.fork()
            if not child:
                os.close(results_fd)
                _redirect(stdin, stdout, stderr)
                break
            result = _await_result(child, stdout, stderr, job["seconds"], job["output"])
        with os.fdopen(os.dup(results_fd), "wb") as results_file:
            results_file.write(json.dumps(result).encode() + b"\n")
        if result["status"] in ("timeout", "output"):
            return
    else:
        return
    _run_as_main(path)


def _redirect(stdin: IO[bytes], stdout: IO[bytes], stderr: IO[bytes]) -> None:
    os.setsid()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    for fd, file in enumerate((stdin, stdout, stderr)):
        os.dup2(file.fileno(), fd)
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115  it is the program's


def _run_as_main(path: str) -> None:
    """Run the program as the main module of this process, which then ends as any Python program does."""
    module = types.ModuleType("__main__")
    module.__file__ = path
    sys.modules["__main__"] = module
    sys.argv = [path]
    with open(path, "rb") as file:
        code = compile(file.read(), path, "exec")
    exec(code, module.__dict__)  # noqa: S102  this is what the sandbox is for


def _await_result(
    child: int, stdout: IO[bytes], stderr: IO[bytes], time_limit: float, output_limit: int
) -> dict[str, object]:
    started = time.monotonic()
    exit_code = None
    while exit_code is None and (seconds_left := started + time_limit - time.monotonic()) > 0:
        signal.sigtimedwait({signal.SIGCHLD}, seconds_left)
        pid, wait_status = os.waitpid(child, os.WNOHANG)
        exit_code = os.waitstatus_to_exitcode(wait_status) if pid else None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if exit_code is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    outputs = [os.pread(file.fileno(), output_limit + 1, 0) for file in (stdout, stderr)]
    if exit_code is None or exit_code == -signal.SIGXCPU:
        status = "timeout"
    elif len(outputs[0]) > output_limit or exit_code == -signal.SIGXFSZ:
        status = "output"
    else:
        status = "error" if exit_code else "ok"
    return {
        "status": status,
        "code": exit_code,
        "stdout": outputs[0].decode("utf-8", "replace") if status == "ok" else "",
        "stderr": outputs[1][-2000:].decode("utf-8", "replace"),
        "seconds": time.monotonic() - started,
    }


if __name__ == "__main__":
    main(sys.argv[1])
