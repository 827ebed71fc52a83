"""SandboxFusion: programs run on a server that speaks SandboxFusion's HTTP interface (`POST /run_code`).

For machines that forbid namespaces. What isolates the programs is the server's affair; here its answers are read with
a bound and its failures kept apart from those of programs. The server sets limits on memory and time only, keeps 1
MiB of output, and cannot be talked to while a program runs, so assert tests need bubblewrap.
"""

from __future__ import annotations

import base64
import http.client
import json
import shlex
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from distill.errors import BackendError
from distill.sandbox import Limits, SandboxResult, Status
from distill.types import Record

_KEPT_OUTPUT = 1 << 20
"""Bytes of output that the server keeps."""
_LONGEST_REPLY = 16 * _KEPT_OUTPUT
"""Bytes of a reply; text of control characters takes six times its size in JSON, twice over."""
_BUSY_CODES = {429, 502, 503, 504}


class Config(Record):
    endpoint: str = Field("http://127.0.0.1:8080", pattern="^https?://")
    """Address of the SandboxFusion server."""
    python: str = "python"
    """Name of the interpreter at the server."""
    wait: float = Field(30.0, gt=0)
    """Seconds, besides the program's own, that a request may take on the way and in the server's queue."""
    tries: int = Field(3, ge=1)
    """Attempts when the server is busy or does not answer, with growing pauses."""


class _Command(BaseModel):
    status: Literal["Finished", "Error", "TimeLimitExceeded"]
    execution_time: float | None = None
    return_code: int | None = None
    stdout: str | None = None
    stderr: str | None = None


class _Reply(BaseModel):
    status: Literal["Success", "Failed", "SandboxError"]
    message: str = ""
    run_result: _Command | None = None


class Fusion:
    def __init__(self, config: Config) -> None:
        self._config = config

    def run(
        self, files: Mapping[str, str | bytes], command: list[str], stdin: str = "", limits: Limits | None = None
    ) -> SandboxResult:
        limits = limits or Limits()
        program = [self._config.python if command[0] == "python" else command[0], *command[1:]]
        contents = {
            name: text.encode("utf-8", "replace") if isinstance(text, str) else text for name, text in files.items()
        }
        reply = self._post(
            {
                "language": "bash",
                "code": f"exec {shlex.join(program)}",
                "stdin": stdin,
                "files": {name: base64.b64encode(content).decode() for name, content in contents.items()},
                "compile_timeout": limits.seconds,
                "run_timeout": limits.seconds,
                "memory_limit_MB": limits.memory,
            },
            limits.seconds + self._config.wait,
        )
        outcome = reply.run_result
        if reply.status == "SandboxError" or outcome is None or outcome.status == "Error":
            raise self._error(f"the sandbox server failed: {reply.message[:300]}")
        return SandboxResult(
            status=_status(outcome),
            exit_code=None if outcome.status == "TimeLimitExceeded" else outcome.return_code,
            stdout=outcome.stdout or "",
            stderr=(outcome.stderr or "")[-64_000:],
            seconds=outcome.execution_time or 0.0,
        )

    def _post(self, body: dict[str, object], seconds: float) -> _Reply:
        request = urllib.request.Request(  # noqa: S310  the pattern of `endpoint` admits http alone
            f"{self._config.endpoint.rstrip('/')}/run_code",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        for tries_left in reversed(range(self._config.tries)):
            try:
                with urllib.request.urlopen(request, timeout=seconds) as response:  # noqa: S310
                    return _Reply.model_validate_json(response.read(_LONGEST_REPLY))
            except ValidationError as error:
                raise self._error("does not answer like SandboxFusion") from error
            except urllib.error.HTTPError as error:
                if error.code not in _BUSY_CODES or not tries_left:
                    raise self._error(f"the sandbox server says {error.code} {error.reason}") from error
            except (OSError, http.client.HTTPException) as error:
                if not tries_left:
                    raise self._error(f"the sandbox server does not answer: {error}") from error
            time.sleep(0.5 * 2 ** (self._config.tries - tries_left - 1))
        raise AssertionError("the last attempt returns or raises")

    def _error(self, message: str) -> BackendError:
        return BackendError(
            message, where=self._config.endpoint, fix="start SandboxFusion there, or set sandbox.endpoint"
        )


def _status(outcome: _Command) -> Status:
    code = outcome.return_code or 0
    if outcome.status == "TimeLimitExceeded":
        return "timeout"
    if len((outcome.stdout or "").encode("utf-8", "replace")) >= _KEPT_OUTPUT:
        return "output"
    if code and "MemoryError" in (outcome.stderr or "")[-2000:]:
        return "memory"
    if code < 0 or code > 128:
        return "killed"
    return "error" if code else "ok"


def build(config: Config) -> Fusion:
    """A client of a server that answers.

    Raises:
        BackendError: there is none.
    """
    fusion = Fusion(config)
    if fusion.run({"greeting": "hello"}, ["cat", "greeting"]).stdout != "hello":
        raise BackendError("the sandbox server does not run programs as asked", where=config.endpoint)
    return fusion
