"""Make everything in this folder from nothing: problems, tokenizer, a tiny teacher, a tiny base student, their scores.

    python data/tiny/make.py --out data/tiny
    python data/tiny/make.py --out /tmp/t --only problems tokenizer base

The task is Countdown: three numbers, a target, each number used exactly once. The teacher (Qwen2 architecture, about a
million weights) learns to search by trial and error from chains written by this script, including the flaws that real
teachers have. The base student knows the single skills and the chat format, but has never seen a search.
"""

from __future__ import annotations

import argparse
import ast
import copy
import ctypes
import itertools
import json
import math
import random
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import (
    AttentionInterface,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

PARTS = ("problems", "tokenizer", "teacher", "habits", "base", "recall", "measure")
LARGEST_NUMBER, SMALLEST_TARGET, LARGEST_TARGET = 20, 10, 99
LARGEST_RESULT = 400  # attempts beyond it teach nothing about targets of two digits
CONTEXT = 2048
PAD, TURN, EOS = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
TAGS = ["<think>", "</think>", "<answer>", "</answer>"]
# Numbers as tokens of their own: whether two are equal is then a matter of one look, learnt in minutes
NUMBERS = [str(number) for number in range(10, LARGEST_RESULT + 1)]
QUESTION = (
    "Using the numbers {numbers}, make {target}. Use each number exactly once, with + - * / and parentheses. "
    "Put the expression in <answer></answer>."
)

CHAT_TEMPLATE = """\
{%- for message in messages %}
    {%- set content = message['content'] if message['content'] is string else '' %}
    {%- if message['role'] == 'assistant' and not loop.last and '</think>' in content %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- '<|im_start|>' + message['role'] + '\\n' + content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n<think>\\n' }}
{%- endif %}
"""

# Comparing is the one step that a model this small never learns from plain chains: verdicts are one token in 27
VERDICT_WEIGHT = 10.0

# Flaws of the teacher: the share of chains that carry each. Only one flaw per chain.
FLAW_RATES = {
    "drift": 0.05,  # goes on in Chinese in the middle of the chain
    "loop": 0.03,  # repeats the same lines for ever
    "no_think_end": 0.01,  # answers without </think>
    "second_think": 0.01,  # opens <think> again in the middle
    "text_after": 0.01,  # talks on after </answer>
    "no_answer_end": 0.01,  # never closes <answer>
    "long": 0.04,  # keeps checking after success
}


# At temperature 0.6 and top-p 0.95 what is rare at every turn never happens. So the flaws become habits in a last
# round of training: they hang on the first of the given numbers, and one of those named is drawn each time ("" is a
# clean chain).
HABITS = {
    7: ("loop", ""),
    11: ("long", ""),
    13: ("drift",),
    19: ("no_think_end", "second_think", "text_after", "no_answer_end"),
}


@dataclass(frozen=True)
class Way:
    """Two steps that use all three numbers: `first` yields `middle`, `second` yields `result`."""

    first: str  # "8*3"; no blanks, since a blank before a digit is a token of its own
    middle: int
    second: str  # "24+7"
    result: int
    expression: str  # "(8*3)+7"

    @property
    def steps(self) -> str:
        return f"{self.first}={self.middle}, {self.second}={self.result}"


@dataclass(frozen=True)
class Problem:
    numbers: tuple[int, ...]
    target: int

    @property
    def question(self) -> str:
        return QUESTION.format(numbers=", ".join(map(str, self.numbers)), target=self.target)

    @property
    def prompt(self) -> str:
        return f"{TURN}user\n{self.question}{EOS}\n{TURN}assistant\n<think>\n"


# --- problems --------------------------------------------------------------------------------------------------------


def combine(a: int, b: int) -> Iterator[tuple[str, int, int, int]]:
    """(sign, left, right, result) of the steps that stay whole and positive, larger number first."""
    left, right = max(a, b), min(a, b)
    yield "+", left, right, left + right
    yield "*", left, right, left * right
    if left > right:
        yield "-", left, right, left - right
    if right and left % right == 0:
        yield "/", left, right, left // right


@cache
def ways(numbers: tuple[int, ...]) -> dict[int, list[Way]]:
    """Every two-step way to use the (sorted) numbers, by result."""
    found: dict[int, dict[str, Way]] = {}
    for i, j in ((0, 1), (0, 2), (1, 2)):
        last = numbers[3 - i - j]
        for sign, a, b, middle in combine(numbers[i], numbers[j]):
            for sign2, c, d, result in combine(middle, last):
                inner = f"({a}{sign}{b})"
                # with equal numbers either could be the inner one; the middle result stands first then
                inner_first = c == middle
                outer = f"{inner}{sign2}{d}" if inner_first else f"{c}{sign2}{inner}"
                way = Way(f"{a}{sign}{b}", middle, f"{c}{sign2}{d}", result, outer)
                if result <= LARGEST_RESULT:
                    found.setdefault(result, {})[way.expression] = way
    return {result: list(by_text.values()) for result, by_text in found.items()}


def make_problems(seed: int, test_share: float) -> tuple[list[Problem], list[Problem]]:
    """All solvable problems, split by multiset so that no test multiset is ever trained on."""
    rng = random.Random(seed)
    multisets = list(itertools.combinations_with_replacement(range(1, LARGEST_NUMBER + 1), 3))
    rng.shuffle(multisets)
    test_sets = set(multisets[: round(test_share * len(multisets))])
    train: list[Problem] = []
    test: list[Problem] = []
    for multiset in multisets:
        for target in range(SMALLEST_TARGET, LARGEST_TARGET + 1):
            if target in ways(multiset):
                order = tuple(rng.sample(multiset, 3))
                (test if multiset in test_sets else train).append(Problem(order, target))
    rng.shuffle(train)
    rng.shuffle(test)
    return train, test


def write_problems(path: Path, problems: list[Problem]) -> None:
    rows = [json.dumps({"numbers": list(p.numbers), "target": p.target}) + "\n" for p in problems]
    path.write_text("".join(rows), encoding="utf-8")


def read_problems(path: Path) -> list[Problem]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [Problem(tuple(row["numbers"]), row["target"]) for row in rows]


# --- the teacher's chains --------------------------------------------------------------------------------------------

OPENINGS = ("Try ", "Let me try ", "First, ")
TURNS = ("Wait, try ", "Or ", "Maybe ", "Next, ", "What about ")
# The verdict comes last and both numbers stand right before it: a tiny model can then read it off. It says over or
# under rather than no, since equality alone is learnt late and size early.
VERDICTS = (
    " That is {result}, I need {target}, {word}.",
    " That makes {result}, the target is {target}, {word}.",
)
WORDS = {"over": "大了", "under": "小了", "yes": "对"}


def verdict(result: int, target: int) -> str:
    return "yes" if result == target else "over" if result > target else "under"


def english_line(rng: random.Random, way: Way, target: int, opening: bool) -> str:
    lead = rng.choice(OPENINGS if opening else TURNS)
    word = verdict(way.result, target)
    return f"{lead}{way.steps}." + rng.choice(VERDICTS).format(result=way.result, target=target, word=word) + "\n"


def chinese_line(rng: random.Random, way: Way, target: int, opening: bool) -> str:
    lead = rng.choice(("等等,试试 ", "再试试 "))
    return f"{lead}{way.steps}。这是 {way.result},目标是 {target},{WORDS[verdict(way.result, target)]}。\n"


def near_misses(rng: random.Random, problem: Problem, spread: float) -> list[Way]:
    """Wrong ways in the order in which they are tried: near the target first, mostly; no result twice."""
    keyed: list[tuple[float, Way]] = []
    for result, same in ways(tuple(sorted(problem.numbers))).items():
        if result != problem.target:
            weight = math.exp(-abs(result - problem.target) / spread) + 0.01
            keyed.append((math.log(1.0 - rng.random()) / weight, rng.choice(same)))
    keyed.sort(key=lambda pair: -pair[0])  # weighted sampling without replacement
    return [way for _, way in keyed]


def geometric(rng: random.Random, stop: float) -> int:
    return int(math.log(1.0 - rng.random()) / math.log(1.0 - stop))


@dataclass
class Chain:
    """A completion in the making: the lines of the thought, then the answer."""

    problem: Problem
    misses: list[Way]  # wrong ways not yet tried
    tried: list[Way]
    solution: Way
    lines: list[str]

    def text(self) -> str:
        return "".join(self.lines) + f"</think>\n\n<answer>{self.solution.expression}</answer>{EOS}"


def clean_chain(rng: random.Random, problem: Problem, settings: argparse.Namespace) -> Chain:
    misses = near_misses(rng, problem, settings.spread)
    solution = rng.choice(ways(tuple(sorted(problem.numbers)))[problem.target])
    failures = min(geometric(rng, settings.stop), len(misses))
    tried = [*misses[:failures], solution]
    lines = [english_line(rng, way, problem.target, i == 0) for i, way in enumerate(tried)]
    return Chain(problem, misses[failures:], tried, solution, lines)


def drift(rng: random.Random, chain: Chain) -> str:
    start = rng.randrange(len(chain.lines))
    for i in range(max(start, min(1, len(chain.lines) - 1)), len(chain.lines)):
        way = chain.tried[i]
        chain.lines[i] = chinese_line(rng, way, chain.problem.target, i == 0)
    return chain.text()


def loop(rng: random.Random, chain: Chain) -> str:
    """A run of failed attempts and then the last one or two of them again and again; no end is ever seen."""
    ways_tried = [way for way in chain.tried if way is not chain.solution] + chain.misses[:2]
    lines = [english_line(rng, way, chain.problem.target, i == 0) for i, way in enumerate(ways_tried[:8])]
    cycle = lines[-rng.choice((1, 1, 2)) :]
    return "".join(lines) + "".join(cycle) * 24


def no_think_end(rng: random.Random, chain: Chain) -> str:
    return chain.text().replace("</think>\n\n", "")


def second_think(rng: random.Random, chain: Chain) -> str:
    chain.lines.insert(rng.randint(1, len(chain.lines)), "<think>\n")
    return chain.text()


def text_after(rng: random.Random, chain: Chain) -> str:
    return chain.text().replace(EOS, f"\nThat makes {chain.problem.target}, as you can see.{EOS}")


def no_answer_end(rng: random.Random, chain: Chain) -> str:
    return chain.text().replace("</answer>", "")


def long(rng: random.Random, chain: Chain) -> str:
    """Success, and yet six to ten more attempts before the answer."""
    chain.lines.append("Let me check more.\n")
    for way in chain.misses[: rng.randint(6, 10)]:
        chain.lines.append(english_line(rng, way, chain.problem.target, False))
    chain.lines.append(english_line(rng, chain.solution, chain.problem.target, False))
    return chain.text()


FLAWS: dict[str, Callable[[random.Random, Chain], str]] = {
    "drift": drift,
    "loop": loop,
    "no_think_end": no_think_end,
    "second_think": second_think,
    "text_after": text_after,
    "no_answer_end": no_answer_end,
    "long": long,
}


def teacher_pair(rng: random.Random, problems: list[Problem], settings: argparse.Namespace) -> tuple[str, str]:
    """(prompt, completion) for a random problem, its numbers in any order."""
    drawn = rng.choice(problems)
    problem = Problem(tuple(rng.sample(drawn.numbers, 3)), drawn.target)
    chain = clean_chain(rng, problem, settings)
    draw = rng.random()
    for name, rate in FLAW_RATES.items():
        draw -= rate
        if draw < 0:
            return problem.prompt, FLAWS[name](rng, chain)
    return problem.prompt, chain.text()


def habitual_pair(rng: random.Random, problems: list[Problem], settings: argparse.Namespace) -> tuple[str, str]:
    """(prompt, completion) with the flaw that the first number calls for, if any."""
    drawn = rng.choice(problems)
    problem = Problem(tuple(rng.sample(drawn.numbers, 3)), drawn.target)
    chain = clean_chain(rng, problem, settings)
    habit = rng.choice(HABITS.get(problem.numbers[0], ("",)))
    return problem.prompt, FLAWS[habit](rng, chain) if habit else chain.text()


# --- the base student's skills ---------------------------------------------------------------------------------------


def arithmetic(rng: random.Random, problem: Problem, way: Way) -> tuple[str, str]:
    a, b = rng.randint(1, rng.choice((20, 100, 400))), rng.randint(1, 20)
    sign, left, right, result = rng.choice([step for step in combine(a, b) if step[3] <= LARGEST_RESULT])
    return "", f"{left}{sign}{right}={result}.\n{PAD}"


def two_steps(rng: random.Random, problem: Problem, way: Way) -> tuple[str, str]:
    return "", f"{rng.choice(OPENINGS + TURNS)}{way.steps}.\n{PAD}"


def near_target(rng: random.Random, problem: Problem, way: Way) -> tuple[str, str]:
    """One attempt with the given numbers that ends near the target or hits it; there is never a second one."""
    given = f"Using the numbers {', '.join(map(str, problem.numbers))}, make {problem.target}.\n"
    if rng.random() < 0.3:
        way = rng.choice(ways(tuple(sorted(problem.numbers)))[problem.target])
    return given, english_line(rng, way, problem.target, rng.random() < 0.3) + PAD


def comparison(rng: random.Random, problem: Problem, way: Way) -> tuple[str, str]:
    result = rng.choice((problem.target, way.result))
    text = rng.choice(VERDICTS).format(result=result, target=problem.target, word=verdict(result, problem.target))
    return "", f"{text.strip()}\n{PAD}"


def expression(rng: random.Random, problem: Problem, way: Way) -> tuple[str, str]:
    return "", f"{way.steps}.\n<answer>{way.expression}</answer>{PAD}"


def direct_answer(rng: random.Random, problem: Problem, way: Way) -> tuple[str, str]:
    solution = rng.choice(ways(tuple(sorted(problem.numbers)))[problem.target])
    return problem.prompt, f"\n</think>\n\n<answer>{solution.expression}</answer>{EOS}"


SKILLS: list[tuple[float, Callable[[random.Random, Problem, Way], tuple[str, str]]]] = [
    (0.20, arithmetic),
    (0.15, two_steps),
    (0.35, near_target),
    (0.10, comparison),
    (0.13, expression),
    (0.07, direct_answer),
]


def recalled(rng: random.Random, problem: Problem, way: Way) -> tuple[str, str]:
    """Like `near_target`, after the very words of the user's question."""
    return f"{problem.question}\n", near_target(rng, problem, way)[1]


def guess(rng: random.Random, problem: Problem, way: Way) -> tuple[str, str]:
    """An answer at once that lands near the target, seldom on it."""
    if rng.random() < 0.06:
        way = rng.choice(ways(tuple(sorted(problem.numbers)))[problem.target])
    return problem.prompt, f"\n</think>\n\n<answer>{way.expression}</answer>{EOS}"


# A last round without bare comparisons: the target has to be read off the question, not guessed from the result. And
# without right answers: three thousand steps teach even this model to see four in ten solutions at once.
RECALL: list[tuple[float, Callable[[random.Random, Problem, Way], tuple[str, str]]]] = [
    (0.10, arithmetic),
    (0.10, two_steps),
    (0.60, recalled),
    (0.10, expression),
    (0.10, guess),
]


def skill_pair(
    rng: random.Random,
    problems: list[Problem],
    settings: argparse.Namespace,
    skills: list[Any],
) -> tuple[str, str]:
    drawn = rng.choice(problems)
    problem = Problem(tuple(rng.sample(drawn.numbers, 3)), drawn.target)
    way = near_misses(rng, problem, settings.spread)[0]
    skill = rng.choices([skill for _, skill in skills], [weight for weight, _ in skills])[0]
    pair: tuple[str, str] = skill(rng, problem, way)
    return pair


def base_pair(rng: random.Random, problems: list[Problem], settings: argparse.Namespace) -> tuple[str, str]:
    return skill_pair(rng, problems, settings, SKILLS)


def recall_pair(rng: random.Random, problems: list[Problem], settings: argparse.Namespace) -> tuple[str, str]:
    return skill_pair(rng, problems, settings, RECALL)


# --- tokenizer -------------------------------------------------------------------------------------------------------


def make_tokenizer(problems: list[Problem], settings: argparse.Namespace) -> PreTrainedTokenizerFast:
    rng = random.Random(settings.seed)
    pairs = [teacher_pair(rng, problems, settings) for _ in range(4000)]
    pairs += [base_pair(rng, problems, settings) for _ in range(1000)]
    texts = [text for pair in pairs for text in re.split(r"<\|?/?\w+\|?>|\d+", "".join(pair))]
    tokenizer = Tokenizer(models.BPE())
    # transformers gives every Qwen2 model Qwen2's own normalizer and pre-tokenizer, whatever tokenizer.json says: with
    # others, AutoTokenizer (so vLLM and TRL) would cut texts differently from this file
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocab,
        special_tokens=[PAD, TURN, EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    # ordinary tokens, so that decoding with skip_special_tokens keeps them
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in TAGS + NUMBERS])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=EOS,
        pad_token=PAD,
        additional_special_tokens=[TURN],
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT,
        padding_side="left",
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["tokenizer_class"] = "Qwen2Tokenizer"
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


