"""Verification alone against TRL's accuracy_reward, per core: python -m tests.benchmarks.verify_speed [copies]

Real maths traces (shared data), each as several copies whose answers and golds differ, so that no cache of ours helps
across copies. The processor time of this process and of the algebra worker counts, start-up does not; TRL's reward
gets boxed golds and the same texts.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from distill.machine import killable
from distill.types import Message, Problem, Trace
from distill.verifiers import Verifiers
from tests.conftest import make_trace

FOLDER = Path(os.environ.get("DISTILL_SHARED_DATA", Path(__file__).parents[2] / "../shared/data"))
_REFERENCE = 200
"""Traces that TRL judges; it is slow."""


def rows() -> list[dict[str, Any]]:
    lines = (FOLDER / "real_traces.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    return [row for row in found if row["domain"] == "math" and row["truth"] in ("correct", "incorrect")]


def copies(count: int) -> Iterator[tuple[Problem, Trace]]:
    """Each trace `count` times; in the reply and the gold of a copy an integer gold is another number."""
    for copy in range(count):
        for row in rows():
            thought, mark, reply = row["text"].rpartition("</think>")
            gold = row["reference"]
            if re.fullmatch(r"-?\d+", gold):
                changed = str(int(gold) + 1000 * copy)
                reply = re.sub(rf"(?<![\d.]){re.escape(gold)}(?![\d]|\.\d)", changed, reply)
                gold = changed
            problem = Problem.make((Message(role="user", content=row["problem"]),), answer=gold)
            yield problem, make_trace(f"{thought}\nCopy {copy}.{mark}{reply}", prefill="")


def rate(work: Callable[[], int]) -> float:
    """Traces a second of processor time, the worker's included."""
    worker = killable.shared()
    start = time.process_time() + worker.call(time.process_time)
    done = work()
    return done / (time.process_time() + worker.call(time.process_time) - start)


def ours(pairs: list[tuple[Problem, Trace]]) -> int:
    verifiers = Verifiers()
    for problem, trace in pairs:
        verifiers.judge(problem, trace)
    return len(pairs)


def theirs(pairs: list[tuple[Problem, Trace]]) -> int:
    from trl.rewards import accuracy_reward

    chosen = pairs[:: max(1, len(pairs) // _REFERENCE)]
    accuracy_reward(
        [[{"role": "assistant", "content": trace.text}] for _, trace in chosen],
        [f"\\boxed{{{problem.answer}}}" for problem, _ in chosen],
    )
    return len(chosen)


def main() -> None:
    logging.disable(logging.WARNING)
    pairs = list(copies(int(sys.argv[1]) if len(sys.argv) > 1 else 10))
    theirs(pairs[:2])  # imports
    reference = rate(lambda: theirs(pairs))
    value = rate(lambda: ours(pairs))
    print(
        json.dumps(
            {
                "bench": "verify_speed",
                "value": round(value),
                "unit": "traces/s/core",
                "reference": round(reference),
                "ratio": round(value / reference, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
