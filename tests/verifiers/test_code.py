"""Code is judged as plain Python would judge it, and no program can talk its way out of its tests."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
import tokenize
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from distill.errors import InputError
from distill.programs.gold import extract_program, same_output, without_blank_lines
from distill.verifiers import ChosenVerifier

pytestmark = pytest.mark.slow

needs_bwrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap: apt-get install bubblewrap")
DATA = Path(os.environ.get("DISTILL_SHARED_DATA", Path(__file__).parents[2] / "../shared/data"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="needs the shared data: set DISTILL_SHARED_DATA")

SQUARE = {
    "tests": "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(3) == 9\n"
    "    assert candidate(-4) == 16\n",
    "entry_point": "square",
}
DOUBLE = {"inputs": ["1\n2\n", "5\n-7\n", "0\n0\n"], "outputs": ["2\n4\n", "10\n-14\n", "0\n0\n"]}
VERIFIER = ChosenVerifier.of({"kind": "code", "seconds": 5, "memory": 256, "output": 1}).build()
QUICK = ChosenVerifier.of({"kind": "code", "seconds": 1, "memory": 128, "output": 1}).build()


def read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def judge(gold: Any, code: str, quick: bool = False) -> Any:
    return (QUICK if quick else VERIFIER).verify(gold, f"Here it is.\n```python\n{code}\n```\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("```python\nx = 1\n```", "x = 1\n"),
        ("first\n```python\nno\n```\nthen\n```py\nx = 2\n```\nIt prints:\n```\n2\n```", "x = 2\n"),
        ("```\nx = 3\n```", "x = 3\n"),
        ("```python\nx = 4", "x = 4"),
        ("x = 5", "x = 5"),
        ("<answer>x = 6</answer>", "x = 6"),
        ("<answer>\n```python\nx = 7\n```\n</answer>", "x = 7\n"),
        ("```python\n   \n```", ""),
        ("```python\n# ```\nx = 8\n```\n", "# ```\nx = 8\n"),
        ("1. So:\n   ```python\n   x = 9\n   ```", "   x = 9\n"),
        (" \n", ""),
    ],
)
def test_the_program_of_an_answer(text: str, expected: str) -> None:
    assert extract_program(text) == expected


@pytest.mark.parametrize(
    ("expected", "actual", "tolerance", "same"),
    [
        ("1 2\n3\n", "1 2  \n3", None, True),
        ("1 2\n", "1 2\n\n\n", None, True),
        ("1 2\n", "1  2\n", None, False),
        ("1 2\n", " 1 2\n", None, False),
        ("1\n\n2", "1\n2", None, False),
        ("1\n2\n", "1\n", None, False),
        ("YES\n", "yes\n", None, False),
        ("0.5\n", "0.50\n", None, False),
        ("0.5\n", "0.500001\n", 1e-4, True),
        ("0.5 x\n", "0.6 x\n", 1e-4, False),
        ("0.5 x\n", "0.5 y\n", 1e-4, False),
        ("1 2\n", "1\n", 1e-4, False),
        ("nan\n", "inf\n", 1e-4, False),
        ("", "", None, True),
    ],
)
def test_the_output_policy(expected: str, actual: str, tolerance: float | None, same: bool) -> None:
    assert same_output(expected, actual, tolerance) is same


@pytest.mark.parametrize(
    "gold",
    [
        None,
        3,
        [],
        ["x = 1"],
        ["assert ("],
        {"inputs": ["1"], "outputs": []},
        {"inputs": [], "outputs": []},
        {"tests": "print(1)"},
        {"tests": 3},
        {"tests": {"inputs": [1], "outputs": [1]}},
    ],
)
def test_a_gold_without_tests_is_the_users_error(gold: Any) -> None:
    with pytest.raises(InputError):
        judge(gold, "x = 1")


def test_no_program_is_no_code() -> None:
    outcome = VERIFIER.verify(SQUARE, " ")
    assert (outcome.passed, outcome.reason, outcome.score) == (False, "no_code", 0.0)


def test_equal_programs_have_equal_keys() -> None:
    assert (
        VERIFIER.key(SQUARE, "```python\nx = 1  \n\ny = 2\n```")
        == VERIFIER.key(SQUARE, "x = 1\ny = 2")
        == "x = 1\ny = 2"
    )
    assert VERIFIER.key(SQUARE, "x = 1") != VERIFIER.key(SQUARE, " x = 1")
    assert VERIFIER.key(SQUARE, "") is None
    assert without_blank_lines("\n\n") == ""


@needs_bwrap
@pytest.mark.parametrize(
    ("gold", "code"),
    [
        (SQUARE, "def square(x):\n    return x * x"),
        (SQUARE, "square = lambda x: x ** 2"),
        (SQUARE, "print('working')\ndef square(x):\n    print(x)\n    return x * x\nif __name__ == '__main__':\n"
                 "    input()"),
        (DOUBLE, "import sys\nfor line in sys.stdin:\n    print(2 * int(line))"),
        (DOUBLE, "print(2 * int(input()))\nprint(2 * int(input()))\nexit()"),
        ({"tests": DOUBLE, "problem": "Double!"}, "for _ in 'ab': print(int(input()) * 2)"),
        (["assert twice(2) == 4", "assert twice('a') == 'aa'"], "def twice(x):\n    return x + x"),
        (["assert list(count(3)) == [0, 1, 2]"], "def count(n):\n    for i in range(n):\n        yield i"),
        (["assert f() == {'a': [1, (2, None)], 1: {3}}"], "def f():\n    return {'a': [1, (2, None)], 1: {3}}"),
        (["assert f('aab') == {'a': 2, 'b': 1}"], "from collections import Counter\nf = Counter"),
        (["x = [3, 1, 2]", "assert f(x) is None", "assert x == [1, 2, 3]"], "def f(x):\n    x.sort()"),
        (["assert f(2 ** 20000) == 2 ** 20000 + 1"], "def f(x):\n    return x + 1"),
        (["assert LIMIT == 7"], "LIMIT = 7"),
        (["try:\n    f(-1)\n    assert False\nexcept ValueError:\n    pass", "assert f(1) == 1"],
         "def f(x):\n    if x < 0:\n        raise ValueError(x)\n    return x"),
        (["assert f(math.pi) > 3", "import math"][::-1], "def f(x):\n    return x"),
        ({"prompt": "import math\n\ndef half(x):\n    return x / 2\n\ndef f(x):\n    ''' half of the root '''\n",
          "test": "def check(candidate):\n    assert candidate(16) == half(4)", "entry_point": "f"},
         "    return half(math.sqrt(x))"),
    ],
)  # fmt: skip
def test_right_programs(gold: Any, code: str) -> None:
    outcome = judge(gold, code)
    assert (outcome.passed, outcome.reason, outcome.score) == (True, "", 1.0), outcome


@needs_bwrap
@pytest.mark.parametrize(
    ("gold", "code", "reason", "score"),
    [
        (SQUARE, "def square(x):\n    return x + x", "wrong_output", 1 / 3),
        (SQUARE, "def square(x):\n    return [x * x]", "wrong_output", 0),
        (SQUARE, "def square(x):\n    return str(x * x)", "wrong_output", 0),
        (SQUARE, "def square(x):\n    return {}[x]", "runtime_error", 0),
        (SQUARE, "def square(x):\n    retrun x", "syntax_error", 0),
        (SQUARE, "def sqare(x):\n    return x * x", "runtime_error", 0),
        (SQUARE, "import no_such_module", "runtime_error", 0),
        (SQUARE, "def square(x):\n    while x > 2:\n        pass\n    return x * x", "timeout", 1 / 3),
        (SQUARE, "def square(x):\n    return bytearray(1 << 30)", "memory", 0),
        (SQUARE, "def square(x):\n    return 'x' * (3 << 20)", "output_limit", 0),
        (SQUARE, "def square(x):\n    return x * x if x > 2 else square(x)", "runtime_error", 1 / 3),
        (DOUBLE, "import sys\nfor line in sys.stdin:\n    print(3 * int(line))", "wrong_output", 1 / 3),
        (DOUBLE, "print(2 * int(input()))", "wrong_output", 0),
        (DOUBLE, "print(2 * int(input()), 2 * int(input()))", "wrong_output", 0),
        (DOUBLE, "for i in range(3): print(2 * int(input()))", "runtime_error", 0),
        (DOUBLE, "for i in range(2) print(1)", "syntax_error", 0),
        (DOUBLE, "x = int(input())\nwhile x == 5: pass\nprint(2 * x)\nprint(2 * int(input()))", "timeout", 1 / 3),
        (DOUBLE, "x = bytearray(1 << 30)", "memory", 0),
        (DOUBLE, "while True: print('x' * 1000)", "output_limit", 0),
    ],
)
def test_wrong_programs(gold: Any, code: str, reason: str, score: float) -> None:
    outcome = judge(gold, code, quick=True)
    assert (outcome.passed, outcome.reason, outcome.score) == (False, reason, pytest.approx(score)), outcome


ALWAYS_EQUAL = """
class Yes(int):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __bool__(self): return True
    def __hash__(self): return 0
