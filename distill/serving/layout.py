"""How many GPUs one replica of a model takes, and how it is cut among them.

The rule is vLLM's own advice (its guide "Parallelism and Scaling"): tensor parallelism as far as one node needs it,
then pipeline parallelism over nodes. A replica is as small as it can be, and further GPUs hold further replicas, since
independent replicas of a dense model scale without talking to each other.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from distill.errors import InputError
from distill.models.hub_files import fetch
from distill.models.model import Model
from distill.types import Record

BYTES_PER_PARAMETER = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0, "int4": 0.5}
"""Bytes that one parameter takes, by the number format of the weights."""
MIN_CACHE_TOKENS = 131_072
"""Tokens of cache that a replica should have room for at least: eight traces of 16k. With fewer at once a large model
spends its time on reading weights."""
SMALL = 2e9
"""Parameters up to which a CPU is worth trying."""
_UTILISATION = 0.9  # of a GPU's memory; vLLM's default was 0.9 and is 0.92 in 0.32
_OVERHEAD = 3e9  # bytes per GPU for activations, CUDA graphs and NCCL: an allowance, not a measurement


class Gpus(Record):
    """What a replica may be placed on."""

    per_node: int
    memory: float
    """Bytes of one GPU, the smallest."""
    nodes: int = 1


class Layout(Record):
    """Parallel sizes of one replica."""

    tensor: int = 1
    pipeline: int = 1
    data: int = 1

    @property
    def gpus(self) -> int:
        return self.tensor * self.pipeline * self.data

    @property
    def description(self) -> str:
        sizes = {"tensor": self.tensor, "pipeline": self.pipeline, "data": self.data}
        return " × ".join(f"{name} {size}" for name, size in sizes.items() if size > 1) or "one GPU"

    def nodes(self, per_node: int) -> int:
        return -(-self.gpus // per_node)

    def arguments(self) -> dict[str, object]:
        """What `vllm serve` needs to be told."""
        sizes = {"tensor": self.tensor, "pipeline": self.pipeline, "data": self.data}
        return {f"{name}-parallel-size": size for name, size in sizes.items() if size > 1}


class _Facts(Record):
    """What decides how a model can be cut; None where neither the preset nor the model's files say."""

    weights: float | None
    heads: int | None
    kv_heads: int | None
    cache: int | None


def smallest_layout(model: Model, gpus: Gpus) -> Layout:
    """The smallest layout that holds the weights and cache for `MIN_CACHE_TOKENS` or one full context.

    A preset's own sizes win.

    Raises:
        InputError: these GPUs cannot hold the model; says how much it takes.
    """
    preset_sizes = {name: model.serve.get(f"{name}-parallel-size") for name in ("tensor", "pipeline", "data")}
    sizes = {name: int(size) for name, size in preset_sizes.items() if isinstance(size, int | float | str)}
    if "tensor" in sizes or "pipeline" in sizes:
        return Layout(**sizes)
    facts = _facts(model)
    tensors = [t for t in range(1, gpus.per_node + 1) if (facts.heads or t) % t == 0 and _even(t, gpus.per_node)]
    if facts.weights is None:
        return Layout(tensor=tensors[-1], **sizes)  # unknown size: a whole node's GPUs
    cuts = [Layout(tensor=t, **sizes) for t in tensors]
    cuts += [Layout(tensor=tensors[-1], pipeline=p, **sizes) for p in range(2, gpus.nodes + 1)]
    usable = gpus.memory * _UTILISATION - _OVERHEAD
    for cut in cuts:
        if _bytes_per_gpu(facts, cut, model.context) <= usable and _placeable(cut, gpus):
            return cut
    available = f"{gpus.per_node} × {gpus.memory / 1e9:.0f} GB"
    if gpus.nodes > 1:
        available = f"{gpus.nodes} × {available}"
    cache = (facts.cache or 0) * max(MIN_CACHE_TOKENS, model.context)
    raise InputError(
        f"{model.name} does not fit on {available}: its weights take {facts.weights / 1e9:,.0f} GB, "
        f"its cache {cache / 1e9:,.1f} GB",
        fix="serve it on more or larger GPUs; over several machines with `--on ray` or `--on slurm`",
    )


