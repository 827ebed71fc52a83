from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distill import plugins
from distill.errors import InputError

KINDS = plugins.names("filters")
PIECES = ["<think>", "</think>", "<answer>", "</answer>", "\\boxed{", "}", "3 * 7", "\n", "学生", "$", '"', "`", "ok. "]
texts = st.one_of(st.text(max_size=200), st.lists(st.sampled_from(PIECES), max_size=30).map("".join))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=texts, prefill=st.sampled_from(["", "<think>\n"]))
def test_a_filter_builds_with_defaults_and_judges_any_completion(
    kind, context, make_trace, make_problem, text, prefill
):
    check = plugins.build("filters", {}, context, name=kind)
    problem = make_problem(answer="21", verifier={"kind": "numeric"})
    outcome = check(problem, make_trace(text, prefill=prefill))
    assert outcome.passed or outcome.reason
    assert " " not in outcome.reason


@pytest.mark.parametrize("kind", KINDS)
def test_a_filter_describes_itself_and_refuses_unknown_settings(kind):
    assert plugins.describe("filters", kind)
    with pytest.raises(InputError):
        plugins.configure("filters", {"no_such_setting": 1}, name=kind)


def test_a_good_trace_passes_every_filter(context, make_trace, make_problem):
    problem = make_problem("Make 30.", answer={"target": 30, "numbers": [3, 7, 9]}, verifier={"kind": "countdown"})
    trace = make_trace("Try 3 * 7 = 21, 21 + 9 = 30.\n</think>\n\n<answer>(3 * 7) + 9</answer>", prefill="<think>\n")
    for kind in KINDS:
        outcome = plugins.build("filters", {}, context, name=kind)(problem, trace)
        assert outcome.passed is not False, (kind, outcome)
