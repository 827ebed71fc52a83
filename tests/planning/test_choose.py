"""The fastest that fits, the batch that was asked for, and what is said where nothing fits."""

from __future__ import annotations

import pytest

from distill.errors import InputError
from distill.models import presets
from distill.models.shapes import Shape
from distill.planning.choose import Workload, choose, options, pick
from distill.planning.setup import Hardware


def shape(name: str) -> Shape:
    return presets.shape(presets.student(name))


@pytest.mark.parametrize(
    ("student", "hardware", "strategy", "parallel"),
    [
        ("qwen2.5-1.5b", Hardware(gpus=1), "single", 1),
        ("qwen2.5-1.5b", Hardware(gpus=8), "ddp", 1),
        ("qwen2.5-7b", Hardware(gpus=8), "zero2", 1),
        ("qwen2.5-14b", Hardware(gpus=8), "zero3", 1),
        ("qwen2.5-72b", Hardware(nodes=4, gpus=8), "zero3", 4),
        ("qwen2.5-7b", Hardware(gpus=1), "zero2-offload", 1),
        ("qwen2.5-7b", Hardware(gpus=4, gpu_memory=24), "zero3-offload", 1),
        ("qwen2.5-14b", Hardware(gpus=4, gpu_memory=24), "zero3-offload", 2),
        ("tiny", Hardware(gpus=0), "single", 1),
    ],
)
def test_it_goes_down_from_fast_to_small(student: str, hardware: Hardware, strategy: str, parallel: int) -> None:
    sizes = shape(student)
    setup = choose(sizes, hardware, batch=64, max_length=32768 if hardware.gpus else 512).setup
    assert (setup.strategy, setup.sequence_parallel) == (strategy, parallel)
    assert setup.batch == 64
    assert setup.processes == hardware.nodes * max(1, hardware.gpus)
    assert setup.cpu == (hardware.gpus == 0)


def test_everything_faster_was_weighed_and_does_not_fit() -> None:
    sizes, hardware = shape("qwen2.5-32b"), Hardware(nodes=2, gpus=8)
    weighed = options(sizes, hardware, Workload(batch=64, max_length=32768))
    best = pick(weighed, 64)
    assert best is not None
    before = weighed[: weighed.index(best)]
    assert before
    assert all(option.spare_bytes < 0 for option in before)
    assert best.spare_bytes >= 0


def test_the_micro_batch_grows_with_short_rows_and_the_rows_of_a_step_stay() -> None:
    found = choose(shape("qwen2.5-1.5b"), Hardware(gpus=8), batch=96, max_length=4096)
    assert found.setup.batch == 96
    assert found.setup.micro_batch == 12
    given = choose(shape("qwen2.5-1.5b"), Hardware(gpus=8), batch=96, max_length=4096, micro_batch=4)
    assert (given.setup.micro_batch, given.setup.batch) == (4, 96)


def test_more_gpus_than_rows_share_the_rows() -> None:
    setup = choose(shape("qwen2.5-7b"), Hardware(nodes=2, gpus=8), batch=8, max_length=32768).setup
    assert setup.batch == 8
    assert setup.sequence_parallel == 2


def test_a_batch_that_no_split_allows_becomes_the_nearest_one() -> None:
    setup = choose(shape("qwen2.5-7b"), Hardware(gpus=8), batch=30, max_length=32768, flash=False).setup
    assert setup.sequence_parallel == 1  # packed rows without flash-attention cannot be split
    assert setup.batch == 32


def test_adapters_only_where_they_are_allowed() -> None:
    sizes, one = shape("qwen2.5-7b"), Hardware(gpus=1, gpu_memory=48, host_memory=64)
    with pytest.raises(InputError) as failed:
        choose(sizes, one, batch=64, max_length=16384)
    assert "7.6B parameters at 16,384 tokens do not fit" in str(failed.value)
    assert "--set sft.method=lora" in str(failed.value)
    assert choose(sizes, one, batch=64, max_length=16384, method="auto").setup.method == "lora"
    assert choose(sizes, Hardware(gpus=8), batch=64, max_length=16384, method="auto").setup.method == "full"
    small = Hardware(gpus=1, gpu_memory=24, host_memory=64)
    assert choose(sizes, small, batch=64, max_length=8192, method="auto").setup.method == "qlora"


def test_what_would_help_does_help() -> None:
    sizes, hardware = shape("qwen2.5-72b"), Hardware(gpus=8, host_memory=512)
    with pytest.raises(InputError) as failed:
        choose(sizes, hardware, batch=64, max_length=32768)
    assert "--nodes 4" in str(failed.value)
    wider = choose(sizes, hardware.model_copy(update={"nodes": 4}), batch=64, max_length=32768)
    assert wider.fits


def test_a_split_that_heads_do_not_allow_is_refused() -> None:
    with pytest.raises(InputError, match="cannot be split over 3 GPUs"):
        choose(shape("qwen2.5-7b"), Hardware(gpus=8), batch=64, max_length=32768, sequence_parallel=3)
    asked = choose(shape("qwen2.5-7b"), Hardware(gpus=8), batch=64, max_length=32768, sequence_parallel=4)
    assert asked.setup.sequence_parallel == 4


def test_eight_bit_moments_are_taken_when_asked_for() -> None:
    found = choose(
        shape("qwen2.5-7b"), Hardware(gpus=8), batch=64, max_length=32768, optimizer="paged_adamw_8bit"
    ).setup
    assert (found.strategy, found.optimizer) == ("zero2", "paged_adamw_8bit")
    job = Workload(batch=64, max_length=32768, method="auto", optimizer="paged_adamw_8bit")
    weighed = options(shape("qwen2.5-7b"), Hardware(gpus=8), job)
    assert {option.setup.optimizer for option in weighed} == {"paged_adamw_8bit"}
    assert not any(option.setup.offload for option in weighed)
    assert len({str(option.setup) for option in weighed}) == len(weighed)