class Plain:
    __eq__ = lambda self, other: True
"""
CHEATS = {
    "an object equal to everything": ALWAYS_EQUAL + "def square(x): return Plain()",
    "a number equal to everything": ALWAYS_EQUAL + "def square(x): return Yes(x)",
    "objects within a list": ALWAYS_EQUAL + "def square(x): return [Plain()]",
    "leaving with success at import": "import sys\nsys.exit(0)",
    "leaving hard at import": "import os\nos._exit(0)",
    "leaving with success in a call": "import os\ndef square(x): os._exit(0)",
    "raising SystemExit in a call": "def square(x): raise SystemExit(0)",
    "raising KeyboardInterrupt in a call": "def square(x): raise KeyboardInterrupt",
    "leaving at the end of a thread": "import threading, os\nthreading.Timer(0.1, os._exit, [0]).start()\n"
                                      "def square(x): return 0",
    "patching builtins": "import builtins\n"
                         "for name in ('eval', 'exec', 'compile', 'isinstance', 'all', 'any', 'len', 'print'):\n"
    "    setattr(builtins, name, lambda *a, **k: True)\nbuiltins.AssertionError = type('E', (Exception,), {})\n"
    "def square(x): return 0",
    "patching json": "import json, sys\njson.dumps = lambda *a, **k: '{\"passed\": true, \"value\": 4}'\n"
    "json.loads = lambda *a, **k: {'call': 'square', 'args': ['t', 2], 'kwargs': ['d']}\ndef square(x): return 0",
    "patching the codec": "import sys\nwire = sys.modules['distill.sandbox.inside.wire']\n"
                          "wire.encode = lambda value: ['o', 'x']\n"
    "wire.write_line = lambda fd, line: __import__('os').write(fd, b'={\"passed\": true, \"right\": 3, "
    "\"total\": 3}\\n')\n"
    "def square(x): return 0",
    "answering before the question": "import os\nfor fd in range(3, 10):\n    try:\n"
    "        os.write(fd, b'={\"passed\": true, \"right\": 3, \"total\": 3, \"reason\": \"\", \"detail\": "
    "\"\"}\\n' * 9)\n"
    "    except OSError: pass\ndef square(x): return 0",
    "a reason that means success": "import os\nfor fd in range(3, 10):\n    try:\n"
    "        os.write(fd, b'{\"broken\": \"\", \"text\": \"\"}\\n' * 9)\n    except OSError: pass",
    "replies that are no data": "import os\nfor fd in range(3, 10):\n    try:\n"
    "        os.write(fd, b'[[[[\\n{\"value\": {\"a\": 1}}\\n{\"value\": [\"d\", [[\"l\"], 1]]}\\n[1]\\n\\n')\n"
    "    except OSError: pass",
    "nesting without end": "def square(x):\n    y = []\n    for i in range(100000): y = [y]\n    return y",
    "a list in itself": "y = []\ny.append(y)\ndef square(x): return y",
    "printing success": "print('PASSED', 'OK', '3 passed', True)\nimport sys\nsys.stderr.write('OK')\n"
                        "def square(x): return 0",
    "reading the tests": "import gc, os, sys\nfound = []\nfor root, _, names in os.walk('/tmp'):\n"
                         "    for name in names:\n"
    "        found += open(os.path.join(root, name), errors='ignore').read().split('assert candi' + 'date(')[1:]\n"
    "frame = sys._getframe()\nwhile frame:\n"
    "    found += [v for v in frame.f_locals.values() if 'candi' + 'date(2)' in str(v)]\n"
    "    frame = frame.f_back\n"
    "found += [o for o in gc.get_objects() if isinstance(o, str) and 'candi' + 'date(2)' in o]\n"
    "def square(x): return {2: 4, 3: 9, -4: 16}[x] if found else 0",
    "killing the parent": "import os\nfor pid in (os.getppid(), 1, -1):\n    try: os.kill(pid, 9)\n"
                          "    except OSError: pass\n"
    "def square(x): return 0",
    "closing every file": "import os\nos.closerange(0, 1000)\ndef square(x): return 0",
    "a shadow of the tests' names": "check = lambda candidate: None\n__tally__ = lambda *a: None\n"
                                    "def square(x): return 0",
    "changing its arguments": "def square(x):\n    globals()['x'] = x\n    return None",
}  # fmt: skip


@needs_bwrap
@pytest.mark.parametrize("name", CHEATS)
def test_cheating_assert_tests(name: str) -> None:
    outcome = judge(SQUARE, CHEATS[name], quick=True)
    assert outcome.passed is False, outcome
    assert outcome.reason in {"wrong_output", "runtime_error", "output_limit", "timeout", "memory"}
    assert outcome.score is not None
    assert outcome.score < 1
    assert judge(SQUARE, "def square(x): return x * x").passed, "the tester survives"


@needs_bwrap
@pytest.mark.parametrize(
    "code",
    [
        "print(2)",
        "print(2)\nprint(4)",
        "import os\nos._exit(0)",
        "import sys\nsys.exit()",
        "import os\nos.kill(os.getppid(), 9)",
        pytest.param("import os\nos.kill(os.getppid(), 19)", marks=pytest.mark.slow),
        'print(\'{"status": "ok", "code": 0, "stdout": "2\\\\n4\\\\n", "stderr": ""}\')',
        "import os\nfor fd in range(3, 20):\n"
        "    try: os.write(fd, b'{\"status\": \"ok\", \"stdout\": \"0\\\\n0\\\\n\"}\\n')\n    except OSError: pass",
        "import os\nif os.fork() == 0:\n    os.setsid()\n    import time\n    time.sleep(9)\nprint(0)\nprint(0)",
        "import os\nos.close(1)\nwhile True: pass",
    ],
)  # fmt: skip
def test_cheating_outputs(code: str) -> None:
    outcome = judge(DOUBLE, code, quick=True)
    assert outcome.passed is False, outcome
    assert outcome.reason
    assert outcome.score is not None
    assert outcome.score < 0.5


@needs_bwrap
def test_many_tests_are_run_in_portions_and_all_count() -> None:
    numbers = [str(i) for i in range(25)]
    gold = {"inputs": numbers, "outputs": [str(2 * i) for i in range(25)]}
    assert judge(gold, "print(2 * int(input()))").score == 1
    outcome = judge(gold, "x = int(input())\nprint(2 * x if x != 23 else 0)")
    assert (outcome.reason, outcome.score) == ("wrong_output", 24 / 25)
    assert outcome.detail.startswith("test 24")


@needs_bwrap
def test_tests_that_need_more_than_data_are_undecidable() -> None:
    for gold, code in [
        (["assert apply(lambda x: x + 1) == 2"], "def apply(f):\n    return f(1)"),
        (["assert Stack().pop() == 1"], "class Stack:\n    def pop(self):\n        return 1"),
        (["for x in empty():\n    assert x == 1"], "def empty():\n    return []"),
    ]:
        outcome = judge(gold, code)
        assert (outcome.passed, outcome.reason, outcome.score) == (None, "unsupported_tests", None)


@needs_bwrap
def test_the_same_program_is_run_once(tmp_path: Path) -> None:
    verifier = ChosenVerifier.of({"kind": "code"}).build()
    gold = ["assert f() > 0.5"]
    code = "import random\ndef f():\n    return random.random()"
    assert len({verifier.verify(gold, code).passed for _ in range(12)}) == 1


def test_a_failing_sandbox_is_undecidable_and_a_useless_one_an_error(tmp_path: Path) -> None:
    plugin = tmp_path / "broken.py"
    plugin.write_text(
        "from distill.errors import BackendError\nfrom distill.types import Record\n\n\nclass Config(Record):\n"
        "    pass\n\n\n"
        "class Broken:\n    def run(self, *given):\n        raise BackendError('the disk is gone')\n\n\n"
        "def build(config):\n    return Broken()\n"
    )
    verifier = ChosenVerifier.of({"kind": "code", "sandbox": {"kind": str(plugin)}}).build()
    outcome = verifier.verify(DOUBLE, "print(1)")
    assert (outcome.passed, outcome.reason, outcome.score) == (None, "sandbox_error", None)
    with pytest.raises(InputError, match="assert tests cannot run"):
        verifier.verify(SQUARE, "print(1)")


# phrase of the problem: a right program, a wrong one
CONTESTS = {
    "Casimir has a string s which consists of capital Latin letters": (
        "for _ in range(int(input())):\n    s = input()\n"
        "    print('YES' if s.count('A') + s.count('C') == s.count('B') else 'NO')",
        "for _ in range(int(input())):\n    s = input()\n    print('YES' if len(s) % 2 == 0 else 'NO')",
    ),
    "a one-minute songs, b two-minute songs": (
        "for _ in range(int(input())):\n    a, b, c = map(int, input().split())\n    print((a + c) % 2)",
        "for _ in range(int(input())):\n    a, b, c = map(int, input().split())\n    print((a + b) % 2)",
    ),
    "Luntik came out for a morning stroll": (
        "for _ in range(int(input())):\n    input()\n    a = input().split()\n    print(a.count('1') << a.count('0'))",
        "for _ in range(int(input())):\n    input()\n    a = input().split()\n"
        "    print(a.count('1') * (1 + a.count('0')))",
    ),
    "Petya has got an interesting flower": (
        "for _ in range(int(input())):\n    input()\n    a = list(map(int, input().split()))\n    h, last = 1, None\n"
        "    for x in a:\n        if x == 0 and last == 0:\n            h = -1\n            break\n"
        "        h += 0 if not x else 5 if last else 1\n        last = x\n    print(h)",
        "for _ in range(int(input())):\n    input()\n    a = list(map(int, input().split()))\n    h, last = 1, None\n"
        "    for x in a:\n        h += 0 if not x else 5 if last else 1\n        last = x\n    print(h)",
    ),
    "Let's define the eversion operation": (
        "for _ in range(int(input())):\n    input()\n    a = list(map(int, input().split()))[::-1]\n"
        "    top, n = a[0], 0\n"
        "    for x in a:\n        if x > top:\n            top, n = x, n + 1\n    print(n)",
        "for _ in range(int(input())):\n    input()\n    a = list(map(int, input().split()))\n"
        "    print(sum(x > a[-1] for x in a))",
    ),
    "Monocarp is playing a computer game. Now he wants to complete the first level": (
        "for _ in range(int(input())):\n    input()\n    a, b = input(), input()\n"
        "    print('NO' if any(x == y == '1' for x, y in zip(a, b)) else 'YES')",
        "for _ in range(int(input())):\n    input()\n    a, b = input(), input()\n"
        "    print('NO' if '1' in a and '1' in b else 'YES')",
    ),
    "The grasshopper is located on the numeric axis": (
        "for _ in range(int(input())):\n    x, n = map(int, input().split())\n    d = [0, -n, 1, n + 1][n % 4]\n"
        "    print(x + d if x % 2 == 0 else x - d)",
        "for _ in range(int(input())):\n    x, n = map(int, input().split())\n    d = [0, -n, 1, n + 1][n % 4]\n"
        "    print(x + d)",
    ),
    "There are n block towers in a row": (
        "for _ in range(int(input())):\n    n = int(input())\n    print(int(sum(map(int, input().split())) % n != 0))",
        "for _ in range(int(input())):\n    n = int(input())\n    print(sum(map(int, input().split())) % n)",
    ),
    "apply an operation called minimum extraction": (
        "for _ in range(int(input())):\n    input()\n    a = sorted(map(int, input().split()))\n"
        "    print(max([a[0], *(y - x for x, y in zip(a, a[1:]))]))",
        "for _ in range(int(input())):\n    input()\n    a = sorted(map(int, input().split()))\n    print(max(a))",
    ),
    "Polycarp had an array a of 3 positive integers": (
        "for _ in range(int(input())):\n    b = list(map(int, input().split()))\n"
        "    print(b[0], b[1], b[6] - b[0] - b[1])",
        "for _ in range(int(input())):\n    b = list(map(int, input().split()))\n    print(b[0], b[1], b[2])",
    ),
    "A string is called square": (
        "for _ in range(int(input())):\n    s = input()\n    h = len(s) // 2\n"
        "    print('YES' if s[:h] == s[h:] else 'NO')",
        "s = [input() for _ in range(int(input()))][0]\nprint('YES' if s[: len(s) // 2] == s[len(s) // 2 :] else 'NO')",
    ),
    "Polycarp likes squares and cubes of positive integers": (
        "from bisect import bisect\nfrom math import isqrt\ncubes = [i ** 3 for i in range(1, 1001)]\n"
        "both = [i ** 6 for i in range(1, 32)]\nfor _ in range(int(input())):\n    n = int(input())\n"
        "    print(isqrt(n) + bisect(cubes, n) - bisect(both, n))",
        "for _ in range(int(input())):\n    n = int(input())\n    print(int(n ** 0.5) + int(n ** (1 / 3)))",
    ),
}


@needs_bwrap
@needs_data
@pytest.mark.integration
@pytest.mark.parametrize("phrase", CONTESTS)
def test_code_contests(phrase: str) -> None:
    rows = read("code_contests.jsonl")
    (row,) = [row for row in rows if phrase in " ".join(row["problem"].split())]
    right, wrong = CONTESTS[phrase]
    accepted, refused = judge(row, right), judge(row, wrong)
    assert (accepted.passed, accepted.score) == (True, 1.0), accepted
    assert (refused.passed, refused.reason) == (False, "wrong_output"), refused


SWAPS = {
    "+": "-", "-": "+", "*": "+", "//": "/", "/": "//", "%": "//", "<": "<=", "<=": "<", ">": ">=", ">=": ">",
    "==": "!=", "!=": "==", "and": "or", "or": "and", "True": "False", "False": "True", "not": "", "in": "not in",
    "min": "max", "max": "min", "append": "extend", "range": "list", "sorted": "list", "return": "yield", "+=": "-=",
}  # fmt: skip


def mutants(code: str, count: int, seed: int) -> list[str]:
    """Copies of a program with one token replaced each."""
    places = []
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.NUMBER and token.string.isdigit():
            places.append((token, str(int(token.string) + 1)))
        elif token.type in (tokenize.OP, tokenize.NAME) and token.string in SWAPS:
            places.append((token, SWAPS[token.string]))
    chosen = random.Random(seed).sample(places, min(count, len(places)))
    made = []
    for token, new in chosen:
        lines = code.splitlines(keepends=True)
        (row, start), (_, end) = token.start, token.end
        lines[row - 1] = lines[row - 1][:start] + new + lines[row - 1][end:]
        made.append("".join(lines))
    return made


def plain_python(row: dict[str, Any], code: str) -> bool:
    """Whether one ordinary Python process gets through program and tests."""
    command = [sys.executable, "-I", "-c", ""]
    command[-1] = f"{row['prompt']}{code}\n{row['test']}\ncheck({row['entry_point']})\nprint('through')\n"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0 and done.stdout.endswith("through\n")


@needs_bwrap
@needs_data
@pytest.mark.integration
def test_agreement_with_plain_python_on_humaneval() -> None:
    rows = read("humaneval.jsonl")
    cases = [(row, row["canonical_solution"]) for row in rows]
    for number, row in enumerate(rows):
        cases += [(row, mutant) for mutant in mutants(row["canonical_solution"], 3, number)]

    def compare(case: tuple[dict[str, Any], str]) -> tuple[bool, Any]:
        if not hasattr(own, "verifier"):
            own.verifier = ChosenVerifier.of({"kind": "code", "seconds": 5}).build()
        return plain_python(*case), own.verifier.verify(case[0], f"```python\n{case[1]}\n```")

    own = threading.local()
    started = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(compare, cases))
    seconds = time.monotonic() - started
    differ = [
        (case[0]["task_id"], case[1], truth, outcome)
        for case, (truth, outcome) in zip(cases, results, strict=True)
        if outcome.passed is not truth
    ]
    reasons = Counter(outcome.reason or "passed" for _, outcome in results[len(rows) :])
    print(
        f"\n{len(rows)} solutions and {len(cases) - len(rows)} mutants in {seconds:.0f} s: {len(differ)} differ; "
        f"{dict(reasons)}"
    )
    assert not differ
    assert all(outcome.passed for _, outcome in results[: len(rows)])
    assert len(cases) - len(rows) >= 400
    assert reasons["passed"] >= 10
