from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distill import plugins
from distill.errors import InputError
from distill.filters import ChosenFilter

KINDS = plugins.names("filters")
PIECES = ["<think>", "</think>", "<answer>", "</answer>", "\\boxed{", "}", "3 * 7", "\n", "学生", "$", '"', "`", "ok. "]
texts = st.one_of(st.text(max_size=200), st.lists(st.sampled_from(PIECES), max_size=30).map("".join))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=texts, prefill=st.sampled_from(["", "<think>\n"]))
def test_a_filter_builds_with_defaults_and_judges_any_completion(
    kind, context, make_trace, make_problem, text, prefill
):
    check = ChosenFilter.of({}, kind).build(context)
    problem = make_problem(answer="21", verifier={"kind": "numeric"})
    outcome = check(problem, make_trace(text, prefill=prefill))
    assert outcome.passed or outcome.reason
    assert " " not in outcome.reason


@pytest.mark.parametrize("kind", KINDS)
def test_a_filter_describes_itself_and_refuses_unknown_settings(kind):
    assert plugins.describe("filters", kind)
    with pytest.raises(InputError):
        ChosenFilter.of({"no_such_setting": 1}, kind)


def test_a_good_trace_passes_every_filter(context, make_trace, make_problem):
    problem = make_problem("Make 30.", answer={"target": 30, "numbers": [3, 7, 9]}, verifier={"kind": "countdown"})
    trace = make_trace("Try 3 * 7 = 21, 21 + 9 = 30.\n</think>\n\n<answer>(3 * 7) + 9</answer>", prefill="<think>\n")
    for kind in KINDS:
        outcome = ChosenFilter.of({}, kind).build(context)(problem, trace)
        assert outcome.passed is not False, (kind, outcome)


MINIMAL = '''"""Short: no completion is long."""
from distill.filters import Filter
from distill.types import Outcome, Record

class Config(Record):
    limit: int = 10

class Short(Filter):
    def __init__(self, limit):
        self.limit = limit

    def __call__(self, problem, trace):
        return Outcome(passed=len(trace.completion) <= self.limit, reason="long")

def build(config, context):
    return Short(config.limit)
'''


def test_a_minimal_file_of_ones_own_offers_the_defaults_of_the_base_class(tmp_path, context, make_trace, make_problem):
    path = tmp_path / "short.py"
    path.write_text(MINIMAL)
    check = ChosenFilter.of({"kind": str(path), "limit": 3}, "mine").build(context)
    pair = (make_problem(), make_trace("four"))
    assert check(*pair).reason == "long"
    assert (check.needs, check.basis(), check.feature(*pair), list(check.settle([]))) == ((), None, None, [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            MINIMAL.replace("return Short(config.limit)", "return lambda problem, trace: None"),
            r"gives a function, which is no Filter\n.*derived from distill\.filters\.Filter",
        ),
        (MINIMAL.replace("def __call__", "def judge"), r"cannot be built: .*__call__[\s\S]*distill\.filters\.Filter"),
        (MINIMAL.replace("build(config, context)", "build(config)"), r"cannot be built: build\(\) takes 1"),
    ],
)
def test_a_file_that_builds_something_else_is_told_what_to_return(tmp_path, context, text, message):
    path = tmp_path / "wrong.py"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"wrong\.py: [\s\S]*{message}"):
        ChosenFilter.of({"kind": str(path)}, "mine").build(context)
