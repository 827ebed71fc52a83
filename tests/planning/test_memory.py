"""Bytes by part, held against hand counts and against runs that were published."""

from __future__ import annotations

import pytest

from distill.models import presets
from distill.models.shapes import Shape
from distill.planning.choose import MARGIN, Option, weigh
from distill.planning.memory import GIB, adapter_parameters, memory
from distill.planning.setup import Hardware, Setup

H100 = 80 * GIB * (1 - MARGIN)


def shape(name: str) -> Shape:
    found = presets.student(name).shape
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["tiny", "qwen2.5-7b", "qwen2.5-32b", "llama-3.1-70b"])
def test_states_are_sixteen_bytes_a_parameter_however_they_are_spread(name: str) -> None:
    sizes = presets.shape(presets.student(name))
    count = sizes.parameters
    plain = memory(sizes, Setup())
    assert (plain.weights, plain.gradients, plain.optimizer) == (4 * count, 4 * count, 8 * count)
    three = memory(sizes, Setup(strategy="zero3", processes=8))
    assert three.states * 8 == pytest.approx(16 * count)
    two = memory(sizes, Setup(strategy="zero2", processes=8))
    assert two.states == pytest.approx(2 * count + 14 * count / 8)
    eight_bit = memory(sizes, Setup(strategy="zero3", processes=8, optimizer="paged_adamw_8bit"))
    assert eight_bit.states * 8 == pytest.approx((2 + 2 + 4 + 2.03125) * count)


def test_summing_over_passes_takes_gradients_in_full_precision() -> None:
    sizes = shape("qwen2.5-7b")
    once = memory(sizes, Setup(strategy="zero3", processes=8))
    summed = memory(sizes, Setup(strategy="zero3", processes=8, accumulation=2))
    assert summed.gradients == 2 * once.gradients


def test_adapters_train_what_their_rank_says_over_frozen_weights() -> None:
    sizes = shape("qwen2.5-7b")
    # PEFT's own count for r=16 on the seven linear layers of Qwen2.5-7B is 40,370,176
    assert adapter_parameters(sizes, 16) == 40_370_176
    lora = memory(sizes, Setup(method="lora"), rank=16)
    assert lora.weights == 2 * sizes.parameters + 4 * 40_370_176
    assert lora.gradients + lora.optimizer == 12 * 40_370_176
    qlora = memory(sizes, Setup(method="qlora"), rank=16)
    inside = sizes.num_hidden_layers * sizes.layer_parameters
    outside = sizes.parameters - inside
    assert qlora.weights - 4 * 40_370_176 - 2 * outside == pytest.approx(0.516 * inside, rel=1e-3)


def test_splitting_a_sequence_divides_its_activations() -> None:
    sizes = shape("qwen2.5-32b")
    whole = memory(sizes, Setup(strategy="zero3", processes=8))
    split = memory(sizes, Setup(strategy="zero3", processes=8, sequence_parallel=4))
    assert split.saved_activations == whole.saved_activations / 4
    assert (
        whole.layer_activations / 4 < split.layer_activations < whole.layer_activations / 3
    )  # the all-to-all has buffers of its own
    assert split.states == whole.states


def test_offloading_moves_states_to_the_host() -> None:
    sizes = shape("qwen2.5-7b")
    held = memory(sizes, Setup(strategy="zero3-offload", processes=4))
    assert held.states == 0
    assert held.host == 20 * sizes.parameters
    over_two = memory(sizes, Setup(strategy="zero3-offload", processes=8, nodes=2))
    assert over_two.host == held.host / 2


def test_a_mask_grows_with_the_square_of_the_length_and_only_where_there_is_one() -> None:
    sizes, setup = shape("qwen2.5-7b"), Setup(strategy="zero3", processes=8)
    free = memory(sizes, setup)
    assert memory(sizes, setup, flash=False).buffers - free.buffers == 3 * 32768**2
    assert memory(sizes, setup, flash=False, packed=False) == free
    padded = setup.model_copy(update={"micro_batch": 2})
    assert memory(sizes, padded, flash=False, packed=False).buffers - free.buffers == 6 * 32768**2


def fits(name: str, setup: Setup, fused: bool = True) -> bool:
    return memory(shape(name), setup, fused=fused).peak < H100


def test_openr1_distill_7b_fits_as_it_was_trained() -> None:
    """Open-R1's recipe: 8 × H100 80 GB, ZeRO-3, rows of 32,768, batch 128 (FIELD-NOTES names the model card)."""
    setup = Setup(strategy="zero3", processes=8, accumulation=16, max_length=32768)
    assert setup.batch == 128
    assert fits("qwen2.5-7b", setup)


def test_s1_32b_fits_on_sixteen_gpus() -> None:
    """simplescaling/s1, train/sft_multinode.sh: full shard, bf16, AdamW, checkpointing, one row each, rows to 32,768.

    Without a fused head, as it was trained, a row of that length would not have fitted: the block size was a cap that
    its rows (a few thousand tokens) did not reach.
    """
    setup = Setup(strategy="zero3", nodes=2, processes=16, max_length=32768)
    assert setup.batch == 16
    assert fits("qwen2.5-32b-instruct", setup)
    assert not fits("qwen2.5-32b-instruct", setup, fused=False)
    assert fits("qwen2.5-32b-instruct", setup.model_copy(update={"max_length": 8192}), fused=False)


def test_olympiccoder_32b_ran_out_of_memory_for_its_logits() -> None:
    """open-r1, recipes/OlympicCoder-32B: 16 × 8 H100, FSDP1, one row each, no fused head (`use_liger: false`), no
    sequence parallelism, paged 8-bit AdamW; "unable to train at 32k due to OOM", and so at 22,528.

    The formula says the same, and why: of what 32,768 tokens take, two thirds are copies of the logits. That run
    did not need 8-bit moments by this count (128 GPUs share them), and with TRL's fused head 32,768 fits.
    """
    setup = Setup(
        strategy="zero3", nodes=16, processes=128, max_length=32768, optimizer="paged_adamw_8bit", micro_batch=1
    )
    held = memory(shape("qwen2.5-32b"), setup, fused=False)
    assert held.peak > 80 * GIB
    assert held.logits > 0.6 * held.peak
    trained = setup.model_copy(update={"max_length": 22528})
    assert fits("qwen2.5-32b", trained, fused=False)
    assert fits("qwen2.5-32b", trained.model_copy(update={"optimizer": "adamw"}), fused=False)
    assert fits("qwen2.5-32b", setup)


def test_a_cpu_is_weighed_by_the_memory_of_its_node() -> None:
    setup = Setup(cpu=True, max_length=512)
    sizes = presets.shape(presets.student("tiny"))
    small: Option = weigh(sizes, Hardware(gpus=0, host_memory=0.5), setup)
    assert small.fits
    assert not weigh(shape("qwen2.5-7b"), Hardware(gpus=0, host_memory=64), setup).fits
    assert weigh(shape("qwen2.5-7b"), Hardware(gpus=0), setup).fits  # nothing is known of this machine
