"""Sizes by counting: against the weights on disk, and against what transformers builds."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from distill.errors import InputError
from distill.models import shapes
from distill.models.shapes import Shape

QWEN: dict[str, Any] = {
    "model_type": "qwen2",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "max_position_embeddings": 4096,
}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}


def weights(model: Path) -> int:
    """How many numbers a safetensors file holds, by its header."""
    with (model / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")


@pytest.mark.parametrize("role", ["base", "teacher"])
def test_the_count_is_what_the_file_holds(tiny: Path, role: str) -> None:
    found = shapes.of_model(str(tiny / role))
    assert found.parameters == weights(tiny / role)
    assert found.tie_word_embeddings


@pytest.mark.slow
@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"tie_word_embeddings": True, "head_dim": 16},
        {"model_type": "qwen3", "head_dim": 48},
        {"model_type": "qwen3", "attention_bias": True},
        {"model_type": "llama", "head_dim": 24, "num_key_value_heads": 1},
        {"model_type": "llama", "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
        {"model_type": "llama", "num_key_value_heads": None},
    ],
)
def test_the_count_is_what_transformers_builds(facts: dict[str, Any]) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = {**QWEN, **facts}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    assert shapes.of_config(config, "x").parameters == sum(p.numel() for p in model.parameters())


def test_both_spellings_of_rope_are_read() -> None:
    older = shapes.of_config({**QWEN, "rope_theta": 5e5, "rope_scaling": LLAMA3}, "x")
    newer = shapes.of_config({**QWEN, "rope_parameters": {**LLAMA3, "rope_theta": 5e5}}, "x")
    assert older == newer
    assert (older.rope_theta, older.rope_scaling) == (5e5, LLAMA3)
    oldest = {"type": "yarn", "factor": 4.0}
    assert shapes.of_config({**QWEN, "rope_scaling": oldest}, "x").rope_scaling == oldest
    plain = shapes.of_config({**QWEN, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}, "x")
    assert (plain.rope_theta, plain.rope_scaling) == (1e6, None)


def test_what_is_left_out_is_transformers_default() -> None:
    assert shapes.of_config(QWEN, "x").head_dim == 16
    assert shapes.of_config({**QWEN, "model_type": "qwen3"}, "x").head_dim == 128
    assert not shapes.of_config(QWEN, "x").tie_word_embeddings
    assert shapes.of_config({**QWEN, "num_key_value_heads": None}, "x").num_key_value_heads == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "qwen3_moe"}, r"mine: model_type 'qwen3_moe'[\s\S]*qwen2, qwen3, llama"),
        ({"model_type": None}, "model_type None"),
        (
            {"hidden_size": None, "vocab_size": "many"},
            r"mine: its config\.json gives no size for hidden_size, vocab",
        ),
        ({"num_attention_heads": 0}, "no size for num_attention_heads"),
        ({"head_dim": "wide"}, r"mine: config\.json: head_dim: .*'wide'"),
    ],
)
def test_a_config_that_cannot_be_counted_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        shapes.of_config({**QWEN, **change}, "mine")


@pytest.mark.parametrize(
    ("text", "message"), [("{", "is not JSON"), ("[1]", "holds no object"), (None, "has no config")]
)
def test_a_folder_without_a_readable_config_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=message):
        shapes.of_model(str(tmp_path))


def test_a_shape_holds_only_what_it_knows() -> None:
    with pytest.raises(ValueError, match="hidden_sise"):
        Shape.model_validate({**shapes.of_config(QWEN, "x").model_dump(), "hidden_sise": 3})
