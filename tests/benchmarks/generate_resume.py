"""How fast a log of long traces is opened again for resuming, and in how much memory.

    python -m tests.benchmarks.generate_resume [--traces 200000] [--bytes 20000] [--folder DIR]

Two logs are built: one of all traces, sealed as it grows, and one whose active file is 256 MiB and not sealed. A trace
is a full row: words drawn at random from an English-like vocabulary and token ids drawn at random, which hardly
compress, in the proportion that real rows have. Each log is then opened in a fresh process with nothing of it in the
page cache: a dict from id to finish, tokens and address out of its heads, and the log opened for appending. The
reference reads the same log line by line with `json.loads` and keeps the same dict. Seconds include starting Python.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from distill.store import jsonl

PART = 256 << 20


class Text:
    """Slices of a long random text, so that rows differ and making them is fast."""

    def __init__(self, seed: int, size: int = 32 << 20) -> None:
        rng = random.Random(seed)
        letters = "etaoinshrdlucmfwypvbgkqjxz"
        weights = [1 / (rank + 2) for rank in range(26)]
        vocabulary = ["".join(rng.choices(letters, weights, k=rng.randint(1, 10))) for _ in range(5000)]
        frequent = [1 / (rank + 5) for rank in range(5000)]
        self._words = " ".join(rng.choices(vocabulary, frequent, k=size // 6))
        self._ids = rng.randbytes(size)
        self._rng = rng

    def words(self, size: int) -> str:
        at = self._rng.randrange(len(self._words) - size)
        return self._words[at : at + size]

    def ids(self, count: int) -> str:
        at = self._rng.randrange(len(self._ids) - 2 * count)
        return base64.b64encode(self._ids[at : at + 2 * count]).decode()


def rows(count: int, size: int) -> Iterator[bytes]:
    text, rng = Text(0), random.Random(1)
    for number in range(count):
        tokens = int((size - 800) / 6.7 * rng.uniform(0.5, 1.5))  # four characters and 2.7 of packed id each
        reasoning = 4 * tokens * 9 // 10
        row: dict[str, Any] = {
            "schema_version": 1,
            "id": rng.randbytes(10).hex(),
            "problem_id": random.Random(number // 4).randbytes(10).hex(),
            "sample": number % 4,
            "model": "deepseek-ai/DeepSeek-R1",
            "revision": "main",
            "template": rng.randbytes(10).hex(),
            "sampling": {"temperature": 0.6, "top_p": 0.95, "top_k": None, "max_tokens": 32768},
            "prompt_hash": rng.randbytes(10).hex(),
            "prefill": "<think>\n",
            "completion": f"{text.words(reasoning)}</think>\n\n{text.words(4 * tokens - reasoning)}",
            "reasoning_span": [0, reasoning],
            "answer_span": [reasoning + 8, 4 * tokens],
            "finish": rng.choice(["stop", "stop", "stop", "length"]),
            "usage": {"prompt": 120, "reasoning": tokens * 9 // 10, "answer": tokens // 10},
            "engine": "vllm 0.20",
            "segments": [
                {"end": 4 * tokens, "tokens": tokens, "finish": "stop", "seed": number, "endpoint": "x", "seconds": 9.5}
            ],
            "prompt_ids": text.ids(120),
            "completion_ids": text.ids(tokens),
            "source": None,
            "source_id": None,
        }
        yield orjson.dumps(row) + b"\n"


def build(path: Path, count: int, size: int, seal: int, until: int | None = None) -> dict[str, float]:
    waits = []
    began = time.perf_counter()
    with jsonl.Log(path, seal=seal) as log:
        for row in rows(count, size):
            start = time.perf_counter()
            at = log.append_bytes(row)
            waits.append(time.perf_counter() - start)
            if until is not None and at + len(row) >= until:
                break
    waits.sort()
    seconds = time.perf_counter() - began
    disk = sum(file.stat().st_size for file in path.parent.glob(f"{path.stem}.*"))
    print(
        f"{path.name}: {len(waits):,} rows, {jsonl.size(path) / 1e9:.2f} GB of text, {disk / 1e9:.2f} GB on disk, "
        f"built in {seconds:.0f} s; an append took {1e6 * waits[len(waits) // 2]:.0f} us, 99.9 % within "
        f"{1e3 * waits[len(waits) * 999 // 1000]:.1f} ms, the slowest {1e3 * waits[-1]:.0f} ms"
    )
    return {"rows": len(waits), "disk": disk, "slowest": waits[-1]}


def cold(path: Path) -> None:
    for file in path.parent.glob(f"{path.stem}.*"):
        handle = os.open(file, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def reopen(path: Path) -> int:
    known = {head.id: (head.finish, head.tokens, head.path, head.offset) for head in jsonl.heads(path)}
    with jsonl.Log(path):
        return len(known)


def plain(path: Path) -> int:
    known = {}
    for chunk in jsonl.chunks(path, 1 << 20):
        for at, line in jsonl.lines(chunk):
            row = json.loads(line)
            tokens = row["usage"]["reasoning"] + row["usage"]["answer"]
            known[row["id"]] = (row["finish"], tokens, str(path), at)
    return len(known)


def measure(what: str, path: Path) -> dict[str, float]:
    """In a fresh process: seconds with the imports, and its peak memory in MB."""
    cold(path)
    began = time.perf_counter()
    command = [sys.executable, "-m", "tests.benchmarks.generate_resume", "--measure", what, "--folder", str(path)]
    said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    said["seconds"] = time.perf_counter() - began
    print(
        f"{path.name}, {what}: {said['rows']:,} traces, {said['seconds']:.1f} s ({said['cpu']:.1f} s of CPU), "
        f"{said['mb']:.0f} MB"
    )
    return dict(said)


def peak() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1000
    raise RuntimeError("needs Linux")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--traces", type=int, default=200_000)
    parser.add_argument("--bytes", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, help="where to build; needs space for half the text (2 GB)")
    parser.add_argument("--measure", choices=["reopen", "plain"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        count = {"reopen": reopen, "plain": plain}[given.measure](given.folder)
        print(json.dumps({"rows": count, "mb": peak(), "cpu": time.process_time()}))
        return
    folder = Path(tempfile.mkdtemp(prefix="generate_resume.", dir=given.folder))
    try:
        sealed, tail = folder / "sealed.jsonl", folder / "tail.jsonl"
        built = build(sealed, given.traces, given.bytes, PART)
        build(tail, 10 * PART // given.bytes, given.bytes, 2 * PART, until=PART)
        ours, reference = measure("reopen", sealed), measure("plain", sealed)
        assert ours["rows"] == reference["rows"] == built["rows"]
        worst = measure("reopen", tail)
    finally:
        shutil.rmtree(folder)
    print(
        json.dumps(
            {
                "bench": "generate_resume",
                "value": round(ours["seconds"], 2),
                "unit": f"s to reopen a log of {given.traces:,} traces of {given.bytes / 1000:g} kB",
                "reference": round(reference["seconds"], 2),
                "ratio": round(reference["seconds"] / ours["seconds"], 1),
                "cpu_seconds": round(ours["cpu"], 2),
                "reference_cpu_seconds": round(reference["cpu"], 2),
                "mb": round(ours["mb"]),
                "reference_mb": round(reference["mb"]),
                "unsealed_256_mib_seconds": round(worst["seconds"], 2),
                "unsealed_256_mib_mb": round(worst["mb"]),
                "slowest_append_ms": round(1e3 * built["slowest"]),
            }
        )
    )


if __name__ == "__main__":
    main()
