"""The sampler on a server: raw replies are on disk before they are read, and what no one could read stays."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from distill.backends import ChosenBackend
from distill.models import presets
from distill.problems import sets
from distill.progress import LogLines
from distill.sampling import Logs, SamplingJob, StoppingRule, collect
from distill.sampling.price import Price
from distill.store import jsonl
from distill.types import Trace
from tests.backends.fake import Fake, raw, reply

RIGHT = "It is so.\n</think>\n\n<answer>yes</answer>"


@contextmanager
def running(server: Fake) -> Iterator[str]:
    """A fake server in a thread of its own: sampling runs its own event loop."""
    up, url = threading.Event(), ""
    loop = asyncio.new_event_loop()
    down = asyncio.Event()

    async def serve() -> None:
        nonlocal url
        async with server.running() as url:
            up.set()
            await down.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert up.wait(10)
        yield url
    finally:
        loop.call_soon_threadsafe(down.set)
        thread.join()
        loop.close()


@pytest.mark.slow
def test_replies_are_kept_until_they_are_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = tmp_path / "p.jsonl"
    rows = [{"problem": f"{n}?", "answer": "yes", "verifier": {"kind": "exact"}} for n in range(3)]
    source.write_text("\n".join(map(json.dumps, rows)))
    names = ("traces", "failures", "grades", "pass_rates", "censored", "replies")
    logs = Logs(*(tmp_path / f"{name}.jsonl" for name in names))
    with running(Fake(raw("nonsense"), reply(RIGHT, tokens=13), context=2048)) as url:
        wanted = SamplingJob(
            problems=list(sets.load(str(source), "train")),
            model=presets.as_model(presets.teacher("tiny")),
            sampling=presets.teacher("tiny").sampling,
            rule=StoppingRule(samples=2),
            seed=0,
            backend=ChosenBackend.of({"kind": "vllm", "endpoints": [url], "concurrency": 2}),
            graded=True,
            price=Price(output=10),
        )
        with caplog.at_level("INFO", "distill"):
            tally = collect(wanted, logs, LogLines(), "test")
    assert (tally.replies, tally.solved, tally.refused, tally.engines) == (6, 3, 0, 1)
    assert {trace.completion for trace in jsonl.read(logs.traces, Trace)} == {RIGHT}
    assert not (tmp_path / "replies.jsonl").exists()
    [[_, unread]] = [json.loads(line) for line in (tmp_path / "replies.jsonl.unread").read_text().splitlines()]
    assert unread == "nonsense"
    assert "3 problems × 2 samples; at most 480 tokens each" in caplog.text
    assert "tiny through vllm at 1 endpoint" in caplog.text
    shown = tally.view(3, 0, {"up": 2, "ejected": 1, "queued": 4, "retries": 1, "wasted_tokens": 7}, wanted.price)
    assert shown["endpoints"] == "2 up, 1 ejected, 4 requests queued there; 1 retries, 7 tokens lost with them"
    assert shown["cost"] == "0.00"
    assert tally.prompt_tokens == sum(trace.usage.prompt for trace in jsonl.read(logs.traces, Trace))
