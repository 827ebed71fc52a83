from __future__ import annotations

import operator
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.answers.arithmetic import Expression
from distill.errors import InputError
from distill.verifiers import countdown

VERIFIER = countdown.build(countdown.Config())
GOLD = {"target": 29, "numbers": [3, 7, 9]}


def reason(text, gold=None):
    return VERIFIER.verify(gold or GOLD, text).reason


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no tag at all: 3 * 7", "no_answer"),
        ("<answer>3 * 7 + 9", "no_answer"),
        ("<answer>none</answer>", "not_an_expression"),
        ("<answer></answer>", "not_an_expression"),
        ("<answer>3 * 7 + 9 = 30</answer>", "not_an_expression"),
        ("<answer>3 ** 7 + 9</answer>", "not_an_expression"),
        ("<answer>3 ^ 7 + 9</answer>", "not_an_expression"),
        ("<answer>3 // 7 + 9</answer>", "not_an_expression"),
        ("<answer>-3 * 7 + 9</answer>", "not_an_expression"),
        ("<answer>3 * -7 + 9</answer>", "not_an_expression"),
        ("<answer>3(7) + 9</answer>", "not_an_expression"),
        ("<answer>3 7 + 9</answer>", "not_an_expression"),
        ("<answer>3.0 * 7 + 9</answer>", "not_an_expression"),
        ("<answer>(3 * 7 + 9</answer>", "not_an_expression"),
        ("<answer>3 * 7 + 9)</answer>", "not_an_expression"),
        ("<answer>()</answer>", "not_an_expression"),
        ("<answer>3 * ٧ + 9</answer>", "not_an_expression"),
        ("<answer>3 \\timesx 7</answer>", "not_an_expression"),
        ("<answer>__import__('os')</answer>", "not_an_expression"),
        ("<answer>" + "(" * 30 + "3" + ")" * 30 + "</answer>", "not_an_expression"),
        ("<answer>" + "1+" * 5000 + "1</answer>", "not_an_expression"),
        ("<answer>29</answer>", "wrong_numbers"),
        ("<answer>3 * 7 + 9 - 3 + 3 - 1</answer>", "wrong_numbers"),
        ("<answer>3 * 9</answer>", "wrong_numbers"),
        ("<answer>37 + 9</answer>", "wrong_numbers"),
        ("<answer>3 / (7 - 7) + 9</answer>", "division_by_zero"),
        ("<answer>3 * 7 + 9</answer>", "wrong_value"),
    ],
)
def test_refusals(text, expected):
    assert reason(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "<answer>(3 * 7) + 9</answer>",
        "Here:\n<answer>\n9 + 3 × 7\n</answer>\nDone.",
        "\\boxed{9 + (7 \\times 3)}",
        "\\boxed{9+7\\cdot 3}",
        "9+((7)*3)",
    ],
)
def test_right_answers(text):
    assert VERIFIER.verify({"target": 30, "numbers": [9, 7, 3]}, text).passed


def test_fractions_are_exact_and_all_spellings_are_known():
    assert reason("<answer>8 / (3 - 8 ÷ 3)</answer>", {"target": 24, "numbers": [3, 3, 8, 8]}) == ""
    assert reason("<answer>8 \\div 4 − 2</answer>", {"target": 0, "numbers": [2, 4, 8]}) == ""


def test_the_detail_shows_the_sum():
    assert VERIFIER.verify(GOLD, "<answer>(3 * 7) + 9</answer>").detail == "(3 * 7) + 9 = 30, not 29"


def test_keys_count_equal_answers():
    keys = [VERIFIER.key(GOLD, f"<answer>{e}</answer>") for e in ("3*7+9", "9 + (3 * 7)", "3 * 10", "3*10", "3/0")]
    assert keys == [Fraction(30), Fraction(30), "3*10", "3*10", "3/0"]


@pytest.mark.parametrize("gold", [{"target": "29", "numbers": [1]}, {"target": 29, "numbers": [1.5]}, [29, [1]]])
def test_a_malformed_gold_is_the_users_error(gold):
    with pytest.raises(InputError, match="Countdown"):
        VERIFIER.verify(gold, "<answer>1</answer>")


SIGNS = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "×": operator.mul,
    "÷": operator.truediv,
    "−": operator.sub,
    "\\times ": operator.mul,
    "\\cdot ": operator.mul,
    "\\div ": operator.truediv,
}
trees = st.recursive(
    st.integers(0, 50), lambda inner: st.tuples(inner, st.sampled_from(list(SIGNS)), inner), max_leaves=8
)


def write(tree, blank):
    if isinstance(tree, int):
        return str(tree)
    left, sign, right = tree
    return f"({write(left, blank)}{blank}{sign}{blank}{write(right, blank)})"


def evaluate(tree):
    return Fraction(tree) if isinstance(tree, int) else SIGNS[tree[1]](evaluate(tree[0]), evaluate(tree[2]))


def leaves(tree):
    return [tree] if isinstance(tree, int) else leaves(tree[0]) + leaves(tree[2])


@given(trees, st.sampled_from(["", " ", "\n"]))
def test_random_trees_have_the_value_of_fraction_arithmetic(tree, blank):
    text = write(tree, blank)
    try:
        value = evaluate(tree)
    except ZeroDivisionError:
        with pytest.raises(ZeroDivisionError):
            Expression(text)
        return
    expression = Expression(text)
    assert (expression.value, sorted(expression.numbers)) == (value, sorted(leaves(tree)))
    if value.denominator == 1:
        gold = {"target": int(value), "numbers": leaves(tree)}
        assert VERIFIER.verify(gold, f"<answer>{text}</answer>").passed
        assert reason(f"<answer>{text}</answer>", {**gold, "target": int(value) + 1}) == "wrong_value"
        assert reason(f"<answer>{text}</answer>", {**gold, "numbers": [*leaves(tree), 1]}) == "wrong_numbers"


@given(st.lists(st.tuples(st.sampled_from("+-*/"), st.integers(1, 20)), max_size=8), st.integers(0, 20))
def test_precedence_without_parentheses(rest, first):
    # each product is folded by hand, then the sum: a second, different way to the same value
    value, product, sign = Fraction(0), Fraction(first), 1
    for operation, number in rest:
        if operation in "*/":
            product = product * number if operation == "*" else product / number
        else:
            value, product, sign = value + sign * product, Fraction(number), 1 if operation == "+" else -1
    text = f"{first}" + "".join(f" {operation} {number}" for operation, number in rest)
    assert Expression(text).value == value + sign * product
