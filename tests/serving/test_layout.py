"""How models are cut for GPUs: the layouts of the large ones, and the rules behind them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distill.errors import InputError
from distill.models import presets
from distill.models.model import Model
from distill.serving.layout import Gpus, Layout, advice, capacity, smallest_layout

GIB = 1 << 30
A100_40 = Gpus(per_node=8, memory=40 * GIB)
H100 = Gpus(per_node=8, memory=81_559 << 20)  # as nvidia-smi tells it
H200 = Gpus(per_node=8, memory=143_771 << 20)


def preset(name: str) -> Model:
    return presets.as_model(presets.teacher(name))


def model(parameters: float = 7e9, **fields: object) -> Model:
    facts = {"heads": 32, "kv_heads": 8, "cache": 131072, "precision": "bf16", "context": 32768, **fields}
    return Model.model_validate({"name": "m", "path": "org/m", "parameters": parameters, **facts})


def test_r1_in_fp8_takes_one_node_of_h200_or_two_of_h100() -> None:
    one = smallest_layout(preset("deepseek-r1"), H200)
    assert (one.tensor, one.pipeline, one.gpus, one.nodes(8)) == (8, 1, 8, 1)
    assert one.arguments() == {"tensor-parallel-size": 8}
    two = smallest_layout(preset("deepseek-r1"), H100.model_copy(update={"nodes": 4}))
    assert (two.tensor, two.pipeline, two.gpus, two.nodes(8)) == (8, 2, 16, 2)
    assert two.arguments() == {"tensor-parallel-size": 8, "pipeline-parallel-size": 2}
    assert capacity(two, H100.model_copy(update={"nodes": 5})) == 2
    with pytest.raises(InputError, match=r"(?s)does not fit on 8 × 86 GB: its weights take 671 GB.*several machines"):
        smallest_layout(preset("deepseek-r1"), H100)


@pytest.mark.parametrize(
    ("name", "gpus", "tensor", "replicas"),
    [
        ("deepseek-r1-distill-qwen-1.5b", A100_40, 1, 8),
        ("deepseek-r1-distill-qwen-7b", H100, 1, 8),
        ("deepseek-r1-distill-qwen-32b", H100, 2, 4),
        ("deepseek-r1-distill-qwen-32b", H200, 1, 8),
        ("deepseek-r1-distill-llama-70b", H100, 4, 2),
        ("qwen3-235b-a22b", H100, 8, 1),
        ("qwen3-235b-a22b", H200, 4, 2),
        ("qwq-32b", A100_40, 4, 2),
    ],
)
def test_small_replicas_and_many(name: str, gpus: Gpus, tensor: int, replicas: int) -> None:
    layout = smallest_layout(preset(name), gpus)
    assert (layout.tensor, layout.pipeline) == (tensor, 1)
    assert capacity(layout, gpus) == replicas


def test_tensor_parallelism_divides_the_heads_and_leaves_few_gpus_idle() -> None:
    big = model(32e9)
    assert smallest_layout(big, Gpus(per_node=3, memory=80 * GIB)).tensor == 2
    assert smallest_layout(big.model_copy(update={"heads": 28}), A100_40).tensor == 4
    assert smallest_layout(model(30e9, heads=24), Gpus(per_node=3, memory=40 * GIB)).tensor == 3
    with pytest.raises(InputError, match="does not fit"):  # 7 GPUs would do and divide the heads, but nothing else
        smallest_layout(model(80e9, heads=28), A100_40)


def test_cache_counts_as_well_as_weights() -> None:
    one = Gpus(per_node=2, memory=24 * GIB)
    assert smallest_layout(model(4e9, cache=10_000), one).tensor == 1
    assert smallest_layout(model(4e9, cache=131_072), one).tensor == 2, "eight traces of 16k would not find room"
    assert smallest_layout(model(4e9, cache=50_000, context=262_144), one).tensor == 2, "nor one of the whole context"


def test_a_presets_own_sizes_win() -> None:
    moe = model(671e9, precision="fp8", serve={"data-parallel-size": 8, "tensor-parallel-size": 1})
    assert smallest_layout(moe, H200) == Layout(data=8)
    assert smallest_layout(moe, H200).gpus == 8
    assert capacity(smallest_layout(moe, H200), H200) == 1
    only_data = model(30e9, serve={"data-parallel-size": 2})
    assert smallest_layout(only_data, H100) == Layout(data=2)


def test_advice_for_mixtures_of_experts_only() -> None:
    r1 = preset("deepseek-r1")
    assert "serve.data-parallel-size=8" in str(advice(r1, smallest_layout(r1, H200)))
    assert advice(r1, Layout(tensor=8, pipeline=2)) is None
    dense = preset("qwq-32b")
    assert advice(dense, smallest_layout(dense, H100)) is None


def test_a_model_without_a_preset_is_measured_by_its_files(tmp_path: Path, tiny: Path) -> None:
    own = Model(name="own", path=str(tiny / "teacher"), context=2048)
    assert smallest_layout(own, H100) == Layout()
    config = {"num_hidden_layers": 64, "num_attention_heads": 40, "num_key_value_heads": 8, "hidden_size": 5120}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with (tmp_path / "model.safetensors").open("wb") as weights:
        weights.truncate(65_500_000_000)  # sparse: takes no room
    assert smallest_layout(Model(name="own", path=str(tmp_path), context=32768), H100).tensor == 2
    latent = {"num_hidden_layers": 61, "num_attention_heads": 128, "hidden_size": 7168, "kv_lora_rank": 512}
    (tmp_path / "config.json").write_text(json.dumps({**latent, "qk_rope_head_dim": 64}))
    with (tmp_path / "model.safetensors").open("wb") as weights:
        weights.truncate(671_000_000_000)
    assert smallest_layout(Model(name="own", path=str(tmp_path), context=163840), H200).tensor == 8
    (tmp_path / "model.safetensors").unlink()
    assert smallest_layout(Model(name="own", path=str(tmp_path), context=4096), H200).tensor == 8, (
        "unknown: a whole node"
    )
