"""Steps, hours and cost of a training job, from its tokens and an assumed share of the GPUs' peak speed."""

from __future__ import annotations

import math

from distill.errors import InputError, suggest
from distill.models.shapes import Shape
from distill.planning.setup import Setup
from distill.types import Record

PEAK = {
    "A10": 125.0,
    "A100": 312.0,
    "B200": 2250.0,
    "H100": 989.0,
    "H200": 989.0,
    "L4": 121.0,
    "L40S": 362.0,
    "MI300X": 1307.0,
}
"""Dense bf16 TFLOP/s by the makers' data sheets, the SXM form where there are several; sparsity not counted."""
MFU = 0.35
"""Model FLOPs utilisation that is assumed: of the peak, what goes into the model's own products, recomputation by
checkpointing not counted. A guess for packed rows in one node; unpacked rows, slow links between nodes and offloading
lower it, so give your own figure once a run has shown it."""


class Duration(Record):
    """What a training job takes in steps, time and money."""

    rows: int
    """Rows per epoch."""
    steps: int
    """Optimizer steps over all epochs."""
    tokens: float
    """Tokens over all epochs."""
    hours: float | None
    """Hours that training takes; None where the GPU's peak is not known."""
    cost: float | None
    """Cost in the currency of the price; None without one."""


def flops_per_token(shape: Shape, length: float, method: str = "full") -> float:
    """Model FLOPs to train on one token in documents of `length` tokens.

    6 per weight that multiplies (2 forward, 2 for the gradient of its input, 2 for its own, which frozen weights do not
    need: 4), the embedding being a look-up; and for causal attention 2 · 2 · length / 2 multiply-adds per query width
    and layer, three times: 6 · L · q · length (PaLM, arXiv:2204.02311, appendix B, halved as half of it is masked).
    """
    multiplied = shape.num_hidden_layers * shape.layer_parameters + shape.embedding_parameters
    width = shape.num_attention_heads * shape.head_dim
    weights = (6.0 if method == "full" else 4.0) * multiplied
    return weights + 6.0 * shape.num_hidden_layers * width * length


def peak(gpu: str) -> float:
    """FLOP/s of a GPU by name, dense bf16.

    Raises:
        InputError: the name is not known.
    """
    speed_of = {name.lower(): speed for name, speed in PEAK.items()}
    if gpu.lower() not in speed_of:
        raise InputError(f"the speed of a {gpu!r} is not known", where="--gpu", fix=suggest(gpu, PEAK))
    return speed_of[gpu.lower()] * 1e12


def duration(
    shape: Shape,
    setup: Setup,
    *,
    tokens: float,
    epochs: float,
    rows: int | None = None,
    gpu: str | None = None,
    mfu: float = MFU,
    price: float | None = None,
) -> Duration:
    """How long `epochs` passes over `tokens` take.

    Args:
        rows: documents of the set; None where rows are packed to `max_length`.
        gpu: a name in `PEAK`; without it hours are not known.
        price: of one GPU and hour.
    """
    rows_per_epoch = math.ceil(tokens / setup.max_length) if rows is None else rows
    steps = math.ceil(math.ceil(rows_per_epoch / setup.batch) * epochs)
    length = min(tokens / rows, setup.max_length) if rows else setup.max_length
    hours = None
    cost = None
    if gpu is not None:
        flops = flops_per_token(shape, length, setup.method) * tokens * epochs
        hours = flops / (peak(gpu) * mfu * setup.processes) / 3600
        if price is not None:
            cost = price * hours * setup.processes
    return Duration(
        rows=rows_per_epoch,
        steps=steps,
        tokens=tokens * epochs,
        hours=hours,
        cost=cost,
    )
