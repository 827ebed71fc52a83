from __future__ import annotations

import random
import time

import pytest

from distill.filters import ChosenFilter, Context

CHECK = ChosenFilter.of({}, "language").build(Context(student="none"))

ENGLISH = "Try 3 * 9 = 27, 27 + 7 = 34. That is 34, I need 29, no.\n"
DRIFT = "等等,试试 7 * 3 = 21,这是 45,不是 29。\n"
CHINESE = "先算 3 乘以 9 等于 27,再加上 7 得到 34,这不是我们要的结果,所以换一种办法试试。\n"


def judge(make_trace, make_problem, text, language="en", question="?"):
    return CHECK(make_problem(question, language=language), make_trace(f"<think>\n{text}</think>\n<answer>29</answer>"))


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", ENGLISH * 2 + DRIFT + ENGLISH),
        ("en", ENGLISH * 40 + DRIFT),
        ("en", ENGLISH + "再试试 7 + 8 = 15。这是 15,目标是 29,不对。\n"),
        ("en", ENGLISH + "So the daily energy需求 is 5.\n"),
        ("en", ENGLISH + "Let Anne be \\(\\text{Anne's次数} = 30\\).\n"),
        ("en", ENGLISH + "поэтому нам нужно 29.\n"),
        ("en", ENGLISH + "그래서 29 가 필요합니다.\n"),
        ("zh", CHINESE * 3 + "Wait, try 7 * 3 = 21. That is 45, not 29.\n" + CHINESE),
        ("zh-CN", CHINESE + "We need to find the number of apples that Janet has left.\n"),
        ("zh", ENGLISH * 3),
        ("zh", CHINESE + "所以 we need to subtract 3 from 9 first,然后再算。\n"),
        ("zh", CHINESE * 3 + "我们 have to 算出 the 总数,也就是 27。\n"),
        ("ko", "먼저 3 곱하기 9 는 27 이고 so we have to 더하면 34 입니다.\n"),
        ("ja", "これは 27 です。次に七を足すと 34 になります。\n" + ENGLISH * 2),
        ("ko", "먼저 3 곱하기 9 는 27 이고 7 을 더하면 34 입니다.\n" + DRIFT),
        ("ru", "Сначала умножим 3 на 9 и получим 27.\n" + "Then we add 7 and that makes 34, no good.\n"),
    ],
)
def test_drift_is_rejected(make_trace, make_problem, language, text):
    outcome = judge(make_trace, make_problem, text, language)
    assert (outcome.passed, outcome.reason) == (False, "foreign_script"), outcome
    assert outcome.detail


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", ENGLISH * 5),
        ("en", ENGLISH + 'In Chinese the word for "student" (学生) differs from "瓶子 (píngzi)".\n'),
        ("en", ENGLISH + "The Chinese character for zero is 零 (líng), but that does not matter.\n"),
        ("en", ENGLISH + "Let α, β and Δ be angles; K is К in Cyrillic; naïve café.\n"),
        ("en", ENGLISH + "```python\n# 打印所有的结果并且检查\nprint(29)\n```\n"),
        ("fr", "Nous ajoutons 3 et 9, ce qui donne 12, déjà trop peu.\n"),
        ("zh", CHINESE * 2),
        ("zh", CHINESE + "设 $x = \\text{apples}$,则 \\(x + y = \\frac{1}{2}\\),GDP 是 5 kg,sin x 小于 cos x。\n"),
        ("zh", CHINESE + 'The Beatles 的英文写作 "the band that we love"。\n'),
        ("zh", CHINESE + "Alice 和 Bob 各有 5 cm、3 cm、4 cm 的绳子。\n"),
        ("ja", "まず 3 と 9 を掛けると 27 になります。次に七を足します。\n"),
        ("ko", "먼저 3 곱하기 9 는 27 입니다. 수(數)는 29 입니다.\n"),
        ("ru", "Пусть x и y это числа, тогда sin x меньше y.\n"),
    ],
)
def test_quotations_notation_and_code_are_not_drift(make_trace, make_problem, language, text):
    outcome = judge(make_trace, make_problem, text, language)
    assert outcome.passed, outcome


def test_what_the_problem_says_is_not_foreign(make_trace, make_problem):
    text = ENGLISH + "So 学生们都去图书馆 means that the students go to the library.\n"
    assert judge(make_trace, make_problem, text, question="Translate 学生们都去图书馆.").passed
    assert not judge(make_trace, make_problem, text).passed


def test_a_language_that_it_does_not_know_is_undecidable(make_trace, make_problem):
    assert judge(make_trace, make_problem, ENGLISH, "tlh").passed is None


