from __future__ import annotations

import pytest

from distill.verifiers import ChosenVerifier


def passed(kind, gold, text, **options):
    return ChosenVerifier.of({"kind": kind, **options}).build().verify(gold, text).passed


@pytest.mark.parametrize(
    ("gold", "text", "expected"),
    [
        ("Paris", "<answer> paris. </answer>", True),
        ("Paris", "\\boxed{Paris}", True),
        ("Paris", "Paris", True),
        ("Paris", "It is Paris", False),
        ("new  york", "<answer>New\nYork</answer>", True),
        (["Paris", "Lutetia"], "<answer>Lutetia</answer>", True),
        ("...", "<answer>...</answer>", True),
        ("...", "<answer>!</answer>", False),
    ],
)
def test_exact(gold, text, expected):
    assert passed("exact", gold, text) is expected


def test_exact_can_be_strict():
    assert not passed("exact", "Paris", "<answer>paris</answer>", case=True)
    assert not passed("exact", "Paris", "<answer>Paris.</answer>", punctuation=True)


@pytest.mark.parametrize(
    "text", ["B", "(B)", "B.", "b", "\\text{B}", "\\textbf{(B)}", "**B**", "$B$", "(B).", "B) a dog"]
)
def test_choice_reads_a_letter(text):
    assert passed("choice", "B", f"<answer>{text}</answer>")
    assert passed("choice", "(B)", text)


@pytest.mark.parametrize(
    "text", ["B or C", "B, C", "BC", "Bat", "a dog", "(B) not (C)", "B. it can't be A", "K", "42", ""]
)
def test_choice_refuses_what_is_ambiguous(text):
    outcome = ChosenVerifier.of({"kind": "choice"}).build().verify("B", f"<answer>{text}</answer>")
    assert (outcome.passed, outcome.reason) == (False, "ambiguous")


@pytest.mark.parametrize(
    ("gold", "text", "expected"),
    [
        ("1234", "1,234", True),
        ("1234", "1 234.0", True),
        ("1234", "1{,}234", True),
        (1234, "$1,234$", True),
        ("18.9", "\\$18.90", True),
        ("0.75", "3/4", True),
        ("3/4", "\\frac{3}{4}", True),
        ("3/4", "\\frac{3}{0}", False),
        ("-5", "−5", True),
        ("1200", "1.2e3", True),
        ("12%", "0.12", True),
        ("0.12", "12\\%", True),
        ("12", "12%", False),
        ("12%", "12", False),
        ("12", "12 apples", False),
        ("12", "1,2", False),
        ("12", "nan", False),
        ("12", "1e999999999", False),
    ],
)
def test_numeric(gold, text, expected):
    assert passed("numeric", gold, f"<answer>{text}</answer>") is expected


def test_numeric_tolerances():
    assert passed("numeric", "3.14159", "\\boxed{3.14}", absolute=0.01)
    assert passed("numeric", "1000", "\\boxed{1009}", relative=0.01)
    assert not passed("numeric", "1000", "\\boxed{1011}", relative=0.01)
    assert not passed("numeric", "0.3", "\\boxed{0.3000001}", relative=0)
    assert passed("numeric", 0.3, "\\boxed{0.3}", relative=0)
