"""The roomy cache holds what transformers' own holds, whatever is done to it, and seldom copies."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.models import kv_cache

pytestmark = pytest.mark.slow  # it loads torch
HEADS, SIZE = 2, 3
DEEDS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from([1, 1, 1, 2, 70, 200])),
        st.tuples(st.just("select"), st.lists(st.integers(0, 9), min_size=1, max_size=5)),
        st.tuples(st.just("repeat"), st.integers(1, 2)),
        st.tuples(st.just("crop"), st.integers(1, 3)),
        st.tuples(st.just("reset"), st.just(0)),
    ),
    max_size=12,
)


def states(rows: int, length: int, seed: int) -> tuple[Any, Any]:
    import torch

    keys, values = torch.randn(2, rows, HEADS, length, SIZE, generator=torch.Generator().manual_seed(seed))
    return keys, values


def config() -> Any:
    from transformers import Qwen2Config

    return Qwen2Config(num_hidden_layers=1)


@given(DEEDS)
def test_it_holds_what_a_dynamic_cache_holds(deeds: list[tuple[str, Any]]) -> None:
    import torch
    from transformers import DynamicCache

    ours, theirs, rows = kv_cache.empty(config()), DynamicCache(config=config()), 3
    assert type(ours.layers[0]) is not type(theirs.layers[0])
    for step, (deed, what) in enumerate(deeds):
        held = theirs.get_seq_length()
        if deed == "add":
            given = [cache.update(*states(rows, what, step), 0) for cache in (ours, theirs)]
            for mine, other in zip(*given, strict=True):
                assert torch.equal(mine, other)
        elif deed == "select" and held:
            chosen = torch.tensor([row % rows for row in what])
            rows = len(chosen)
            for cache in (ours, theirs):
                cache.batch_select_indices(chosen)
        elif deed == "repeat" and held:
            rows *= what
            for cache in (ours, theirs):
                cache.batch_repeat_interleave(what)
        elif deed == "crop" and held > what:
            for cache in (ours, theirs):
                cache.crop(-what)
        elif deed == "reset":
            for cache in (ours, theirs):
                cache.reset()
        assert ours.get_seq_length() == theirs.get_seq_length()


def test_a_token_more_is_written_beside_the_others() -> None:
    cache = kv_cache.empty(config())
    places = []
    for step in range(200):
        keys, _ = cache.update(*states(2, 1, step), 0)
        places.append(keys.data_ptr())
    assert len(set(places)) <= 4
