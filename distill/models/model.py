"""What a model is to those who sample it: the facts that every backend needs."""

from __future__ import annotations

from typing import Literal

from distill.models.reasoning import Tags
from distill.types import Record, Sampling

Precision = Literal["fp32", "bf16", "fp16", "fp8", "int8", "int4"]


class Model(Record):
    """A model to sample from: facts that every backend needs. Presets and trained students both become one."""

    name: str
    path: str
    """Local folder or Hub id; empty for a model that only its API knows."""
    revision: str | None = None
    """Hub commit, or the fingerprint of a local folder's weights."""
    parameters: float | None = None
    """Total parameter count; None when unknown."""
    active: float | None = None
    """Parameters used per token by a mixture of experts; None for a dense model."""
    precision: Precision | None = None
    """Number format of the weights; None: as config.json says, else bf16."""
    heads: int | None = None
    """Attention heads: tensor parallelism must divide them. None: as config.json says."""
    kv_heads: int | None = None
    """Key-value heads that tensor parallelism can share out; 1 for latent attention, which every GPU holds whole. None:
    as config.json says."""
    cache: int | None = None
    """Bytes of key-value cache per token of context, in bf16. None: as config.json says."""
    context: int
    """Longest prompt + completion, tokens."""
    tags: Tags = Tags()
    sampling: Sampling = Sampling()
    """What the model's authors advise."""
    template: str | None = None
    """A chat template that replaces the model's own."""
    serve: dict[str, object] = {}
    """Arguments of `vllm serve`, by name without dashes (`tensor-parallel-size: 8`); true stands for a bare flag."""
