"""What a training job holds in the memory of one GPU, and of one node where it offloads: bytes, from sizes alone.

Counted as the software at hand allocates it: torch 2.13 autocast, transformers 5.19 layers under gradient
checkpointing, TRL 1.16's fused head, DeepSpeed 0.19 (`runtime/zero/stage3.py`, `stage_1_and_2.py`). P is all
parameters, T the trained ones, N the processes that share them, s the tokens of a micro batch on one GPU, h, f, q, k
the widths of the residual stream, the MLP, all query heads and all key heads, V the vocabulary.
"""

from __future__ import annotations

from distill.models.shapes import Shape
from distill.planning.setup import Setup
from distill.types import Record

GIB = 2**30
ALLOWANCE = 2.0 * GIB
"""CUDA context, cuBLAS workspaces and NCCL channels of one process: an allowance, not a measurement."""
NF4 = 0.5 + (1 / 64 + 4 / (64 * 256))
"""Bytes per weight: 4 bits, an 8-bit scale per 64 weights and a 32-bit one per 256 scales (QLoRA, arXiv:2305.14314,
section 3: double quantization)."""
ADAM, ADAM_8BIT = 8.0, 2 * (1 + 4 / 256)
"""Bytes per trained parameter: two fp32 moments; two 8-bit ones with an fp32 scale per 256 (bitsandbytes' blocks)."""
SUB_GROUP = 10**9
"""Parameters that ZeRO-3 updates at a time (`sub_group_size`); also the most that it keeps gathered
(`stage3_max_live_parameters`). DeepSpeed's own defaults, written into the files of `files.py`."""
_TILE = (4096, 32768)
"""Tokens and vocabulary entries whose logits TRL's fused head holds at once (trl/kernels/chunked_logprob.py)."""
_FULL_LOGITS = 14
"""Bytes per logit without a fused head, as transformers computes the loss: bf16 logits, the fp32 log-softmax that the
backward pass needs, and two fp32 gradients."""


class Memory(Record):
    """Bytes per GPU by part, at its fullest."""

    weights: float
    gradients: float
    optimizer: float
    """Moments and, with DeepSpeed, the fp32 weights."""
    update: float
    """What the optimizer step needs besides: fp32 gradients, while activations are gone."""
    kept: float
    """Activations from the forward to the backward pass: one hidden state per layer with checkpointing."""
    layer: float
    """Activations of the one layer at work in the backward pass."""
    logits: float
    """What the head and the loss need, while no layer is at work."""
    casts: float
    """What autocast makes of fp32 weights, until the forward pass ends."""
    buffers: float
    """Gathered weights, communication buckets, the attention mask, and `ALLOWANCE`."""
    host: float = 0.0
    """Bytes per node."""

    @property
    def states(self) -> float:
        return self.weights + self.gradients + self.optimizer

    @property
    def activations(self) -> float:
        return self.kept + self.layer

    @property
    def peak(self) -> float:
        """The fullest moment: at the end of the forward pass, at the head, in the backward pass or in the update."""
        passes = self.kept + max(self.casts, self.logits, self.layer)
        return self.states + self.buffers + max(passes, self.update)


def memory(
    shape: Shape, setup: Setup, *, rank: int = 64, flash: bool = True, packed: bool = True, fused: bool = True
) -> Memory:
    """Bytes that `setup` takes for a model of `shape`, with rows of full length.

    Args:
        rank: of LoRA adapters, on all linear layers of the decoder.
        flash: flash-attention; without it packed or padded rows need a mask of s × s.
        packed: rows hold several documents.
        fused: TRL's head, which never holds all logits; False to compare with trainers that do.
    """
    trained = adapters(shape, rank) if setup.method != "full" else shape.parameters
    weights, gradients, optimizer, update = _states(shape, setup, trained)
    tokens = setup.micro_batch * setup.max_length / setup.sequence_parallel
    kept, layer = _activations(shape, setup, tokens)
    mask = 0.0
    if not flash and (packed or setup.micro_batch > 1):  # a bool mask, and the bf16 one that the kernel makes of it
        mask = 3.0 * setup.micro_batch * setup.max_length**2
    return Memory(
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        update=update,
        kept=kept,
        layer=layer,
        logits=_head(shape, setup, tokens, fused),
        casts=2.0 * trained if setup.method == "full" and not setup.zero else 0.0,
        buffers=_buffers(shape, setup, trained) + mask,
        host=_host(shape, setup, trained),
    )


def adapters(shape: Shape, rank: int) -> int:
    """Parameters of LoRA on every linear layer of the decoder: rank · (in + out) each."""
    h, f = shape.hidden_size, shape.intermediate_size
    q, k = _widths(shape)
    ends = 2 * (h + q) + 2 * (h + k) + 3 * (h + f)
    return shape.num_hidden_layers * rank * ends


def _widths(shape: Shape) -> tuple[int, int]:
    return shape.num_attention_heads * shape.head_dim, shape.num_key_value_heads * shape.head_dim


def _frozen(shape: Shape, setup: Setup) -> float:
    """Bytes of weights that are not trained, on all GPUs together: bf16, or NF4 inside the decoder layers."""
    if setup.method == "full":
        return 0.0
    if setup.method == "lora":
        return 2.0 * shape.parameters
    layers = shape.num_hidden_layers * shape.layer_parameters
    return NF4 * layers + 2.0 * (shape.parameters - layers)


