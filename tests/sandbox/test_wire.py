from __future__ import annotations

import json
from collections import Counter, OrderedDict, defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.sandbox.inside import wire

hashable = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(max_size=20),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
values = st.recursive(
    hashable | st.complex_numbers(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(hashable, inner, max_size=4) | st.sets(hashable, max_size=4)
    ),
    max_leaves=10,
)


def there_and_back(value: Any) -> Any:
    return wire.decode(json.loads(json.dumps(wire.encode(value))))


def shape(value: Any) -> Any:
    """A value with the type of everything in it."""
    if isinstance(value, list | tuple):
        return type(value), [shape(item) for item in value]
    if isinstance(value, dict):
        return dict, [(shape(key), shape(item)) for key, item in value.items()]
    return type(value), value


@given(value=values)
def test_plain_data_survives(value: Any) -> None:
    assert shape(there_and_back(value)) == shape(value)


def test_long_numbers_and_odd_ones() -> None:
    assert there_and_back(-(7**20_000)) == -(7**20_000)
    assert there_and_back([float("inf")]) == [float("inf")]
    assert there_and_back(float("nan")) != there_and_back(float("nan"))
    assert there_and_back("\ud800") == "\ud800"


def test_relatives_of_dicts_and_lazy_things() -> None:
    assert there_and_back(Counter("aab")) == {"a": 2, "b": 1}
    assert there_and_back([OrderedDict(a=1), defaultdict(int, a=1)]) == [{"a": 1}, {"a": 1}]
    assert list(there_and_back(x * 2 for x in range(3))) == [0, 2, 4]
    assert there_and_back(map(str, [1])) != ["1"]
    assert there_and_back(range(2, 9, 3)) == range(2, 9, 3)


class Equal(int):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


@pytest.mark.parametrize("value", [Equal(3), object(), len, type("S", (str,), {})("x"), iter([]), (lambda: 1)])
def test_anything_else_is_opaque_and_equals_nothing(value: Any) -> None:
    arrived = there_and_back(value)
    assert isinstance(arrived, wire.Opaque)
    assert arrived != value
    assert isinstance(there_and_back([value])[0], wire.Opaque)


def test_a_generator_without_end_is_opaque() -> None:
    def forever() -> Any:
        while True:
            yield 1

    assert isinstance(there_and_back(forever()), wire.Opaque)


@pytest.mark.parametrize(
    "sent", [[], ["z"], [1], ["d", 1], ["i", "x"], ["i"], {"a": 1}, ["s", ["l"]], ["b", "xyz"], ["r", 0, 1, 0]]
)
def test_what_is_no_data_is_an_error_of_a_few_kinds(sent: Any) -> None:
    with pytest.raises((ValueError, TypeError, LookupError)):
        wire.decode(sent)


def test_arguments_are_changed_in_place() -> None:
    inner = [1]
    old = [inner, {"a": 1}, 3]
    wire.restore(old, [[1, 2], {"b": 2}, 4, 5])
    assert old == [[1, 2], {"b": 2}, 4, 5]
    same = [inner, 7]
    wire.restore(same, [[9], 8])
    assert (same, inner) == ([[9], 8], [9])
    items = {1, 2}
    wire.restore(items, {3})
    assert items == {3}
