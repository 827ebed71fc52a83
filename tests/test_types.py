"""Token ids survive being packed, and a trace's identity survives all changes of the code."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from distill.types import Sampling, Trace, pack_ids, trace_id, unpack_ids
from tests.conftest import make_trace

WARM = Sampling(temperature=0.6, top_p=0.95, max_tokens=100)


@given(st.lists(st.integers(0, 2**32 - 1)))
def test_packed_ids_come_back(ids: list[int]) -> None:
    assert unpack_ids(pack_ids(ids)) == ids


def test_small_vocabularies_take_two_bytes_a_token() -> None:
    assert len(pack_ids([65_535] * 300)) == 800
    assert len(pack_ids([65_536] * 300)) == 1601


@pytest.mark.parametrize(
    ("problem", "model", "revision", "template", "sampling", "sample", "expected"),
    [
        ("p1", "deepseek-r1", None, "t1", Sampling(), 0, "f6041d7c36b9780fe01f"),
        ("p1", "deepseek-r1", "abc123", "t1", WARM, 3, "0d2afce8d5efb52c62a2"),
        ("p2", "qwq-32b", None, "t2", Sampling(temperature=0.6, top_p=0.95, top_k=40), 1, "533b9c3f9649fbbbd56c"),
        ("p2", "qwq-32b", "0", "t2", Sampling(temperature=0.0), 2, "9c1dde3c51e9592154d8"),
    ],
)
def test_ids_of_logs_that_exist_stay(
    problem: str, model: str, revision: str | None, template: str, sampling: Sampling, sample: int, expected: str
) -> None:
    assert trace_id(problem, model, revision, template, sampling, sample) == expected
    assert trace_id(problem, model, revision, template, sampling, sample, {}) == expected


def test_what_steers_the_model_counts_in_an_id_whatever_its_order() -> None:
    def id_of(steering: dict[str, JsonValue]) -> str:
        return trace_id("p", "m", None, "t", WARM, 0, steering)

    steerings: list[dict[str, JsonValue]] = [
        {},
        {"reasoning_effort": "low"},
        {"reasoning_effort": "high"},
        {"seed": None},
    ]
    assert len({id_of(steering) for steering in steerings}) == 4
    assert id_of({"a": 1, "b": 2}) == id_of({"b": 2, "a": 1})


def test_a_trace_without_steering_is_written_as_ever() -> None:
    assert "steering" not in orjson.loads(make_trace().model_dump_json())
    assert "steering" not in make_trace().model_dump(mode="json")
    steered = make_trace(steering={"reasoning_effort": "low"})
    assert Trace.model_validate_json(steered.model_dump_json()) == steered