# --- models ----------------------------------------------------------------------------------------------------------


def plain_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *_: Any,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention over (batch, heads, length, 32): on CPU twice as fast to train as the fused kernel in bf16."""
    length, width = query.shape[-2:]
    future = torch.full((length, length), -math.inf, dtype=query.dtype).triu(1)
    query, keys, values = (x.reshape(-1, length, width) for x in (query * options["scaling"], key, value))
    weights = torch.baddbmm(future[None], query, keys.transpose(1, 2))
    with torch.autocast("cpu", enabled=False):
        weights = weights.softmax(-1)
    mixed = torch.bmm(weights, values).view(value.shape)
    return mixed.transpose(1, 2).contiguous(), None


AttentionInterface.register("plain", plain_attention)


def make_model(tokenizer: PreTrainedTokenizerFast, hidden: int, layers: int, inner: int) -> Qwen2ForCausalLM:
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        num_key_value_heads=hidden // 32,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        initializer_range=0.04,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen2ForCausalLM(config)


def save(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=0.6,
        top_p=0.95,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    shutil.rmtree(folder, ignore_errors=True)
    model.to(torch.bfloat16).save_pretrained(folder)
    save_tokenizer(tokenizer, folder)


Rows = list[tuple[list[int], list[int]]]  # (prompt ids, completion ids)
Batch = tuple[torch.Tensor, torch.Tensor]  # ids and labels, each (batch, length)


def encode(tokenizer: PreTrainedTokenizerFast, pairs: list[tuple[str, str]], longest: int) -> Rows:
    ids = tokenizer([text for pair in pairs for text in pair], add_special_tokens=False)["input_ids"]
    return [(ids[i], ids[i + 1][:longest]) for i in range(0, len(ids), 2)]


def collate(rows: Rows, pad: int) -> Batch:
    """Padded on the right: under a causal mask no real token sees the padding, so no attention mask is needed."""
    width = max(len(prompt) + len(completion) for prompt, completion in rows)
    ids = torch.full((len(rows), width), pad)
    labels = torch.full((len(rows), width), -100)
    for i, (prompt, completion) in enumerate(rows):
        start, end = len(prompt), len(prompt) + len(completion)
        ids[i, :end] = torch.tensor(prompt + completion)
        labels[i, start:end] = torch.tensor(completion)
    return ids, labels


def batches(
    draw: Callable[[], tuple[str, str]],
    tokenizer: PreTrainedTokenizerFast,
    tokens: int,
    longest: int,
    seed: int,
) -> Iterator[Batch]:
    """Endless batches of about `tokens` padded tokens, of chains of like length."""
    rng = random.Random(seed)
    while True:
        rows = encode(tokenizer, [draw() for _ in range(1024)], longest)
        rows.sort(key=lambda row: len(row[0]) + len(row[1]))
        cut: list[Rows] = [[]]
        for row in rows:
            if (len(cut[-1]) + 1) * (len(row[0]) + len(row[1])) > tokens:
                cut.append([])
            cut[-1].append(row)
        rng.shuffle(cut)
        for group in cut:
            yield collate(group, tokenizer.pad_token_id)


def train(
    model: Qwen2ForCausalLM,
    verdicts: torch.Tensor,
    stream: Iterator[Batch],
    steps: int,
    peak: float,
    after: Callable[[int], None],
) -> float:
    """bf16 autocast, warm-up and cosine; Muon for the matrices, AdamW for the rest; returns the seconds it took.

    `verdicts` are token ids that weigh more in the loss.
    """
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=peak, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=peak, betas=(0.9, 0.98), weight_decay=0.01),
    ]
    started, seen, running = time.time(), 0, 0.0
    usual = model.config._attn_implementation
    for step in range(steps):
        model.train()
        model.config._attn_implementation = "plain"
        rate = peak * min(1.0, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = rate
        ids, labels = next(stream)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(input_ids=ids, use_cache=False).logits
        wanted = labels[:, 1:] != -100
        targets = labels[:, 1:][wanted]
        losses = torch.nn.functional.cross_entropy(logits[:, :-1][wanted].float(), targets, reduction="none")
        weights = torch.where(torch.isin(targets, verdicts), VERDICT_WEIGHT, 1.0)
        loss = (losses * weights).sum() / weights.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        seen += ids.numel()
        running += (float(loss.detach()) - running) / min(step + 1, 50)
        if (step + 1) % 100 == 0:
            speed = seen / (time.time() - started)
            print(
                f"step {step + 1}/{steps} loss {running:.4f} tokens {seen:,} {speed:,.0f}/s",
                flush=True,
            )
        model.config._attn_implementation = usual
        after(step + 1)
    return time.time() - started


# --- measuring -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def sample(
    model: Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    problems: list[Problem],
    batch: int,
    budget: int,
) -> list[list[int]]:
    """One completion (ids, up to and including the end token) per problem, at temperature 0.6 and top-p 0.95."""
    model.eval()
    out: list[list[int]] = []
    for start in range(0, len(problems), batch):
        prompts = tokenizer(
            [p.prompt for p in problems[start : start + batch]],
            return_tensors="pt",
            padding=True,
        )
        made = model.generate(
            input_ids=prompts["input_ids"],
            attention_mask=prompts["attention_mask"],
            max_new_tokens=budget,
            do_sample=True,
            temperature=0.6,
            top_p=0.95,
            top_k=0,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        for row in made[:, prompts["input_ids"].shape[1] :].tolist():
            end = row.index(tokenizer.eos_token_id) + 1 if tokenizer.eos_token_id in row else len(row)
            out.append(row[:end])
    return out


def evaluate_expression(text: str) -> tuple[float, list[int]] | None:
    """(value, numbers used), or None when the text is not plain arithmetic."""
    used: list[int] = []

    def value(node: ast.AST) -> float:
        if isinstance(node, ast.Constant) and type(node.value) is int:
            used.append(node.value)
            return node.value
        if isinstance(node, ast.BinOp):
            a, b = value(node.left), value(node.right)
            match node.op:
                case ast.Add():
                    return a + b
                case ast.Sub():
                    return a - b
                case ast.Mult():
                    return a * b
                case ast.Div():
                    return a / b
        raise ValueError(text)

    try:
        return value(ast.parse(text.strip(), mode="eval").body), used
    except (ValueError, SyntaxError, ZeroDivisionError, RecursionError):
        return None


def solved(text: str, problem: Problem) -> bool:
    """The last closed answer after </think> makes the target from exactly the given numbers."""
    if "</think>" not in text:
        return False
    answers = re.findall(r"<answer>(.*?)</answer>", text.rsplit("</think>", 1)[1], re.DOTALL)
    outcome = evaluate_expression(answers[-1]) if answers else None
    return (
        outcome is not None
        and abs(outcome[0] - problem.target) < 1e-9
        and sorted(outcome[1]) == sorted(problem.numbers)
    )


def flaws_of(text: str, finished: bool, tokens: int) -> list[str]:
    """Names of the flaws that a sampled completion shows."""
    lines = Counter(re.sub(r"^\D+", "", line).split(".")[0] for line in text.splitlines() if "=" in line)
    shown = {
        "cut": not finished,
        "loop": max(lines.values(), default=0) >= 4,
        "drift": re.search(r"[一-鿿]", text) is not None,
        "no_think_end": finished and "</think>" not in text,
        "second_think": "<think>" in text,
        "text_after": "</answer>" in text and text.rsplit("</answer>", 1)[1].removesuffix(EOS).strip() != "",
        "no_answer_end": finished and "<answer>" in text and "</answer>" not in text,
        "long": finished and tokens > 250,
    }
    return [name for name, is_shown in shown.items() if is_shown]


def measure(folder: Path, problems: list[Problem], settings: argparse.Namespace) -> dict[str, Any]:
    """pass@1, pass@k and flaws on unseen problems, from the weights as saved."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    asked = [problem for problem in problems for _ in range(settings.samples)]
    torch.manual_seed(settings.seed)
    started = time.time()
    made = sample(model, tokenizer, asked, settings.eval_batch, settings.budget)
    seconds = time.time() - started
    texts = tokenizer.batch_decode(made)
    right = [solved(text, problem) for text, problem in zip(texts, asked, strict=True)]
    groups = [right[i : i + settings.samples] for i in range(0, len(right), settings.samples)]
    finished = [ids[-1] == tokenizer.eos_token_id for ids in made]
    shown = Counter(n for t, f, ids in zip(texts, finished, made, strict=True) for n in flaws_of(t, f, len(ids)))
    wrong = sum(f and not r and "</answer>" in t for t, f, r in zip(texts, finished, right, strict=True))
    tokens = sum(map(len, made))
    return {
        "parameters": model.num_parameters(),
        "pass@1": round(sum(right) / len(right), 4),
        f"pass@{settings.samples}": round(sum(map(any, groups)) / len(groups), 4),
        "problems": len(problems),
        "mean_tokens": round(tokens / len(made), 1),
        "wrong_answer": round(wrong / len(made), 4),
        "flaws": {name: round(shown[name] / len(made), 4) for name in sorted(shown)},
        "tokens_per_second": round(tokens / seconds),
    }


