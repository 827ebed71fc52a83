"""A real vLLM server with the tiny teacher, for benchmarks that compare arms on one engine."""

from __future__ import annotations

import re
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distill.models import presets
from distill.serving.server_process import Server, claim_port, is_cpu_build, vllm_command

MODEL = presets.as_model(presets.teacher("tiny"))
_TOKENS = re.compile(r"^vllm:generation_tokens_total(?:\{.*\})? ([\d.e+]+)$", re.MULTILINE)


@contextmanager
def teacher(url: str | None) -> Iterator[str]:
    """The address of a server: `url`, or one that is started here and stopped at the end."""
    if url:
        yield url.rstrip("/")
        return
    with tempfile.TemporaryDirectory() as folder:
        port = claim_port(None)
        env = {"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_NO_USAGE_STATS": "1"}
        server = Server(vllm_command(MODEL, port, is_cpu_build()), env, Path(folder) / "vllm.log")
        address = f"http://127.0.0.1:{port}"
        try:
            while not _healthy(address):
                assert server.alive, server.last_words()
                time.sleep(0.5)
            yield address
        finally:
            server.stop()


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5):
            return True
    except OSError:
        return False


def generated(url: str) -> int:
    """Completion tokens that the engine has made so far, those of aborted requests included."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=60) as reply:
        return round(sum(float(found) for found in _TOKENS.findall(reply.read().decode())))