def advice(model: Model, layout: Layout) -> str | None:
    """What else is worth trying for this kind of model.

    vLLM's recipe for DeepSeek-R1 on 8 × H200 gives both ways, tensor and data parallel attention over shared experts,
    and prefers the second at high load: latent attention keeps the whole cache on every tensor-parallel GPU.
    """
    if model.active is None or layout.data > 1 or layout.pipeline > 1 or layout.tensor == 1:
        return None
    size = layout.tensor
    return (
        "a mixture of experts: with many requests in flight, attention by data parallelism may sample more; compare "
        f"with --set serve.tensor-parallel-size=1 --set serve.data-parallel-size={size}"
    )


def capacity(layout: Layout, gpus: Gpus) -> int:
    """Replicas that the GPUs hold."""
    if layout.gpus <= gpus.per_node:
        return gpus.per_node // layout.gpus * gpus.nodes
    return gpus.nodes // layout.nodes(gpus.per_node)


def _even(tensor: int, per_node: int) -> bool:
    """Whether the model's other sizes will divide too and few GPUs stay idle: a power of 2, or a share of a node."""
    return tensor & (tensor - 1) == 0 or per_node % tensor == 0


def _placeable(cut: Layout, gpus: Gpus) -> bool:
    return cut.tensor * cut.data <= gpus.per_node


def _bytes_per_gpu(facts: _Facts, cut: Layout, context: int) -> float:
    """What the weights and the cache take of each GPU."""
    cache_shards = min(cut.tensor, facts.kv_heads or cut.tensor) * cut.pipeline * cut.data
    return (facts.weights or 0) / cut.gpus + (facts.cache or 0) * max(MIN_CACHE_TOKENS, context) / cache_shards


def _facts(model: Model) -> _Facts:
    """Read the facts from the preset and, where it leaves them out, from the model's own files."""
    if model.parameters and model.heads and model.kv_heads and model.cache:
        weights = model.parameters * BYTES_PER_PARAMETER[model.precision or "bf16"]
        return _Facts(weights=weights, heads=model.heads, kv_heads=model.kv_heads, cache=model.cache)
    config_path = fetch(model.path, "config.json", model.revision if not Path(model.path).is_dir() else None)
    config: dict[str, Any] = json.loads(config_path.read_text()) if config_path else {}
    config = config.get("text_config", config)
    layers = config.get("num_hidden_layers")
    heads = config.get("num_attention_heads")
    if not layers or not heads:
        return _Facts(weights=_weights(model), heads=model.heads, kv_heads=model.kv_heads, cache=model.cache)
    if "kv_lora_rank" in config:  # latent attention (DeepSeek-V2 and later): one vector per layer, for all heads
        kv_heads = 1
        cache = layers * (config["kv_lora_rank"] + config["qk_rope_head_dim"]) * 2
    else:
        kv_heads = config.get("num_key_value_heads") or heads
        cache = layers * kv_heads * (config.get("head_dim") or config["hidden_size"] // heads) * 2 * 2
    return _Facts(
        weights=_weights(model),
        heads=model.heads or heads,
        kv_heads=model.kv_heads or kv_heads,
        cache=model.cache or cache,
    )


def _weights(model: Model) -> float | None:
    """Bytes of the weights: as the preset says, or as large as the files are."""
    if model.parameters and (model.precision or not Path(model.path).is_dir()):
        return model.parameters * BYTES_PER_PARAMETER[model.precision or "bf16"]
    if Path(model.path).is_dir():
        return float(sum(file.stat().st_size for file in Path(model.path).glob("*.safetensors"))) or None
    index = fetch(model.path, "model.safetensors.index.json", model.revision)
    if not index:
        return None
    total_size = json.loads(index.read_text()).get("metadata", {}).get("total_size")
    return float(total_size) if total_size else None