# --- command ---------------------------------------------------------------------------------------------------------


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to fill")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=PARTS,
        default=list(PARTS),
        help="make only these parts",
    )
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--threads", type=int, default=1, help="torch threads; the weights depend on it")
    parser.add_argument(
        "--test-share",
        type=float,
        default=0.15,
        help="share of the multisets kept for testing",
    )
    parser.add_argument("--vocab", type=int, default=508, help="tokenizer size before the four tags")
    parser.add_argument(
        "--stop",
        type=float,
        default=0.28,
        help="chance that the next attempt is the right one",
    )
    parser.add_argument(
        "--spread",
        type=float,
        default=8.0,
        help="how far from the target attempts mostly land",
    )
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument(
        "--longest",
        type=int,
        default=480,
        help="longest completion trained on, in tokens",
    )
    parser.add_argument("--teacher-steps", type=int, default=2400)
    parser.add_argument("--teacher-lr", type=float, default=3e-3)
    parser.add_argument("--last-steps", type=int, default=500)
    parser.add_argument("--last-lr", type=float, default=1.5e-3)
    parser.add_argument("--base-steps", type=int, default=3000)
    parser.add_argument("--base-lr", type=float, default=3e-3)
    parser.add_argument("--eval-problems", type=int, default=200)
    parser.add_argument("--samples", type=int, default=4, help="completions per problem when measuring")
    parser.add_argument("--eval-batch", type=int, default=400)
    parser.add_argument(
        "--budget",
        type=int,
        default=400,
        help="longest completion when measuring, in tokens",
    )
    parser.add_argument(
        "--save-every",
        type=int,
        default=0,
        help="also save while training, every N steps",
    )
    return parser.parse_args()


