"""What stopping at k correct saves, and that it selects what it should.

    python -m tests.benchmarks.generate_adaptive [--problems 1050] [--give-up 8] [--endpoint URL] [--keep DIR]

Both arms sample the same problems from the tiny teacher through one real vLLM server with the same seeds, and accept
the first 4 correct of each problem by sample index: one takes all 16 samples, the other stops at 4 (`--give-up`: also
after so many without a correct one; not given, it never does). Tokens are those that the engine says it made,
cancelled samples included. The engine's arithmetic depends on what else is in a batch, so a few completions differ
between the arms. That the rule itself selects the same traces, whatever their length, is therefore also shown exactly:
the first arm's outcomes and lengths go through the scheduler once more, with times to finish that follow from the
lengths and requests that come and go as they would; the selection must be identical. Beside it stands what the first 4
correct to *finish* would be. Last, the pass-rate estimate in a simulation with cap and giving up, against
(k-1)/(N-1).

The last line is JSON: tokens for each accepted trace.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from distill.backends import ChosenBackend
from distill.problems import sets
from distill.progress import LogLines
from distill.sampling import Logs, SamplingJob, StoppingRule, Tally, collect
from distill.sampling.history import Grade, History
from distill.sampling.queue import Attempt, Identity, Queue
from distill.sampling.schedule import Race, pass_rate
from distill.store import jsonl
from distill.types import Problem, Trace
from tests.benchmarks.served import MODEL, generated, teacher

N, K = 16, 4
SLOTS = 256  # requests in flight

Sample = tuple[str, int]


class Outcome(NamedTuple):
    correct: bool
    tokens: int


class Arm(NamedTuple):
    tally: Tally
    tokens: int
    """By the engine's count."""
    outcomes: dict[Sample, Outcome]
    selected: set[Sample]


def arm(url: str, folder: Path, some: list[Problem], rule: StoppingRule) -> Arm:
    names = ("traces", "failures", "grades", "pass_rates", "censored", "replies")
    logs = Logs(*(folder / f"{name}.jsonl" for name in names))
    wanted = SamplingJob(
        problems=some,
        model=MODEL,
        sampling=MODEL.sampling,
        rule=rule,
        seed=0,
        backend=ChosenBackend.of({"kind": "vllm", "endpoints": [url], "concurrency": SLOTS}),
        graded=True,
    )
    before = generated(url)
    tally = collect(wanted, logs, LogLines(), "benchmark")
    time.sleep(2)  # what was cancelled last is counted too
    tokens = generated(url) - before
    right = {(row.problem_id, row.sample): bool(row.passed) for row in jsonl.read(folder / "grades.jsonl", Grade)}
    outcomes = {
        (trace.problem_id, trace.sample): Outcome(right[trace.problem_id, trace.sample], trace.usage.completion)
        for trace in jsonl.read(logs.traces, Trace)
    }
    print(
        f"{rule}: {tokens:,} tokens by the engine, {tally.tokens:,} of them in traces ({tally.fate_shares()}), "
        f"{tally.cancelled:,} cancelled, {tally.seconds:.0f} s",
        flush=True,
    )
    return Arm(tally, tokens, outcomes, first_correct(outcomes, rule))


def first_correct(outcomes: dict[Sample, Outcome], rule: StoppingRule) -> set[Sample]:
    """The first `K` correct of each problem by index, as far as the rule looks."""
    chosen: set[Sample] = set()
    for problem in {problem for problem, _ in outcomes}:
        right, seen = 0, 0
        while not rule.ends(right, seen):
            if outcomes[problem, seen].correct and right < K:
                chosen.add((problem, seen))
            right += outcomes[problem, seen].correct
            seen += 1
    return chosen


def replay(outcomes: dict[Sample, Outcome], some: list[Problem], rule: StoppingRule) -> tuple[set[Sample], int]:
    """What the scheduler selects from recorded samples that take as long as they are long, and the tokens it takes."""
    with tempfile.TemporaryDirectory() as empty:
        history = History(Logs(Path(empty) / "t", Path(empty) / "f"))
    identity = Identity(MODEL.name, MODEL.revision, "", MODEL.sampling, {})
    queue = Queue(some, identity, rule, history, graded=True, budget=1, continues=False)
    flying: list[tuple[float, int, Attempt]] = []
    began: dict[Sample, float] = {}
    gone: set[Sample] = set()
    selected: set[Sample] = set()
    now, tokens, number = 0.0, 0, 0
    while True:
        while len(flying) - len(gone) < SLOTS and (attempt := queue.take()):
            sample = (attempt.problem.id, attempt.sample)
            began[sample], number = now, number + 1
            heapq.heappush(flying, (now + outcomes[sample].tokens, number, attempt))
        if not flying:
            break
        now, _, attempt = heapq.heappop(flying)
        sample = (attempt.problem.id, attempt.sample)
        if sample in gone:
            gone.remove(sample)
            continue
        tokens += outcomes[sample].tokens
        del began[sample]
        for other in queue.finish_attempt(attempt, outcomes[sample].correct):
            cancelled = (attempt.problem.id, other)
            if cancelled in began:  # else it waits or has finished
                tokens += round(now - began.pop(cancelled))
                gone.add(cancelled)
                queue.cancelled()
        for entry in queue.ended_problems:
            seen = [(entry.problem.id, n) for n in range(entry.race.counted)]
            selected.update([sample for sample in seen if outcomes[sample].correct][:K])
        queue.ended_problems.clear()
    return selected, tokens


