"""The order of rows: complete, repeatable, another one each epoch, and little padding when grouped."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from distill.training.sft.order import Order


@given(st.lists(st.integers(1, 4000), min_size=1, max_size=400), st.integers(1, 9), st.integers(0, 5))
def test_each_epoch_sees_every_row_once_in_an_order_of_its_own(lengths: list[int], group: int, seed: int) -> None:
    order = Order(lengths, group, seed)
    first = list(order)
    assert sorted(first) == list(range(len(lengths)))
    assert first == list(Order(lengths, group, seed))
    order.set_epoch(1)
    second = list(order)
    assert sorted(second) == sorted(first)
    again = Order(lengths, group, seed)
    again.set_epoch(1)
    assert list(again) == second
    if len(lengths) > 50:
        assert second != first


def test_groups_hold_rows_of_like_length() -> None:
    lengths = [(7919 * n) % 1000 + 1 for n in range(4000)]

    def padding(order: Order, group: int) -> float:
        rows = list(order)
        batches = [[lengths[row] for row in rows[at : at + group]] for at in range(0, len(rows), group)]
        return sum(max(batch) * len(batch) - sum(batch) for batch in batches) / sum(lengths)

    assert padding(Order(lengths, 8, 0), 8) < 0.05
    assert padding(Order(lengths, 1, 0), 8) > 0.5


def test_rows_that_fill_no_group_go_last_and_change_with_the_epoch() -> None:
    order = Order(list(range(1, 104)), 10, 0)
    tails = set()
    for epoch in range(20):
        order.set_epoch(epoch)
        tails.add(tuple(list(order)[-3:]))
    assert len(tails) > 10
