"""The client of SandboxFusion against a small server that speaks its interface and really runs the programs."""

from __future__ import annotations

import base64
import json
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from distill.errors import BackendError, InputError
from distill.sandbox import ChosenSandbox, Interactive, Limits
from distill.verifiers import ChosenVerifier

pytestmark = pytest.mark.slow


class Handler(BaseHTTPRequestHandler):
    """`POST /run_code` for bash: files are base64, a run result has status, return code and output of at most 1 MiB."""

    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append(body)
        code, text = self.server.scripted.pop(0) if self.server.scripted else (200, json.dumps(run_code(body)))
        if self.path != "/run_code":
            code = 404
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[dict[str, Any]] = []
        self.scripted: list[tuple[int, str]] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


def run_code(body: dict[str, Any]) -> dict[str, Any]:
    assert body["language"] == "bash"
    with tempfile.TemporaryDirectory() as folder:
        for name, content in body["files"].items():
            (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / name).write_bytes(base64.b64decode(content))
        try:
            done = subprocess.run(
                ["bash", "-c", body["code"]],
                cwd=folder,
                input=body["stdin"].encode(),
                capture_output=True,
                timeout=body["run_timeout"],
                check=False,
            )
        except subprocess.TimeoutExpired:
            result: dict[str, Any] = {"status": "TimeLimitExceeded", "execution_time": body["run_timeout"]}
            return {"status": "Failed", "message": "", "compile_result": None, "run_result": result, "files": {}}
    result = {
        "status": "Finished",
        "execution_time": 0.1,
        "return_code": done.returncode,
        "stdout": done.stdout[: 1 << 20].decode("utf-8", "replace"),
        "stderr": done.stderr.decode("utf-8", "replace"),
    }
    status = "Failed" if done.returncode else "Success"
    return {"status": status, "message": "", "compile_result": None, "run_result": result, "files": {}}


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def built(server: Server, **options: Any) -> Any:
    return ChosenSandbox.of({"kind": "fusion", "endpoint": server.endpoint, "python": "python3", **options}).build()


def test_a_program_with_files_input_and_limits(server: Server) -> None:
    program = "import sys\nprint(open('data/x').read() + input(), sys.argv[1])"
    files = {"p.py": program, "data/x": b"bytes "}
    done = built(server).run(files, ["python", "p.py", "an 'argument'"], "hello", Limits(seconds=7, memory=99))
    assert (done.status, done.exit_code, done.stdout) == ("ok", 0, "bytes hello an 'argument'\n")
    request = server.seen[-1]
    assert (request["run_timeout"], request["memory_limit_MB"]) == (7, 99)


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("raise SystemExit(3)", "error"),
        ("raise MemoryError", "memory"),
        ("import os\nos.kill(os.getpid(), 9)", "killed"),
        ("while True: pass", "timeout"),
        ("print('x' * (2 << 20))", "output"),
    ],
)
def test_how_a_program_ended(server: Server, program: str, status: str) -> None:
    assert built(server).run({"p.py": program}, ["python", "p.py"], "", Limits(seconds=1)).status == status


def test_failures_of_the_server_are_not_the_programs(server: Server) -> None:
    sandbox = built(server, tries=2)
    failure = {"status": "SandboxError", "message": "no disk", "run_result": None}
    errors = [
        ([(200, json.dumps(failure))], "no disk"),
        ([(200, "<html>")], "does not answer like SandboxFusion"),
        ([(500, "")], "says 500"),
        ([(503, ""), (503, "")], "says 503"),
    ]
    for replies, message in errors:
        server.scripted = replies
        with pytest.raises(BackendError, match=message):
            sandbox.run({}, ["true"])
    server.scripted = [(503, "")]
    assert sandbox.run({}, ["echo", "again"]).stdout == "again\n"


def test_no_server_is_an_error_with_its_remedy() -> None:
    with Server() as gone:
        endpoint = gone.endpoint
    with pytest.raises(BackendError, match=r"set sandbox\.endpoint"):
        ChosenSandbox.of({"kind": "fusion", "endpoint": endpoint, "tries": 1}).build()
    with pytest.raises(InputError, match="endpoint"):
        ChosenSandbox.of({"kind": "fusion", "endpoint": "file:///etc/passwd"}).build()


def test_code_is_judged_through_it_except_by_asserts(server: Server) -> None:
    assert not isinstance(built(server), Interactive)
    spec = {"kind": "fusion", "endpoint": server.endpoint, "python": "python3"}
    verifier = ChosenVerifier.of({"kind": "code", "seconds": 2, "sandbox": spec}).build()
    numbers = [str(i) for i in range(5)]
    gold = {"inputs": numbers, "outputs": [f"{'x' * 300_000}{i}" for i in numbers]}
    assert verifier.verify(gold, "print('x' * 300_000 + input())").passed, "output in portions that the server keeps"
    assert verifier.verify(gold, "print('x' * 300_000)").reason == "wrong_output"
    assert verifier.verify(gold, "print('x' * 1_500_000)").reason == "output_limit"
    server.scripted = [(500, "")]
    assert verifier.verify(gold, "print(1)").reason == "sandbox_error"
    with pytest.raises(InputError, match="use sandbox kind bubblewrap"):
        verifier.verify(["assert f() == 1"], "def f(): return 1")