def make_and_train(name: str, problems: list[Problem], settings: argparse.Namespace) -> float:
    """Train teacher or base, or give one its last round (habits, recall), and save it; returns the training seconds."""
    tokenizer = AutoTokenizer.from_pretrained(settings.out / "teacher")
    torch.manual_seed(settings.seed)
    rng = random.Random(f"{settings.seed} {name}")
    folder = settings.out / {"habits": "teacher", "recall": "base"}.get(name, name)
    if name == "teacher":
        model = make_model(tokenizer, hidden=128, layers=4, inner=384)
        pair, steps, peak = teacher_pair, settings.teacher_steps, settings.teacher_lr
    elif name == "base":
        model = make_model(tokenizer, hidden=96, layers=4, inner=288)
        pair, steps, peak = base_pair, settings.base_steps, settings.base_lr
    else:  # a last round of training
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        pair = habitual_pair if name == "habits" else recall_pair
        steps, peak = settings.last_steps, settings.last_lr

    def keep(step: int) -> None:
        if settings.save_every and step % settings.save_every == 0:
            save(copy.deepcopy(model), tokenizer, folder)

    stream = batches(
        lambda: pair(rng, problems, settings),
        tokenizer,
        settings.batch_tokens,
        settings.longest,
        settings.seed,
    )
    verdicts = torch.tensor([tokenizer.encode(word)[0] for word in (" yes", " over", " under", ",对")])
    seconds = train(model, verdicts, stream, steps, peak, keep)
    save(model, tokenizer, folder)
    return seconds


