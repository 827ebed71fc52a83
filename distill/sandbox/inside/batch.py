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
from typing import IO, Any


def main(path: str) -> None:
    asked = json.loads(sys.stdin.buffer.read())
    told = os.dup(1)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    for given in asked["inputs"]:
        with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            stdin.write(given.encode("utf-8", "replace"))
            stdin.seek(0)
            child = os.fork()
            if not child:
                os.close(told)
                _redirect(stdin, out, err)
                break
            result = _result(child, out, err, asked["seconds"], asked["output"])
        with os.fdopen(os.dup(told), "wb") as lines:
            lines.write(json.dumps(result).encode() + b"\n")
        if result["status"] in ("timeout", "output"):
            return
    else:
        return
    _become(path)


def _redirect(stdin: IO[bytes], out: IO[bytes], err: IO[bytes]) -> None:
    os.setsid()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    for fd, file in enumerate((stdin, out, err)):
        os.dup2(file.fileno(), fd)
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115  it is the program's


def _become(path: str) -> None:
    """Run the program as the main module of this process, which then ends as any Python program does."""
    module = types.ModuleType("__main__")
    module.__file__ = path
    sys.modules["__main__"] = module
    sys.argv = [path]
    with open(path, "rb") as file:
        code = compile(file.read(), path, "exec")
    exec(code, module.__dict__)  # noqa: S102  this is what the sandbox is for


def _result(child: int, out: IO[bytes], err: IO[bytes], seconds: float, output: int) -> dict[str, Any]:
    started = time.monotonic()
    code = None
    while code is None and (left := started + seconds - time.monotonic()) > 0:
        signal.sigtimedwait({signal.SIGCHLD}, left)
        pid, status = os.waitpid(child, os.WNOHANG)
        code = os.waitstatus_to_exitcode(status) if pid else None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if code is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    written = [os.pread(file.fileno(), output + 1, 0) for file in (out, err)]
    if code is None or code == -signal.SIGXCPU:
        ended = "timeout"
    elif len(written[0]) > output or code == -signal.SIGXFSZ:
        ended = "output"
    else:
        ended = "error" if code else "ok"
    return {
        "status": ended,
        "code": code,
        "stdout": written[0].decode("utf-8", "replace") if ended == "ok" else "",
        "stderr": written[1][-2000:].decode("utf-8", "replace"),
        "seconds": time.monotonic() - started,
    }


if __name__ == "__main__":
    main(sys.argv[1])