def first_to_finish(outcomes: dict[Sample, Outcome]) -> list[int]:
    """Lengths of the first `K` correct of each problem that finish when all begin at once: the shortest."""
    found: dict[str, list[int]] = {}
    for (problem, _), outcome in outcomes.items():
        if outcome.correct:
            found.setdefault(problem, []).append(outcome.tokens)
    return [length for lengths in found.values() for length in sorted(lengths)[:K]]


def bias(rule: StoppingRule, rate: float, times: int, dice: random.Random) -> tuple[float, float, float]:
    """(bias, its standard error, bias of the naive estimate) of the pass rate where samples are right at `rate`."""
    ours, naive = [], []
    for _ in range(times):
        race = Race(rule)
        while not race.ended:
            race.add_outcome(race.counted, dice.random() < rate)
        ours.append(float(pass_rate(rule, race.correct, race.counted)))
        stopped = race.correct >= K
        naive.append((race.correct - 1) / (race.counted - 1) if stopped else race.correct / race.counted)
    return statistics.mean(ours) - rate, statistics.stdev(ours) / times**0.5, statistics.mean(naive) - rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=1050)
    parser.add_argument("--give-up", type=int)
    parser.add_argument("--endpoint", help="a server of the tiny teacher that runs already")
    parser.add_argument("--keep", type=Path, help="an empty folder for the logs")
    given = parser.parse_args()
    some = list(sets.load("countdown-tiny", "train", given.problems))
    rule = StoppingRule(samples=N, stop_at=K, give_up=given.give_up)
    with tempfile.TemporaryDirectory() as folder, teacher(given.endpoint) as url:
        fixed = arm(url, (given.keep or Path(folder)) / "fixed", some, StoppingRule(samples=N))
        stopped = arm(url, (given.keep or Path(folder)) / "stopped", some, rule)
    each = {name: one.tokens / len(one.selected) for name, one in (("fixed", fixed), ("stopped", stopped))}
    shared = fixed.selected & stopped.selected
    lengths = {
        name: statistics.mean(one.outcomes[sample].tokens for sample in one.selected)
        for name, one in (("fixed", fixed), ("stopped", stopped))
    }
    expected = first_correct(fixed.outcomes, rule)
    again, tokens = replay(fixed.outcomes, some, rule)
    assert again == expected, "the scheduler selects other traces than the rule"
    fastest = statistics.mean(first_to_finish(fixed.outcomes))
    replayed = statistics.mean(fixed.outcomes[sample].tokens for sample in again)
    print(
        f"selected: {len(fixed.selected):,} and {len(stopped.selected):,}, the same {len(shared):,}; "
        f"mean length {lengths['fixed']:.1f} and {lengths['stopped']:.1f}\n"
        f"replayed: {len(again):,} selected, identical to the rule's; mean length {replayed:.1f}, of the first to "
        f"finish {fastest:.1f}; {tokens:,} tokens"
    )
    dice, simulated = random.Random(0), StoppingRule(samples=N, stop_at=K, give_up=8)
    worst = 0.0
    for rate in (0.05, 0.2, 0.5, 0.8):
        off, error, naive = bias(simulated, rate, 40_000, dice)
        worst = max(worst, abs(off) / error)
        print(f"pass rate {rate}: bias {off:+.5f} ± {error:.5f}; (k-1)/(N-1) {naive:+.5f}")
    assert worst < 4, "the pass-rate estimate is biased"
    told = {
        "bench": "generate_adaptive",
        "value": round(each["stopped"], 1),
        "unit": "teacher tokens/accepted trace",
        "reference": round(each["fixed"], 1),
        "ratio": round(each["stopped"] / each["fixed"], 4),
        "give_up": given.give_up,
        "selected": len(stopped.selected),
        "same_selected": round(len(shared) / len(fixed.selected | stopped.selected), 4),
        "replay_identical": again == expected,
        "replay_selected": len(again),
        "mean_length": {**{name: round(value, 1) for name, value in lengths.items()}, "replay": round(replayed, 1)},
        "mean_length_first_to_finish": round(fastest, 1),
        "pass_rate_bias_in_standard_errors": round(worst, 2),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
