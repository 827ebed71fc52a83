from __future__ import annotations

import time

import pytest

from distill.filters import ChosenFilter, Context

CHECK = ChosenFilter.of({}, "code_blocks").build(Context(student="none"))
PYTHON = "def solve(n):\n    total = 0\n    for i in range(n):\n        total += i\n    return total\n"
CPP = "#include <iostream>\nusing namespace std;\nint main() {\n    int n;\n    cin >> n;\n}\n"


def judge(make_trace, make_problem, reasoning, answer="so", **config):
    check = ChosenFilter.of(config, "code_blocks").build(Context(student="none"))
    return check(make_problem(), make_trace(f"<think>\n{reasoning}\n</think>\n{answer}"))


@pytest.mark.parametrize(
    "reasoning",
    [
        f"Let me write it.\n```python\n{PYTHON}```\nGood.",
        f"~~~\n{PYTHON}~~~",
        f"1. First:\n   ```\n   {PYTHON}   ```",
        "> ```\n> x\n> ```",
        f"It is cut:\n```python\n{PYTHON}",
        f"Let me write it.\n\n{PYTHON}\nGood.",
        PYTHON.replace("\n", "\n\n"),
        CPP,
        "So:\nimport math\nx = 5\nprint(math.sqrt(x))",
        "function f(x) {\n  var y = x;\n  return y;\n}",
        "for (int i = 0; i < n; i++) {\n  s += a[i];\n}",
    ],
)
def test_programs_in_the_reasoning(make_trace, make_problem, reasoning):
    outcome = judge(make_trace, make_problem, reasoning)
    assert (outcome.passed, outcome.reason) == (False, "code_block"), outcome
    assert outcome.detail
    assert judge(make_trace, make_problem, "fine", answer=reasoning).passed


@pytest.mark.parametrize(
    "reasoning",
    [
        "So `x = 5` and ```y = 6``` in the text, about ~5 ~~~ no.",
        "x = 5\ny = 6\nz = x + y = 11\n    so z = 11\n    and that is it;\n",
        "for each of the 3 boys:\n    2 apples\n    3 pears\n",
        "import taxes are 5 %:\n  a = 5\n  b = 6\n",
        "if (a, b) = (1, 2) then\n  a + b = 3;\n  a - b = -1;\n",
        "print the number 5.\nclass sizes are 3, 4:\nreturn to start.\nwhile x > 3: it goes on\n",
        "Call print(x) once.\nprint(x)\nand so on.",  # one line of a program is no block
        "f(x) = x^2\ng(x)\nh(x)\n{1, 2}\n",
    ],
)
def test_mathematics_is_no_program(make_trace, make_problem, reasoning):
    assert judge(make_trace, make_problem, reasoning).passed


def test_settings(make_trace, make_problem):
    fenced = "```\nx\n```\n"
    assert judge(make_trace, make_problem, fenced, fences=1).passed
    assert not judge(make_trace, make_problem, fenced * 2, fences=1).passed
    assert judge(make_trace, make_problem, PYTHON, lines=0).passed
    assert judge(make_trace, make_problem, PYTHON, lines=6).passed
    assert not judge(make_trace, make_problem, PYTHON, lines=5).passed


def test_hostile_lines_take_no_long_time(make_trace, make_problem):
    start = time.monotonic()
    for text in ("for " + "range(" * 20000, "def f(" + ":#" * 50000, "import a" + ", a" * 40000, "if (x" * 20000):
        assert judge(make_trace, make_problem, text).passed
    judge(make_trace, make_problem, "def f():\nSo.\n" * 5000)
    assert time.monotonic() - start < 2


def test_human_eval_and_real_traces(make_trace, make_problem, shared):
    """Every HumanEval program is found without a fence, and none in 463 real chains of thought about mathematics."""
    for row in shared("humaneval.jsonl"):
        program = row["prompt"] + row["canonical_solution"]
        assert not judge(make_trace, make_problem, f"Let me write it.\n{program}\nThat works.").passed, program
    for row in shared("real_traces.jsonl"):
        assert CHECK(make_problem(), make_trace(row["text"])).passed, row["id"]
