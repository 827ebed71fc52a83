"""Duplicates and contamination: rates, memory, and what they find of planted edits.

    python -m tests.benchmarks.filter_dedup [--traces 4000]

References in the same run: datasketch's MinHashLSH (pip install datasketch) over the same runs of words at the same
threshold, and a plain set of 10-grams of words, as in DeepSeek-R1's decontamination. One process, one core; rates are
per CPU second. Edits are seeded. Needs the shared data (DISTILL_SHARED_DATA). The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from datasketch import MinHash, MinHashLSH

from distill.filters import PASS, Candidate, duplicates
from distill.filters.contamination import Config as Contamination
from distill.text.hashes import ngrams
from distill.text.overlap import OverlapIndex
from distill.text.tokens import tokens
from distill.types import Problem, content_id
from tests.benchmarks.filter_checks import SHARED, trace

THRESHOLD = 0.85
Edit = Callable[[str, random.Random], str]


def rows(name: str, field: str) -> list[str]:
    return [json.loads(line)[field] for line in (SHARED / name).read_text(encoding="utf-8").splitlines()]


def pieces(text: str) -> list[str]:
    """Words with the blanks behind them; Chinese characters one by one."""
    return re.findall(r"[\u4e00-\u9fff]|[^\s\u4e00-\u9fff]+|\s+", text)


def substitute(share: float) -> Edit:
    def edit(text: str, rng: random.Random) -> str:
        return "".join(
            "".join(rng.choices("abcdefghij", k=6)) if rng.random() < share and not re.search(r"[\s\d]", part) else part
            for part in pieces(text)
        )

    return edit


def insert(share: float) -> Edit:
    fillers = ["also", "then", "here", "now", "again", "exactly", "simply", "indeed"]

    def edit(text: str, rng: random.Random) -> str:
        return "".join(f"{rng.choice(fillers)} {p}" if rng.random() < share else p for p in pieces(text))

    return edit


def swap_sentences(share: float) -> Edit:
    def edit(text: str, rng: random.Random) -> str:
        parts = re.split(r"(?<=[.?!\n])\s+", text)
        for _ in range(max(1, int(share * len(parts)))):
            a, b = rng.randrange(len(parts)), rng.randrange(len(parts))
            parts[a], parts[b] = parts[b], parts[a]
        return " ".join(parts)

    return edit


def numbers(text: str, rng: random.Random) -> str:
    return re.sub(r"\d+", lambda m: str(int(m[0][:15]) + rng.randrange(1, 90)), text)


def latex_spacing(text: str, rng: random.Random) -> str:
    text = re.sub(r"\$([^$]+)\$", r"$ \1 $", text).replace("\\frac", "\\dfrac").replace("(", "\\left( ")
    return text.replace(")", " \\right)").replace("=", " = ").replace("+", "\\, + \\,")


TRACE_EDITS: dict[str, Edit] = {
    "verbatim": lambda text, rng: text,
    "case, spacing": lambda text, rng: text.upper().replace(" ", "  "),
    "substitute 0.5 %": substitute(0.005),
    "substitute 1 %": substitute(0.01),
    "substitute 2 %": substitute(0.02),
    "substitute 5 %": substitute(0.05),
    "swap 2 % of sentences": swap_sentences(0.02),
    "swap 20 % of sentences": swap_sentences(0.2),
    "cut first 5 %": lambda text, rng: text[len(text) // 20 :],
    "cut last 10 %": lambda text, rng: text[: -len(text) // 10],
    "cut last 30 %": lambda text, rng: text[: -3 * len(text) // 10],
    "other numbers": numbers,
}
LEAKS: dict[str, Edit] = {
    "verbatim": lambda text, rng: text,
    "upper case": lambda text, rng: text.upper(),
    "no punctuation": lambda text, rng: re.sub(r"(?<!\d)[.,]|[.,](?!\d)|[;:?!$，。？、]", "", text),
    "LaTeX spacing": latex_spacing,
    "5 % words put in": insert(0.05),
    "10 % words put in": insert(0.1),
    "5 % words replaced": substitute(0.05),
    "10 % words replaced": substitute(0.1),
    "last sentence cut": lambda text, rng: re.sub(r"(?<=[.。])[^.。]*$", "", text) or text,
    "other numbers": numbers,
}


def problem(text: str) -> Problem:
    return Problem.model_validate({"id": content_id(text), "messages": [{"role": "user", "content": text}]})


class Streamed:
    """Candidates made from features."""

    def __init__(self, count: int, feature: Callable[[int], bytes | None]) -> None:
        self._count, self._feature = count, feature

    def __iter__(self) -> Iterator[Candidate]:
        for n in range(self._count):
            yield Candidate(n, str(n), "p", n, True, True, lambda: PASS, self._feature(n))

    def load(self, numbers: Any) -> Iterator[Any]:
        raise NotImplementedError("no filter here asks for records")


def cpu(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def jaccard(a: str, b: str) -> float:
    one, other = (set(ngrams(tokens(text).hashes, 5).tolist()) for text in (a, b))
    return len(one & other) / max(1, len(one | other))


def settled(texts: list[str], check: duplicates.Duplicates) -> dict[int, int]:
    features = [check.feature(problem("?"), trace(text, str(n))) for n, text in enumerate(texts)]
    outcomes = check.settle(Streamed(len(texts), features.__getitem__))
    return {number: int(outcome.detail.split()[1].rstrip(",")) for number, outcome in outcomes}


def reference(texts: list[str]) -> dict[int, int]:
    """datasketch: the first earlier kept text whose estimate reaches the threshold."""
    lsh, kept, found = MinHashLSH(threshold=THRESHOLD, num_perm=128), {}, {}
    for number, text in enumerate(texts):
        words = re.findall(r"\w+", text.lower())
        sketch = MinHash(num_perm=128)
        sketch.update_batch({" ".join(words[i : i + 5]).encode() for i in range(max(1, len(words) - 4))})
        close = {other: sketch.jaccard(kept[other]) for other in lsh.query(sketch)}
        best = max(close, key=lambda other: close[other], default=None)
        if best is not None and close[best] >= THRESHOLD:
            found[number] = int(best)
        else:
            kept[str(number)] = sketch
            lsh.insert(str(number), sketch)
    return found


def measure_duplicates(texts: list[str], count: int) -> dict[str, Any]:
    rng = random.Random(0)
    check = duplicates.Duplicates(duplicates.Config(similarity=THRESHOLD))
    known = settled(texts, check)
    base = [text for n, text in enumerate(texts) if n not in known]
    print(f"{len(texts)} real traces: {len(known)} repeat another; their exact similarities:")
    print("  " + " ".join(f"{jaccard(texts[a], texts[b]):.2f}" for a, b in known.items()))
    print(f"{'edit':24}{'exact J':>8}{'found':>8}{'J ≥ 0.90':>9}{'datasketch':>12}   (of {len(base)})")
    subset = base[:100]
    wrong = pairs = 0
    for name, edit in TRACE_EDITS.items():
        copies = [edit(text, rng) for text in base]
        found = settled(base + copies, check)
        theirs = reference(subset + [copies[n] for n in range(len(subset))])
        similar = [jaccard(a, b) for a, b in zip(base, copies, strict=True)]
        for row, of in found.items():
            pairs += 1
            wrong += jaccard((base + copies)[row], (base + copies)[of]) < THRESHOLD - 0.1
        share = sum(n >= len(base) for n in found) / len(base)
        close = [len(base) + n in found for n, value in enumerate(similar) if value >= THRESHOLD + 0.05]
        shown = f"{np.mean(close):9.1%}" if close else f"{'—':>9}"
        their_share = sum(n >= len(subset) for n in theirs) / len(subset)
        print(f"{name:24}{np.mean(similar):8.3f}{share:8.1%}{shown}{their_share:12.1%}")
    print(f"of {pairs} pairs named, {wrong} have an exact similarity below {THRESHOLD - 0.1:.2f}")
    many = [trace(substitute(0.3)(base[n % len(base)], rng), str(n)) for n in range(count)]
    asked = problem("?")
    ours, features = cpu(lambda: [check.feature(asked, item) for item in many])
    settle, found = cpu(lambda: [*check.settle(Streamed(len(many), features.__getitem__))])
    theirs, _ = cpu(lambda: reference([item.text for item in many[: count // 10]]))
    print(f"{count} distinct traces of {np.mean([len(t.text) for t in many]):.0f} characters, {len(found)} named")
    return {
        "rate": count / (ours + settle),
        "feature_us": 1e6 * ours / count,
        "settle_us": 1e6 * settle / count,
        "reference": count / 10 / theirs,
    }


def memory(count: int = 200_000) -> float:
    """Bytes a trace at the peak of `settle`; one trace in five repeats the one before."""
    check = duplicates.Duplicates(duplicates.Config())

    def feature(n: int) -> bytes:
        return np.random.default_rng(n - (n % 5 == 4)).bytes(520)

    tracemalloc.start()
    found = sum(1 for _ in check.settle(Streamed(count, feature)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"settling {count:,} traces, {found:,} named: {peak / count:.0f} bytes a trace at the peak")
    return peak / count


def measure_contamination(texts: list[str], count: int) -> dict[str, Any]:
    rng = random.Random(0)
    config = Contamination()
    sets = [rows("gsm8k_test.jsonl", "question"), rows("math500.jsonl", "problem"), rows("cmath_zh.jsonl", "question")]
    known = [text for texts_ in sets for text in texts_]
    seconds, overlap = cpu(lambda: OverlapIndex(sets, config.n, config.coverage, config.numbers, config.template))
    print(f"\nindex of {len(known)} benchmark problems: {seconds:.2f} s")

    def grams(text: str) -> set[str]:
        words = re.findall(r"\w+", text.lower())
        return {" ".join(words[i : i + 10]) for i in range(len(words) - 9)}

    ten = {gram: n for n, text in enumerate(known) for gram in grams(text)}
    print(f"{'leak':24}{'problem':>9}{'trace':>9}{'10-grams':>10}   (of {len(known)}; the right one named)")
    recall = {}
    for name, edit in LEAKS.items():
        hits = within = theirs = 0
        for place, text in enumerate(known):
            leak = edit(text, rng)
            hits += any(known[m.place] == text for m in [*overlap.same(leak), *overlap.within(leak)])
            host = texts[place % len(texts)]
            cut = len(host) // 2
            within += any(m.place == place for m in overlap.within(f"{host[:cut]}\n{leak}\n{host[cut:]}"))
            theirs += any(gram in ten for gram in grams(leak))
        recall[name] = hits / len(known)
        print(f"{name:24}{hits / len(known):9.1%}{within / len(known):9.1%}{theirs / len(known):10.1%}")
    for name, field in (("gsm8k_train.jsonl", "question"), ("minerva.jsonl", "problem")):
        clean = rows(name, field)
        found = sum(1 for text in clean if [*overlap.same(text), *overlap.within(text)])
        theirs = sum(any(gram in ten for gram in grams(text)) for text in clean)
        print(f"{name}: {found} of {len(clean)} named, {theirs} by 10-grams")
    many = [substitute(0.05)(texts[n % len(texts)], rng) for n in range(count)]
    alone, _ = cpu(lambda: [[*overlap.within(text)] for text in many])
    split, _ = cpu(lambda: [tokens.__wrapped__(text) for text in many])
    theirs_s, _ = cpu(lambda: [any(gram in ten for gram in grams(text)) for text in many[: count // 4]])
    return {
        "rate": count / alone,
        "shared_words_us": 1e6 * split / count,
        "own_us": 1e6 * (alone - split) / count,
        "reference": count / 4 / theirs_s,
        "recall": recall,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--traces", type=int, default=4000)
    count = parser.parse_args().traces
    texts = rows("real_traces.jsonl", "text")
    OverlapIndex([["warm up the tables"]], 8, 0.7, 0.9, 0.3)
    copies = measure_duplicates(texts, count)
    bytes_each = memory()
    leaks = measure_contamination(texts, count)
    print(
        json.dumps(
            {
                "bench": "filter_dedup",
                "value": round(copies["rate"]),
                "unit": "traces/s per core (near duplicates)",
                "reference": round(copies["reference"]),
                "ratio": round(copies["rate"] / copies["reference"], 1),
                "feature_us": round(copies["feature_us"]),
                "settle_us": round(copies["settle_us"], 1),
                "bytes_per_trace": round(bytes_each),
                "contamination_rate": round(leaks["rate"]),
                "contamination_reference": round(leaks["reference"]),
                "contamination_us_beside_shared_words": round(leaks["own_us"]),
                "shared_words_us": round(leaks["shared_words_us"]),
            }
        )
    )


if __name__ == "__main__":
    main()
