"""Hashes of words and runs of words."""

from __future__ import annotations

import pytest

from distill.text.hashes import BASE, SplitWords, ngrams

TEXTS = [
    "",
    " ",
    "a",
    " a",
    "a ",
    "two words",
    "  two\n\twords  two ",
    "x\x1cy\u3000z\xa0ab ab",
    "那么 x = 1，那么\ud800 😀 b",
]


@pytest.mark.parametrize("text", TEXTS)
def test_words_are_those_of_str_split_and_equal_where_they_are_equal(text: str) -> None:
    words, split = text.split(), SplitWords(text)
    assert len(split) == len(words)
    hashes, shapes = split.hashes().tolist(), split.shapes().tolist()
    for one in range(len(words)):
        for other in range(one):
            assert (words[one] == words[other]) == (hashes[one] == hashes[other])
            assert words[one] != words[other] or shapes[one] == shapes[other]


@pytest.mark.parametrize("text", ["a\x00b", "那\x07么", "a\x00 b"])
def test_control_characters_separate_words(text: str) -> None:
    assert len(SplitWords(text)) == 2


@pytest.mark.parametrize("n", range(1, 24))
def test_a_run_is_a_polynomial_of_its_words(n: int) -> None:
    hashes = SplitWords("to be or not to be, that is the question: to be or not to be, that is what is asked").hashes()
    words = hashes.tolist()
    runs = [
        sum(word * BASE ** (n - 1 - place) for place, word in enumerate(words[at : at + n])) for at in range(len(words))
    ]
    assert ngrams(hashes, n).tolist() == [run % (1 << 64) for run in runs[: max(0, len(words) - n + 1)]]