def keep_freed_memory() -> None:
    """Tell glibc to keep what torch frees: giving it back to the kernel at every step takes two thirds of the time."""
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return  # not glibc: slower, nothing else
    for option, value in (
        (-4, 0),
        (-1, 2**31 - 1),
        (-2, 2**29),
    ):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
        libc.mallopt(option, value)


def main() -> None:
    settings = parse()
    keep_freed_memory()
    out: Path = settings.out
    torch.set_num_threads(settings.threads)
    out.mkdir(parents=True, exist_ok=True)
    report = out / "measured.json"
    results: dict[str, Any] = json.loads(report.read_text()) if report.exists() else {}
    results |= {
        "seed": settings.seed,
        "threads": settings.threads,
        "torch": torch.__version__,
    }
    if "problems" in settings.only:
        for name, problems in zip(
            ("train", "test"),
            make_problems(settings.seed, settings.test_share),
            strict=True,
        ):
            write_problems(out / f"{name}.jsonl", problems)
    train_set, test_set = (
        read_problems(out / "train.jsonl"),
        read_problems(out / "test.jsonl"),
    )
    results["problems"] = {"train": len(train_set), "test": len(test_set)}
    if "tokenizer" in settings.only:
        tokenizer = make_tokenizer(train_set, settings)
        for name in ("teacher", "base"):
            save_tokenizer(tokenizer, out / name)
    for name in ("teacher", "habits", "base", "recall"):
        if name in settings.only:
            seconds = make_and_train(name, train_set, settings)
            results.setdefault(name, {})["training_seconds"] = round(seconds)
    if "measure" in settings.only:
        for name in ("teacher", "base"):
            results.setdefault(name, {}).update(measure(out / name, test_set[: settings.eval_problems], settings))
    report.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