def _states(shape: Shape, setup: Setup, trained: int) -> tuple[float, float, float, float]:
    """Weights, gradients, optimizer, and what its step needs besides; bytes per GPU.

    Without DeepSpeed everything that is trained is fp32, 4 + 4 + 8 bytes. With it, bf16 weights and gradients (fp32
    ones where they are summed over several passes, see `files.py`), fp32 weights and moments: 2 + 2 + 12, of which
    ZeRO-2 divides all but the weights by N and ZeRO-3 all. Its step lays the gradients flat and casts them to fp32
    (2 + 4), ZeRO-3 one `SUB_GROUP` at a time; ZeRO-2 adds the newest gradients to their sum there (2 + 4).
    """
    moments = ADAM if setup.optimizer == "adamw" else ADAM_8BIT
    if not setup.zero:
        return 4.0 * trained + _frozen(shape, setup), 4.0 * trained, moments * trained, 0.0
    share = trained / setup.processes
    weights = 2.0 * share if setup.zero == 3 else 2.0 * trained
    weights += _frozen(shape, setup) / (setup.processes if setup.zero == 3 else 1)
    if setup.offload:
        return 0.0 if setup.zero == 3 else weights, 0.0, 0.0, 0.0
    at_once = min(share, SUB_GROUP) if setup.zero == 3 else share
    return weights, (4.0 if setup.accumulation > 1 else 2.0) * share, (4.0 + moments) * share, 6.0 * at_once


def _activations(shape: Shape, setup: Setup, tokens: float) -> tuple[float, float]:
    """Bytes that stay until the backward pass, and bytes of the layer at work.

    The residual stream is bf16 under DeepSpeed and fp32 under autocast over fp32 weights. A layer saves, per token: at
    its two RMS norms 16h (the input in fp32, normalised and scaled in bf16), or under autocast 26h (the first two in
    fp32, and a bf16 cast for each of the five products that read them); q, k, v and the attention's output (4q + 4k);
    gate, its silu, up and their product (8f). Its backward pass holds up to 4f and two streams of gradients besides.
    The last norm is in no layer and stays. Attention itself is computed in tiles (flash-attention, or sdpa without a
    mask), so nothing grows with the square of the length. Checked against autograd's saved tensors in
    tests/planning/test_measured.py.
    """
    h, f = shape.hidden_size, shape.intermediate_size
    q, k = _widths(shape)
    stream = 2 if setup.zero or setup.method != "full" else 4
    saved = (16 if stream == 2 else 26) * h + 4 * (q + k) + 8 * f
    per_layer = stream * h if setup.checkpointing else saved
    last = (6 if stream == 2 else 8) * h
    exchanged = 4 * (q + k) if setup.sequence_parallel > 1 else 0  # what goes in and out of the all-to-all
    kept = tokens * (shape.num_hidden_layers * per_layer + last)
    working = saved if setup.checkpointing else 0
    return kept, tokens * (working + 4 * f + 2 * stream * h + exchanged)


def _head(shape: Shape, setup: Setup, tokens: float, fused: bool) -> float:
    """Bytes that the output head and the loss hold in the backward pass.

    TRL's head goes over tiles of logits, twice, and keeps fp32 sums of the gradients: of the hidden states
    (4 · s · h, with the states and the result in bf16 beside it) and, where the head is trained, of its weight
    (4 · V · h and the result in the weight's own format). Without it there are s · V logits in several copies. ZeRO-3
    gathers the weight in bf16 for it, and both stages copy its gradient, larger than any bucket, to send it.
    """
    trained, table = setup.method == "full", shape.embedding_parameters
    held = 2.0 * table if setup.zero == 3 else 0.0
    if trained:
        held += table * (2 + 2 if setup.zero else 4)
    if not fused:
        return held + _FULL_LOGITS * tokens * shape.vocab_size
    tile = 2 * min(tokens, _TILE[0]) * _TILE[1]
    return held + (4.0 * table if trained else 0.0) + 8.0 * tokens * shape.hidden_size + tile


def _buffers(shape: Shape, setup: Setup, trained: int) -> float:
    """Bytes besides states and activations.

    The layer at work has its own bf16 casts under autocast. DDP holds a second copy of the gradients in its buckets
    (`gradient_as_bucket_view` is off in accelerate). ZeRO-3 keeps up to `SUB_GROUP` parameters gathered in bf16. Both
    stages hold the bf16 gradients of the layer at work until they are reduced and a copy of what they send, and
    buckets of h² elements.
    """
    total = 0.0 if setup.cpu else ALLOWANCE
    if not setup.zero:
        total += 2.0 * shape.layer_parameters if setup.method == "full" else 0.0
        return total + (4.0 * trained if setup.strategy == "ddp" else 0.0)
    if setup.zero == 3:
        total += 2.0 * min(shape.parameters, SUB_GROUP)
    if setup.method == "full":
        total += 2.0 * 2 * shape.layer_parameters
    return total + 2.0 * 2 * shape.hidden_size**2


def _host(shape: Shape, setup: Setup, trained: int) -> float:
    """Bytes per node for offloading: fp32 weights, moments and gradients (16), and bf16 gradients and weights (4)."""
    if not setup.offload:
        return 0.0
    frozen = _frozen(shape, setup) if setup.zero == 3 else 0.0
    return (20.0 * trained + frozen) / setup.nodes
