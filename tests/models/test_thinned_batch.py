"""A batch that gets smaller: each row comes out as if it were generated alone, and leaves when it has ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distill.models import thinned_batch
from distill.models.thinned_batch import BatchRow

pytestmark = pytest.mark.slow  # it loads torch
EOS = 2


@pytest.fixture(scope="module")
def network(tiny: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(tiny / "teacher", dtype=torch.float32).eval()


def greedy() -> Any:
    from transformers import GenerationConfig

    return GenerationConfig(do_sample=False, eos_token_id=[EOS], pad_token_id=0)


def rows() -> list[BatchRow]:
    return [
        BatchRow([40 + index] * (3 + index), 3 + index + budget) for index, budget in enumerate((4, 30, 9, 1, 60, 17))
    ]


def generated(network: Any, batch: list[BatchRow], **options: Any) -> list[BatchRow]:
    import torch

    with torch.no_grad():
        return thinned_batch.generate(network, batch, greedy(), **options)


def test_rows_of_a_batch_are_those_generated_alone_and_end_in_their_own_budget(network: Any) -> None:
    together = rows()
    ended: list[BatchRow] = []
    assert generated(network, together, on_end=ended.append) == []
    assert sorted(map(id, ended)) == sorted(map(id, together)), "each is handed out once"
    for row, alone in zip(together, rows(), strict=True):
        generated(network, [alone])
        assert row.ids == alone.ids
        assert row.has_ended([EOS])
        assert len(row.ids) == row.max_length or row.ids[-1] == EOS


def test_the_last_rows_can_be_left_over_and_go_on_later(network: Any) -> None:
    batch = rows()
    leftover = generated(network, batch, max_leftover=2)
    assert 0 < len(leftover) <= 2
    assert not any(row.has_ended([EOS]) for row in leftover)
    generated(network, leftover)
    whole = rows()
    generated(network, whole)
    assert [row.ids for row in batch] == [row.ids for row in whole]


class Unwanted(BatchRow):
    @property
    def abandoned(self) -> bool:
        return len(self.generated) > 0


def test_a_row_that_nobody_wants_is_dropped_and_a_batch_can_be_stopped(network: Any) -> None:
    ended: list[BatchRow] = []
    unwanted = Unwanted([40, 41], 500)
    assert generated(network, [unwanted, *rows()], on_end=ended.append) == []
    assert unwanted not in ended
    assert len(unwanted.ids) < 500
    batch = rows()
    assert generated(network, batch, stopped=lambda: True) == batch
    assert all(row.generated == [] for row in batch)
