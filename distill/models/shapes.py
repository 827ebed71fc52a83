"""The sizes of a decoder: what a config.json says, and what follows from it by counting; no torch."""

from __future__ import annotations

import json
from typing import Any, Literal, get_args

from pydantic import Field, ValidationError

from distill.errors import InputError, from_validation
from distill.models.hub_files import fetch
from distill.types import Record

Architecture = Literal["qwen2", "qwen3", "llama"]


class Shape(Record):
    """A dense decoder with grouped-query attention and a gated MLP; fields are named as in config.json."""

    model_type: Architecture
    """Architecture of the decoder, by the name that transformers has for it."""
    hidden_size: int = Field(ge=1)
    """Width of the residual stream."""
    intermediate_size: int = Field(ge=1)
    """Width of the MLP."""
    num_hidden_layers: int = Field(ge=1)
    """Number of decoder layers."""
    num_attention_heads: int = Field(ge=1)
    """Number of attention heads of a layer."""
    num_key_value_heads: int = Field(ge=1)
    """Number of key-value heads of a layer, each shared by several attention heads."""
    head_dim: int = Field(ge=1)
    """Width of an attention head."""
    vocab_size: int = Field(ge=1)
    """Rows of the embedding, padding included; the tokenizer may have fewer."""
    tie_word_embeddings: bool
    """Whether the output head is the embedding."""
    max_position_embeddings: int = Field(ge=1)
    """Context in tokens that the published weights were trained for."""
    rope_theta: float
    """Base of the rotary frequencies."""
    rope_scaling: dict[str, object] | None = None
    """Scaling of the rotary positions as published, such as Llama 3.1's; None for plain positions."""
    attention_bias: bool = False
    """Whether q, k, v and o have biases in `llama` and `qwen3`; `qwen2` always has those of q, k and v."""
    mlp_bias: bool = False
    """Whether the MLP's three layers have biases; `llama` only."""

    @property
    def layer_parameters(self) -> int:
        """Parameters of one decoder layer: attention, MLP and both norms."""
        queries = self.num_attention_heads * self.head_dim
        keys = self.num_key_value_heads * self.head_dim
        attention = self.hidden_size * (2 * queries + 2 * keys)
        if self.model_type == "qwen2":
            attention += queries + 2 * keys
        elif self.attention_bias:
            attention += queries + 2 * keys + self.hidden_size
        if self.model_type == "qwen3":  # norms of q and k, one weight per head dimension
            attention += 2 * self.head_dim
        mlp = 3 * self.hidden_size * self.intermediate_size
        if self.model_type == "llama" and self.mlp_bias:
            mlp += 2 * self.intermediate_size + self.hidden_size
        return attention + mlp + 2 * self.hidden_size

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the embedding alone, or of the head alone."""
        return self.vocab_size * self.hidden_size

    @property
    def parameters(self) -> int:
        """Parameters of the whole model, as transformers builds it."""
        tables = self.embedding_parameters * (1 if self.tie_word_embeddings else 2)
        return tables + self.num_hidden_layers * self.layer_parameters + self.hidden_size


_NEEDED = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "vocab_size",
    "max_position_embeddings",
)


def of_config(config: dict[str, Any], where: str) -> Shape:
    """The shape that a config.json describes, in transformers 4's or 5's spelling.

    Raises:
        InputError: another architecture, or a size is missing or no positive number.
    """
    model_type = config.get("model_type")
    if model_type not in get_args(Architecture):
        raise InputError(
            f"model_type {model_type!r} is not one that distill knows the sizes of",
            where=where,
            fix=f"use a student of one of these: {', '.join(get_args(Architecture))}",
        )
    missing = [name for name in _NEEDED if not isinstance(config.get(name), int) or config[name] < 1]
    if missing:
        raise InputError(f"its config.json gives no size for {', '.join(missing)}", where=where)
    heads = config["num_attention_heads"]
    rope = config.get("rope_parameters") or {}
    scaling = config.get("rope_scaling") or {name: value for name, value in rope.items() if name != "rope_theta"}
    if scaling.get("rope_type", scaling.get("type", "default")) == "default":  # `type` is the older spelling
        scaling = None
    facts = {
        **{name: config[name] for name in _NEEDED},
        "model_type": model_type,
        "num_key_value_heads": config.get("num_key_value_heads") or heads,
        # what a config.json leaves out is transformers' default, as are the three below
        "head_dim": config.get("head_dim") or (128 if model_type == "qwen3" else config["hidden_size"] // heads),
        "tie_word_embeddings": config.get("tie_word_embeddings", False),
        "attention_bias": config.get("attention_bias", False),
        "mlp_bias": config.get("mlp_bias", False),
        "rope_theta": config.get("rope_theta") or rope.get("rope_theta", 10000.0),
        "rope_scaling": scaling,
    }
    try:
        return Shape.model_validate(facts)
    except ValidationError as error:
        raise from_validation(error, f"{where}: config.json") from error


def of_model(model: str, revision: str | None = None) -> Shape:
    """The shape of a local folder or a Hub repository.

    Raises:
        InputError: no config.json, an unreadable one, or one of another architecture.
    """
    path = fetch(model, "config.json", revision)
    if path is None:
        raise InputError("has no config.json", where=model, fix="give a preset, a Hub id or a model folder")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"its config.json is not JSON: {error}", where=model) from error
    if not isinstance(config, dict):
        raise InputError("its config.json holds no object", where=model)
    return of_config(config, model)
