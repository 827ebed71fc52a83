"""What sampling costs this side of the wire: CPU per request of the whole sampler, and how many it holds in flight.

    python -m tests.benchmarks.generate_client [--requests 8192] [--rounds 3] [--profile]

A server in a process of its own answers each request after 2 s with 50 KB: text, token ids, usage, as vLLM does. One
arm is distill's sampler with all that it does to a reply: raw reply on disk, parsed, split, graded in worker processes,
appended to the log, shown in a live terminal view. The other is the official openai client as it comes (it opens 1,000
connections at most), which parses the reply and drops it. Each arm is a process of its own, measured by getrusage from
the first request to the last; importing is not counted, nor is what is imported late; they alternate, and medians are
compared. The last line is JSON: milliseconds of CPU per request of our process, without and (`with_grading`) with its
grading workers, whose start is counted.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import importlib
import io
import json
import pstats
import random
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

CONTEXT = 1 << 16
DELAY = 2.0  # seconds
LATE = {  # what each arm imports when it is needed first
    "ours": ("aiohttp", "distill.backends.vllm", "filelock", "jinja2.ext", "jinja2.sandbox", "tokenizers", "zstandard"),
    "openai": ("openai.resources", "openai.types"),
}
SAMPLES = 16
WANTED = 2048  # requests in flight


def reply(close: list[int]) -> bytes:
    """A reply of 50 KB, of four letters a token and ids from a vocabulary of 150,000, as large models have."""
    import orjson

    dice = random.Random(0)
    count = 4750
    thought = "so 17 + 9 - 3 = 23, not 29; " * (4 * count // 28)
    text = f"{thought}\n</think>\n\n<answer>17 + 9 + 3</answer>"
    ids = [dice.randrange(1000, 150_000) for _ in range(count)]
    ids[-12 : -12 + len(close)] = close
    choice = {"index": 0, "text": text, "token_ids": ids, "finish_reason": "stop", "logprobs": None}
    usage = {"prompt_tokens": 48, "completion_tokens": len(ids), "total_tokens": 48 + len(ids)}
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "tiny"}
    return orjson.dumps({**head, "choices": [choice], "usage": usage})


def serve(port: int) -> None:
    """Answer for ever."""
    from aiohttp import web

    from distill import resources
    from distill.models.chat import Tokenizer

    close = Tokenizer(str(resources.folder("data") / "tiny" / "teacher")).encode("</think>")
    now = peak = 0
    body = reply(close)

    async def completions(request: web.Request) -> web.Response:
        nonlocal now, peak
        await request.read()
        now += 1
        peak = max(peak, now)
        try:
            await asyncio.sleep(DELAY)
        finally:
            now -= 1
        return web.Response(body=body, content_type="application/json")

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "tiny", "max_model_len": CONTEXT}]})

    async def metrics(_: web.Request) -> web.Response:
        values = {"num_requests_running": now, "num_requests_waiting": 0, "kv_cache_usage_perc": 0.5}
        return web.Response(text="".join(f'vllm:{name}{{engine="0"}} {value}\n' for name, value in values.items()))

    async def plain(_: web.Request) -> web.Response:
        return web.json_response({"version": "0.0.bench"})

    async def told(_: web.Request) -> web.Response:
        nonlocal peak
        highest, peak = peak, 0
        return web.json_response({"peak": highest, "bytes": len(body)})

    app = web.Application(client_max_size=1 << 24)
    app.router.add_post("/v1/completions", completions)
    for path, answer in {"/v1/models": models, "/metrics": metrics, "/told": told}.items():
        app.router.add_get(path, answer)
    for path in ("/version", "/health"):
        app.router.add_get(path, plain)
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None, backlog=4096)


def spent(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def ours(url: str, requests: int, profile: bool) -> dict[str, float]:
    """The whole sampler."""
    from distill.cli.progress import Bar
    from rich.console import Console

    from distill.backends import ChosenBackend
    from distill.models import presets
    from distill.problems import sets
    from distill.sampling import Logs, SamplingJob, StoppingRule, collect
    from distill.types import Sampling

    names = ("traces", "failures", "grades", "pass_rates", "censored", "replies")
    with tempfile.TemporaryDirectory() as folder:
        logs = Logs(*(Path(folder) / f"{name}.jsonl" for name in names))
        wanted = SamplingJob(
            problems=list(sets.load("countdown-tiny", "train", requests // SAMPLES)),
            model=presets.as_model(presets.teacher("tiny")).model_copy(update={"context": CONTEXT}),
            sampling=Sampling(temperature=0.6, top_p=0.95, max_tokens=CONTEXT // 2),
            rule=StoppingRule(samples=SAMPLES),
            seed=0,
            backend=ChosenBackend.of({"kind": "vllm", "endpoints": [url], "concurrency": WANTED}),
            graded=True,
        )
        profiler = cProfile.Profile()
        bar = Bar(Console(file=io.StringIO(), force_terminal=True, width=120))
        before = spent(resource.RUSAGE_SELF)
        began = time.monotonic()
        if profile:
            profiler.enable()
        tally = collect(wanted, logs, bar, "benchmark")
        if profile:
            profiler.disable()
        own, seconds = spent(resource.RUSAGE_SELF) - before, time.monotonic() - began
        assert tally.replies == requests
        assert tally.solved <= len(wanted.problems)
    if profile:
        report = io.StringIO()
        pstats.Stats(profiler, stream=report).sort_stats("tottime").print_stats(28).sort_stats("cumtime").print_stats(
            "distill", 40
        )
        print(report.getvalue(), file=sys.stderr)
    return {"own": own, "children": spent(resource.RUSAGE_CHILDREN), "seconds": seconds}


def openai(url: str, requests: int) -> dict[str, float]:
    """The official client, which does nothing with a reply."""
    from openai import AsyncOpenAI

    from distill.models import presets
    from distill.models.chat import Tokenizer
    from distill.models.reasoning import Tags
    from distill.problems import sets

    model = presets.as_model(presets.teacher("tiny"))
    tokenizer = Tokenizer(model.path)
    some = sets.load("countdown-tiny", "train", requests // SAMPLES)
    prompts = [tokenizer.prompt(problem.messages, Tags()).ids for problem in some]

    async def go() -> None:
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
            places = asyncio.Semaphore(WANTED)

            async def one(number: int) -> None:
                async with places:
                    done = await client.completions.create(
                        model="tiny",
                        prompt=list(prompts[number // SAMPLES]),
                        max_tokens=CONTEXT // 2,
                        temperature=0.6,
                        top_p=0.95,
                        seed=number,
                        extra_body={"return_token_ids": True},
                    )
                assert done.choices[0].finish_reason == "stop"

            await asyncio.gather(*(one(number) for number in range(requests)))

    before, began = spent(resource.RUSAGE_SELF), time.monotonic()
    asyncio.run(go())
    return {"own": spent(resource.RUSAGE_SELF) - before, "seconds": time.monotonic() - began}


def told(url: str) -> dict[str, int]:
    with urllib.request.urlopen(f"{url}/told", timeout=60) as reply:
        found: dict[str, int] = json.load(reply)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="print where our process spends its time, and stop")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        return serve(given.serve)
    count = given.requests - given.requests % SAMPLES
    if given.arm:
        for module in LATE[given.arm]:
            importlib.import_module(module)
        arm = ours(given.url, count, given.profile) if given.arm == "ours" else openai(given.url, count)
        return print(json.dumps(arm))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    module = [sys.executable, "-m", "tests.benchmarks.generate_client"]
    with subprocess.Popen([*module, "--serve", str(port)]) as server:
        try:
            compare(url, module, count, 0 if given.profile else given.rounds)
        finally:
            server.terminate()


def compare(url: str, module: list[str], count: int, rounds: int) -> None:
    """Both arms `rounds` times; without any, one profile of ours."""
    for _ in range(100):
        try:
            size = told(url)["bytes"]
            break
        except OSError:
            time.sleep(0.2)
    found: dict[str, list[dict[str, Any]]] = {"ours": [], "openai": []}
    for arm in ("ours", "openai") * rounds or ("ours",):
        words = [*module, "--arm", arm, "--url", url, "--requests", str(count), *(() if rounds else ("--profile",))]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
        row = json.loads(done.stdout.splitlines()[-1]) | {"in_flight": told(url)["peak"]}
        found[arm].append(row)
        print(f"{arm}: {1000 * row['own'] / count:.3f} ms CPU/request, {row}, replies of {size:,} bytes", flush=True)
    if not rounds:
        return
    own, reference = (1000 * statistics.median(row["own"] for row in found[arm]) / count for arm in found)
    grading = 1000 * statistics.median(row["children"] for row in found["ours"]) / count
    told_last = {
        "bench": "generate_client",
        "value": round(own, 4),
        "unit": "ms CPU/request",
        "reference": round(reference, 4),
        "ratio": round(own / reference, 4),
        "with_grading": round(own + grading, 4),
        "ratio_with_grading": round((own + grading) / reference, 4),
        "in_flight": max(row["in_flight"] for row in found["ours"]),
        "requests": count,
    }
    print(json.dumps(told_last))


if __name__ == "__main__":
    main()