def test_odd_text_takes_no_long_time(make_trace, make_problem):
    start = time.monotonic()
    for text in (
        "1 2" * 20000,
        "\\(" * 5000,
        '"' * 20000,
        "学1" * 20000,
        "学" * 100_000,
        "学a" * 20000,
        "(" * 20000,
        "$ " * 20000,
    ):
        judge(make_trace, make_problem, text)
    assert time.monotonic() - start < 3


def test_real_traces(make_trace, make_problem, shared):
    kept: dict[str, list[bool]] = {"language_drift": [], "cjk_quoted": [], "clean": []}
    for row in shared("real_traces.jsonl"):
        names = [flag for flag in row["flags"] if flag in kept]
        if row["truth"] == "correct" and row["status"] == "complete" and not row["flags"]:
            names = ["clean"]
        if names:
            passed = CHECK(make_problem(row["problem"]), make_trace(row["text"])).passed
            for name in names:
                kept[name].append(bool(passed))
    share = {name: sum(found) / len(found) for name, found in kept.items()}
    assert share["language_drift"] <= 0.1
    assert share["cjk_quoted"] >= 0.9
    assert share["clean"] == 1


def test_real_chinese_is_chinese(make_trace, make_problem, shared):
    questions = [row["question"] for row in shared("cmath_zh.jsonl")]
    assert all(CHECK(make_problem(language="zh"), make_trace(question)).passed for question in questions)
    assert not any(CHECK(make_problem(language="en"), make_trace(question)).passed for question in questions)


CLEAN_STEPS = (
    "先把题目里的条件整理一下:{question}",
    "设 $x$ 为所求的数,则 \\(x + {a} = {b}\\),解得 $x = {b} - {a}$。",
    "把单位统一成 kg 和 cm,{a} km 等于 {a}000 m,每小时 {b} km/h。",
    "长方形 ABCD 的面积 S = ab,其中 a = {a},b = {b}。",
    "用公式 $$S = \\frac{{1}}{{2}} \\times {a} \\times {b}$$ 来算。",
    "等一下,我再验算一遍:{a} 加 {b} 等于 {c},没有问题。",
    "列方程 2x + 3y = {c},由 sin x 和 cos x 的关系也能得到同样的结果。",
    "不对,前面漏掉了一个条件,应该先减去 {a},再除以 {b}。",
    "Alice 有 {a} 个苹果,Bob 有 {b} 个苹果,一共 {c} 个。",
    "\\[\n\\begin{{aligned}} x &= {a} \\\\ y &= {b} \\end{{aligned}}\n\\]",
)
QUOTING_STEPS = (
    '英文里的 "student" 就是学生的意思。',
    "这里的(remainder)指余数。",
    "题目中“apple”一词指苹果。",
    "'sum' 就是求和的意思。",
    "这就是著名的 Fibonacci 数列,不过这里用不上。",
)
DRIFTING_STEPS = (
    "Wait, let me check that again: {a} + {b} = {c}.",
    "So the total number of apples is {c}.",
    "所以 we need to subtract {a} from {b} first,然后再算。",
    "Now 计算 the remaining part: {b} - {a}, which gives us the answer.",
    "我们 have to find out how many are left,也就是 {c}。",
    "Hmm, that doesn't seem right. Maybe I should try another method.",
)


@pytest.fixture(scope="module")
def chinese(shared, make_problem, make_trace):
    """(problem, trace)s whose reasoning is Chinese, each with one of the steps given."""
    rows = shared("cmath_zh.jsonl")

    def make(extra=()):
        rng = random.Random(0)
        for row in rows:
            a, b = rng.randint(2, 50), rng.randint(51, 99)
            steps = rng.choices(CLEAN_STEPS, k=rng.randint(6, 30))
            steps.insert(rng.randrange(1, len(steps)), rng.choice(extra or CLEAN_STEPS))
            text = "\n\n".join(steps).format(question=row["question"], a=a, b=b, c=a + b)
            text = f"<think>\n好的,我们来看这道题。\n{text}\n</think>\n\n所以答案是 \\boxed{{{row['answer']}}}。"
            yield make_problem(row["question"], language="zh"), make_trace(text)

    return make


@pytest.mark.parametrize(("steps", "expected"), [((), 1.0), (QUOTING_STEPS, 1.0), (DRIFTING_STEPS, 0.0)])
def test_chinese_as_the_target(chinese, steps, expected):
    passed = [CHECK(problem, trace).passed for problem, trace in chinese(steps)]
    assert len(passed) == 600
    assert sum(passed) / len(passed) == expected
