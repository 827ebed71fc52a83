from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill import plugins
from distill.errors import InputError
from distill.verifiers import ChosenVerifier, Verifiers

KINDS = plugins.names("verifiers")

# kind: (gold, its own answer, a different answer, golds that make no sense)
EXAMPLES: dict[str, tuple[Any, str, str, list[Any]]] = {
    "countdown": ({"target": 30, "numbers": [3, 7, 9]}, "(3 * 7) + 9", "(3 + 7) * 9", ["30", None, {"target": 30}]),
    "exact": ("the red one", "The red one.", "the blue one", [None, 3, [], ["", "a"]]),
    "choice": ("B", "(B)", "C", [None, "K", "B or C", 2]),
    "numeric": ("1234.5", "1,234.5", "12345", [None, "many", True, float("nan")]),
    "math": ("\\frac{3}{4}", "0.75", "\\frac{4}{3}", [None, "", [], {"a": 1}]),
}


def built(kind: str) -> Any:
    return ChosenVerifier.of({"kind": kind}).build()


def test_every_kind_has_an_example():
    # a kind with needs of its own (a sandbox, a server, another package) is tested in a file of its own
    assert set(EXAMPLES) <= set(KINDS)
    assert set(KINDS) - set(EXAMPLES) <= {"code", "judge", "reasoning_gym"}


@pytest.mark.parametrize("kind", EXAMPLES)
@pytest.mark.parametrize(
    "wrap", ["<answer>{}</answer>", "So the answer is \\boxed{{{}}}.", "<answer>\n{}\n</answer>\n"]
)
def test_a_verifier_tells_its_own_answer_from_another(kind, wrap):
    gold, right, other, _ = EXAMPLES[kind]
    verifier = built(kind)
    accepted, refused = (verifier.verify(gold, wrap.format(answer)) for answer in (right, other))
    assert (accepted.passed, accepted.reason, accepted.score) == (True, "", 1.0)
    assert refused.passed is False
    assert (bool(refused.reason), refused.score) == (True, 0.0)
    assert " " not in refused.reason
    assert verifier.key(gold, wrap.format(right)) == verifier.key(gold, f"<answer> {right} </answer>")
    assert verifier.key(gold, wrap.format(right)) != verifier.key(gold, wrap.format(other))


@pytest.mark.parametrize("kind", EXAMPLES)
def test_two_different_answers_are_none(kind):
    gold, right, other, _ = EXAMPLES[kind]
    verifier = built(kind)
    assert verifier.verify(gold, f"<answer>{other}</answer> or <answer>{right}</answer>").reason == "several_answers"
    assert verifier.verify(gold, f"<answer>{right}</answer>, so <answer> {right}</answer>").passed
    assert verifier.key(gold, f"<answer>{other}</answer> or <answer>{right}</answer>") is None


@pytest.mark.parametrize("kind", EXAMPLES)
def test_saying_nothing_is_no_answer(kind):
    gold = EXAMPLES[kind][0]
    assert built(kind).verify(gold, " \n").reason == "no_answer"
    assert built(kind).key(gold, "") is None


@pytest.mark.parametrize("kind", EXAMPLES)
def test_a_malformed_gold_is_the_users_error(kind):
    for gold in EXAMPLES[kind][3]:
        with pytest.raises(InputError):
            built(kind).verify(gold, "<answer>1</answer>")


PIECES = [
    "<answer>",
    "</answer>",
    "\\boxed{",
    "}",
    "{",
    "3",
    "7",
    " * ",
    "(",
    ")",
    "/0",
    "^",
    "\\frac",
    "$",
    "x",
    "B",
    "%",
]
texts = st.one_of(st.text(max_size=100), st.lists(st.sampled_from(PIECES), max_size=20).map("".join))


@pytest.mark.parametrize("kind", sorted(set(EXAMPLES) - {"math"}))
@settings(max_examples=150, deadline=None)
@given(text=texts)
def test_no_text_makes_a_verifier_raise(kind, text):
    verifier = built(kind)
    for said in (text, f"<answer>{text}</answer>", f"\\boxed{{{text}}}"):
        outcome = verifier.verify(EXAMPLES[kind][0], said)
        assert outcome.passed or outcome.reason
        hash(verifier.key(EXAMPLES[kind][0], said))


@settings(max_examples=10, deadline=None)
@given(text=texts)
def test_no_text_makes_math_raise(text):
    outcome = built("math").verify("\\frac{3}{4}", f"<answer>{text}</answer>")
    assert outcome.passed or outcome.reason
    hash(built("math").key("", f"<answer>{text}</answer>"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_verifier_describes_itself_and_refuses_unknown_settings(kind):
    assert plugins.describe("verifiers", kind)
    with pytest.raises(InputError):
        ChosenVerifier.of({"kind": kind, "no_such_setting": 1})


def test_a_verifier_is_built_once():
    from distill.types import Message, Problem

    problem = Problem.make((Message(role="user", content="?"),), answer="B", verifier={"kind": "choice"})
    verifiers = Verifiers()
    assert verifiers.of(problem) is verifiers.of(problem)


MINIMAL = """
from distill.types import Outcome, Record
from distill.verifiers import Verifier

class Config(Record):
    pass

class Same(Verifier):
    def verify(self, gold, text):
        return Outcome(passed=text == gold, reason="" if text == gold else "differs")

    def key(self, gold, text):
        return text

def build(config):
    return Same()
"""


def of_file(tmp_path, text):
    path = tmp_path / "mine.py"
    path.write_text(text)
    return ChosenVerifier.of({"kind": str(path)}).build()


def test_a_minimal_file_of_ones_own_offers_the_defaults_of_the_base_class(tmp_path):
    from distill.types import Message, Problem

    verifier = of_file(tmp_path, MINIMAL)
    problem = Problem.make((Message(role="user", content="?"),), answer="5")
    assert verifier.assess(problem, "5").passed
    assert verifier.assess(problem, "6").reason == "differs"
    assert (verifier.reads_problem, verifier.examples("5")) == (False, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MINIMAL.replace("class Same(Verifier)", "class Same"), r"gives a Same, which is no Verifier"),
        (MINIMAL.replace("def key", "def keys"), r"cannot be built: .*'?key'?"),
    ],
)
def test_a_file_that_builds_something_else_is_told_what_to_return(tmp_path, text, message):
    with pytest.raises(InputError, match=rf"mine\.py: its `build` {message}|mine\.py: {message}") as raised:
        of_file(tmp_path, text)
    assert raised.value.fix == "let `build` return an instance of a class derived from distill.verifiers.Verifier"
