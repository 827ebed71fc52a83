"""Counting tokens piece by piece gives what encoding the whole text gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

from distill.models import chat

QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = {
    "gpt-2": None,  # ByteLevel's own
    "qwen 2": QWEN,
    "llama 3": QWEN.replace(r"\p{N}|", r"\p{N}{1,3}|", 1),
    "qwen 3.5": QWEN.replace(r"]?\p{L}+", r"]?[\p{L}\p{M}]+").replace(r"^\s\p{L}\p{N}", r"^\s\p{L}\p{M}\p{N}"),
    "unknown": r"\w+ \w+|\s+|.",  # goes on over blanks, so pieces must not be counted apart
}
PIECES = [
    "the",
    "The",
    " ",
    "  ",
    "\n",
    "\n\n",
    "\r\n",
    "\t",
    "\u3000",
    "\xa0",
    "\x1c",
    "\u0301",
    "é",
    ".",
    ",",
    "'s",
    "1",
]
PIECES += [
    "<",
    "=",
    "\u0338",
    "١",
    "don",
    "2",
    "<think",
    "-",
    "234",
    "(",
    "$x$",
    "学生",
    "\u200b",
    "<think>",
    "</think>",
    "<|im_end|>",
    "\0",
    "🙂",
]
texts = st.one_of(st.lists(st.sampled_from(PIECES), max_size=25).map("".join), st.text(max_size=60))


def save(folder: Path, pattern: str | None, **changes: Any) -> chat.Tokenizer:
    """A byte-level BPE whose merges join blanks with all that is around them, wherever the split lets them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [
        "Ġ t",
        "t h",
        "th e",
        "Ġ Ġ",
        "ĠĠ ĠĠ",
        "Ċ Ċ",
        "Ġ Ċ",
        "Ċ Ġ",
        ". Ċ",
        "e Ġ",
        "Ġ Ċ",
        ". Ġ",
        "1 Ġ",
        "Ġ 1",
        "2 3",
        "23 4",
    ]
    merges = list(dict.fromkeys(tuple(pair.split()) for pair in pairs))
    vocab = {token: number for number, token in enumerate([*alphabet, *(left + right for left, right in merges)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    if pattern is None:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        split = pre_tokenizers.Split(Regex(pattern), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in ("<think>", "</think>", "<think>>")])
    tokenizer.add_special_tokens(["<|im_end|>"])
    for name, value in changes.items():
        setattr(tokenizer, name, value)
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    return chat.Tokenizer(str(folder))


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, chat.Tokenizer]:
    folder = tmp_path_factory.mktemp("tokenizers")
    return {name: save(folder / name, pattern) for name, pattern in PATTERNS.items()}


@pytest.mark.parametrize("name", PATTERNS)
@settings(max_examples=100, deadline=None)
@given(text=texts)
def test_the_count_is_that_of_the_whole_text(tokenizers, name, text):
    tokenizer = tokenizers[name]
    expected = len(tokenizer._fast.encode(text, add_special_tokens=False).ids)
    assert tokenizer.count(text) == expected
    assert tokenizer.count(text) == expected  # from memory
    assert len(tokenizer.encode(text)) == expected


def test_known_splits_are_counted_by_pieces(tokenizers):
    for name, tokenizer in tokenizers.items():
        assert tokenizer.count("the the the") == len(tokenizer.encode("the the the"))
        assert bool(tokenizer._token_counts) == (name != "unknown")


def test_what_reads_the_blanks_around_it_is_counted_whole(tmp_path):
    bracketless = save(tmp_path / "bracketless", None)
    bracketless._fast.add_tokens(["[MASK]"])
    stripping = save(tmp_path / "stripping", None)
    stripping._fast.add_tokens([AddedToken("<mask>", lstrip=True)])
    lower = save(tmp_path / "lower", None, normalizer=normalizers.Lowercase())
    words = save(tmp_path / "words", None, pre_tokenizer=pre_tokenizers.Metaspace())
    cut = save(tmp_path / "cut", None)
    cut._fast.enable_truncation(3)
    for tokenizer in (bracketless, stripping, lower, words, cut):
        text = "the\n <mask> The  the <mask>[MASK]"
        assert tokenizer.count(text) == len(tokenizer._fast.encode(text, add_special_tokens=False).ids)
        assert not tokenizer._token_counts


def test_memory_is_bounded(tmp_path):
    tokenizer = save(tmp_path / "fresh", None)
    tokenizer.count("x" * 50 + " the")
    assert list(tokenizer._token_counts) == [" the"]  # long ones seldom come again
    tokenizer._token_counts.update((str(number), 1) for number in range(100_000))
    assert tokenizer.count(" the <think>") == len(tokenizer.encode(" the <think>"))
    assert not tokenizer._token_counts


def test_real_traces(tiny, shared):
    tokenizer = chat.Tokenizer(str(tiny / "base"))
    for row in shared("real_traces.jsonl")[::20]:
        assert tokenizer.count(row["text"]) == len(tokenizer.encode(row["text"]))
