"""What fine-tuning would take on hardware that is not here."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distill import recipe as recipes
from distill.errors import InputError
from distill.models import presets
from distill.planning.setup import Hardware
from distill.training.sft import plan as planner
from distill.training.sft.plan import SetSize

EIGHT = Hardware(gpus=8, gpu_memory=80)


def test_the_fastest_way_that_fits_is_taken_and_the_others_are_listed() -> None:
    plan = planner.plan(recipes.load("r1-distill").sft, presets.student("qwen2.5-7b"), EIGHT)
    assert plan.best is not None
    assert not plan.weighed[0].fits
    assert planner.chosen(plan) == plan.best == next(option for option in plan.weighed if option.fits)
    assert plan.attention == "flash_attention_2"


def test_where_nothing_fits_all_is_told_before_it_is_an_error() -> None:
    small = Hardware(gpus=1, gpu_memory=48, host_memory=128)
    plan = planner.plan(recipes.load("r1-distill").sft, presets.student("qwen2.5-32b"), small)
    assert plan.best is None
    assert plan.weighed
    with pytest.raises(InputError, match="do not fit on 1 × 1 × 48 GiB"):
        planner.chosen(plan)
    larger = Hardware(gpus=2, gpu_memory=80, host_memory=128)
    adapters = planner.plan(recipes.load("r1-distill").sft, presets.student("qwen2.5-32b"), larger, "auto")
    assert planner.chosen(adapters).setup.method == "lora"


def test_a_strategy_that_is_set_leaves_one_way() -> None:
    config = recipes.load("r1-distill", ["sft.strategy=zero3"]).sft
    plan = planner.plan(config, presets.student("qwen2.5-7b"), EIGHT)
    assert [option.setup.strategy for option in plan.weighed] == ["zero3"]
    with pytest.raises(InputError, match=r"no such method: 'qlor'[\s\S]*did you mean qlora"):
        planner.plan(config, presets.student("qwen2.5-7b"), EIGHT, "qlor")


def test_time_follows_from_the_size_of_the_set(tmp_path: Path) -> None:
    (tmp_path / "sft").mkdir()
    pq.write_table(pa.table({"tokens": [100, 200, 300]}), tmp_path / "sft" / "train.parquet")
    size = planner.set_size(tmp_path)
    assert size == SetSize(600, 3)
    assert planner.set_size(tmp_path / "nowhere") is None
    config = recipes.load("tiny", ["sft.batch_size=2", "sft.micro_batch=1"]).sft
    plan = planner.plan(config, presets.student("tiny"), Hardware())
    estimate = planner.time(plan, size)
    assert (estimate.rows, estimate.steps, estimate.hours) == (3, 12, None)
