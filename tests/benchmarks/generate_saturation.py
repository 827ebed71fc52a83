"""Whether the sampler keeps an engine as busy as vLLM's own load generator does.

    python -m tests.benchmarks.generate_saturation [--problems 128] [--rounds 3] [--endpoint URL]

One real vLLM server with the tiny teacher, and two arms by turns, the other first each round: distill's whole sampler
(grading, logs, live view), and `vllm.benchmarks.serve`, as a process of its own. Both ask for the same prompts in the
same order with the same number of requests in flight, seeds and sampling parameters. The sampler goes first once,
unmeasured; the lengths that came of it are what the load generator asks for, with the end token ignored. So both make
the same number of tokens, but for what rounding in other batches changes. Tokens a second are the engine's count by the
time from the first request to the last reply, and the median of the rounds counts. The load generator streams, which it
always does; the sampler need not. On a machine without a GPU clients and engine share the cores. The last line is JSON.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from distill.cli.progress import Bar
from rich.console import Console

from distill.backends import ChosenBackend
from distill.models.chat import Tokenizer
from distill.models.reasoning import Tags
from distill.problems import sets
from distill.sampling import Logs, SamplingJob, StoppingRule, collect
from distill.store import jsonl
from distill.types import Problem, Trace
from tests.benchmarks.served import MODEL, generated, teacher

SAMPLES = 8
_LOAD = """
import sys
from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args(sys.argv[1:]))
"""


def ours(url: str, some: list[Problem], places: int, folder: Path) -> tuple[float, list[int]]:
    """(tokens a second, lengths with the end token, in the order of asking)."""
    names = ("traces", "failures", "grades", "pass_rates", "censored", "replies")
    logs = Logs(*(folder / f"{name}.jsonl" for name in names))
    wanted = SamplingJob(
        problems=some,
        model=MODEL,
        sampling=MODEL.sampling,
        rule=StoppingRule(samples=SAMPLES),
        seed=0,
        backend=ChosenBackend.of({"kind": "vllm", "endpoints": [url], "concurrency": places}),
        graded=True,
    )
    before = generated(url)
    tally = collect(wanted, logs, Bar(Console(file=io.StringIO(), force_terminal=True, width=120)), "benchmark")
    tokens = generated(url) - before
    assert tally.replies == SAMPLES * len(some)
    made = {
        (trace.problem_id, trace.sample): trace.usage.completion + (trace.finish == "stop")
        for trace in jsonl.read(logs.traces, Trace)
    }
    return tokens / tally.seconds, [made[problem.id, sample] for problem in some for sample in range(SAMPLES)]


def theirs(url: str, some: list[Problem], places: int, folder: Path, lengths: list[int]) -> float:
    """Tokens a second of vLLM's load generator."""
    tokenizer = Tokenizer(MODEL.path)
    prompts = [tokenizer.prompt(problem.messages, Tags()).text for problem in some]
    rows = [{"prompt": prompts[n // SAMPLES], "output_tokens": length} for n, length in enumerate(lengths)]
    data = folder / "prompts.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    body = {"temperature": MODEL.sampling.temperature, "top_p": MODEL.sampling.top_p, "seed": 7}
    body |= {"add_special_tokens": False, "top_k": -1, "min_p": 0.0}
    words = ["--backend", "vllm", "--base-url", url, "--model", MODEL.path, "--served-model-name", MODEL.name]
    words += ["--dataset-name", "custom", "--dataset-path", str(data), "--custom-output-len", "-1"]
    words += ["--skip-chat-template", "--disable-shuffle", "--ignore-eos", "--extra-body", json.dumps(body)]
    words += ["--num-prompts", str(len(rows)), "--max-concurrency", str(places), "--disable-tqdm"]
    words += ["--save-result", "--result-dir", str(folder), "--result-filename", "result.json"]
    before = generated(url)
    done = subprocess.run([sys.executable, "-c", _LOAD, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    told = json.loads((folder / "result.json").read_text())
    tokens = generated(url) - before
    assert told["completed"] == len(rows)
    assert tokens == sum(lengths), (tokens, sum(lengths))
    return float(tokens / told["duration"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=128, help=f"each is sampled {SAMPLES} times")
    parser.add_argument("--places", type=int, default=256, help="requests in flight")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--endpoint", help="a server of the tiny teacher that runs already")
    given = parser.parse_args()
    some = list(sets.load("countdown-tiny", "train", given.problems))
    rates: dict[str, list[float]] = {"ours": [], "theirs": []}
    with tempfile.TemporaryDirectory() as folder, teacher(given.endpoint) as url:
        _, lengths = ours(url, some, given.places, Path(folder) / "first")
        for number in range(given.rounds):
            for arm in sorted(rates, reverse=bool(number % 2)):
                into = Path(folder) / f"{arm}{number}"
                into.mkdir()
                if arm == "ours":
                    rate, _ = ours(url, some, given.places, into)
                else:
                    rate = theirs(url, some, given.places, into, lengths)
                rates[arm].append(rate)
                print(f"{arm}: {rate:,.0f} tokens/s", flush=True)
    value, reference = (statistics.median(rates[arm]) for arm in ("ours", "theirs"))
    told = {
        "bench": "generate_saturation",
        "value": round(value, 1),
        "unit": "tokens/s",
        "reference": round(reference, 1),
        "ratio": round(value / reference, 4),
        "requests": len(lengths),
        "tokens": sum(lengths),
        "in_flight": given.places,
        "rounds": {arm: [round(rate) for rate in found] for arm, found in rates.items()},
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
