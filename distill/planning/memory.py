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
ADAM = 8.0
"""Bytes per trained parameter: two fp32 moments."""
ADAM_8BIT = 2 * (1 + 4 / 256)
"""Bytes per trained parameter: two 8-bit moments with an fp32 scale per 256 (bitsandbytes' blocks)."""
SUB_GROUP = 10**9
"""Parameters that ZeRO-3 updates at a time (`sub_group_size`); also the most that it keeps gathered
(`stage3_max_live_parameters`). DeepSpeed's own defaults, written into the files of `files.py`."""
_LOGITS_TILE = (4096, 32768)
"""Tokens and vocabulary entries whose logits TRL's fused head holds at once (trl/kernels/chunked_logprob.py)."""
_BYTES_PER_LOGIT = 14
"""Bytes per logit without a fused head, as transformers computes the loss: bf16 logits, the fp32 log-softmax that the
backward pass needs, and two fp32 gradients."""


class Memory(Record):
    """Bytes per GPU by part, at its fullest."""

    weights: float
    gradients: float
    optimizer: float
    """Bytes of the moments and, with DeepSpeed, the fp32 weights."""
    update: float
    """What the optimizer step needs besides its moments: fp32 gradients, while activations are gone."""
    saved_activations: float
    """Activations from the forward to the backward pass: one hidden state per layer with checkpointing."""
    layer_activations: float
    """Activations of the one layer at work in the backward pass."""
    logits: float
    """What the head and the loss need, while no layer is at work."""
    casts: float
    """What autocast makes of fp32 weights, until the forward pass ends."""
    buffers: float
    """Gathered weights, communication buckets, the attention mask, and `ALLOWANCE`."""
    host: float = 0.0
    """Bytes of a node's own memory, where states are offloaded to it."""

    @property
    def states(self) -> float:
        return self.weights + self.gradients + self.optimizer

    @property
    def activations(self) -> float:
        return self.saved_activations + self.layer_activations

    @property
    def peak(self) -> float:
        """The fullest moment: at the end of the forward pass, at the head, in the backward pass or in the update."""
        passes = self.saved_activations + max(self.casts, self.logits, self.layer_activations)
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
    trained = shape.parameters if setup.method == "full" else adapter_parameters(shape, rank)
    weights, gradients, optimizer, update = _state_bytes(shape, setup, trained)
    tokens = setup.micro_batch * setup.max_length / setup.sequence_parallel
    saved, layer = _activation_bytes(shape, setup, tokens)
    mask = 0.0
    if not flash and (packed or setup.micro_batch > 1):  # a bool mask, and the bf16 one that the kernel makes of it
        mask = 3.0 * setup.micro_batch * setup.max_length**2
    return Memory(
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        update=update,
        saved_activations=saved,
        layer_activations=layer,
        logits=_head_bytes(shape, setup, tokens, fused),
        casts=2.0 * trained if setup.method == "full" and not setup.zero else 0.0,
        buffers=_buffer_bytes(shape, setup, trained) + mask,
        host=_host_bytes(shape, setup, trained),
    )


def adapter_parameters(shape: Shape, rank: int) -> int:
    """Parameters of LoRA on every linear layer of the decoder: rank · (in + out) each."""
    h = shape.hidden_size
    f = shape.intermediate_size
    q, k = _attention_widths(shape)
    ends = 2 * (h + q) + 2 * (h + k) + 3 * (h + f)
    return shape.num_hidden_layers * rank * ends


def _attention_widths(shape: Shape) -> tuple[int, int]:
    """Widths of all query heads and of all key heads."""
    return shape.num_attention_heads * shape.head_dim, shape.num_key_value_heads * shape.head_dim


def _frozen_bytes(shape: Shape, setup: Setup) -> float:
    """Bytes of weights that are not trained, on all GPUs together: bf16, or NF4 inside the decoder layers."""
    if setup.method == "full":
        return 0.0
    if setup.method == "lora":
        return 2.0 * shape.parameters
    layers = shape.num_hidden_layers * shape.layer_parameters
    return NF4 * layers + 2.0 * (shape.parameters - layers)


def _state_bytes(shape: Shape, setup: Setup, trained: int) -> tuple[float, float, float, float]:
    """Weights, gradients, optimizer, and what its step needs besides; bytes per GPU.

    Without DeepSpeed everything that is trained is fp32, 4 + 4 + 8 bytes. With it, bf16 weights and gradients (fp32
    ones where they are summed over several passes, see `files.py`), fp32 weights and moments: 2 + 2 + 12, of which
    ZeRO-2 divides all but the weights by N and ZeRO-3 all. Its step lays the gradients flat and casts them to fp32
    (2 + 4), ZeRO-3 one `SUB_GROUP` at a time; ZeRO-2 adds the newest gradients to their sum there (2 + 4).
    """
    moments = ADAM if setup.optimizer == "adamw" else ADAM_8BIT
    if not setup.zero:
        return 4.0 * trained + _frozen_bytes(shape, setup), 4.0 * trained, moments * trained, 0.0
    share = trained / setup.processes
    if setup.zero == 3:
        weights = 2.0 * share + _frozen_bytes(shape, setup) / setup.processes
        updated = min(share, SUB_GROUP)
    else:
        weights = 2.0 * trained + _frozen_bytes(shape, setup)
        updated = share
    if setup.offload:
        weights = 0.0 if setup.zero == 3 else weights
        return weights, 0.0, 0.0, 0.0
    bytes_per_gradient = 4.0 if setup.accumulation > 1 else 2.0
    return weights, bytes_per_gradient * share, (4.0 + moments) * share, 6.0 * updated


def _activation_bytes(shape: Shape, setup: Setup, tokens: float) -> tuple[float, float]:
    """Bytes that stay until the backward pass, and bytes of the layer at work.

    The residual stream is bf16 under DeepSpeed and fp32 under autocast over fp32 weights. A layer saves, per token: at
    its two RMS norms 16h (the input in fp32, normalised and scaled in bf16), or under autocast 26h (the first two in
    fp32, and a bf16 cast for each of the five products that read them); q, k, v and the attention's output (4q + 4k);
    gate, its silu, up and their product (8f). Its backward pass holds up to 4f and two streams of gradients besides.
    The last norm is in no layer and stays. Attention itself is computed in tiles (flash-attention, or sdpa without a
    mask), so nothing grows with the square of the length. Checked against autograd's saved tensors in
    tests/planning/test_measured.py.
    """
    h = shape.hidden_size
    f = shape.intermediate_size
    q, k = _attention_widths(shape)
    if setup.zero or setup.method != "full":  # bf16
        stream = 2
        norms = 16
        last_norm = 6
    else:
        stream = 4
        norms = 26
        last_norm = 8
    layer = norms * h + 4 * (q + k) + 8 * f
    if setup.checkpointing:
        saved_per_layer = stream * h
        recomputed = layer
    else:
        saved_per_layer = layer
        recomputed = 0
    all_to_all = 4 * (q + k) if setup.sequence_parallel > 1 else 0  # what goes in and out of it
    saved = tokens * (shape.num_hidden_layers * saved_per_layer + last_norm * h)
    return saved, tokens * (recomputed + 4 * f + 2 * stream * h + all_to_all)


def _head_bytes(shape: Shape, setup: Setup, tokens: float, fused: bool) -> float:
    """Bytes that the output head and the loss hold in the backward pass.

    TRL's head goes over tiles of logits, twice, and keeps fp32 sums of the gradients: of the hidden states
    (4 · s · h, with the states and the result in bf16 beside it) and, where the head is trained, of its weight
    (4 · V · h and the result in the weight's own format). Without it there are s · V logits in several copies. ZeRO-3
    gathers the weight in bf16 for it, and both stages copy its gradient, larger than any bucket, to send it.
    """
    trained = setup.method == "full"
    head_parameters = shape.embedding_parameters
    total = 2.0 * head_parameters if setup.zero == 3 else 0.0
    if trained:
        total += head_parameters * 4  # with DeepSpeed in two copies of bf16
    if not fused:
        return total + _BYTES_PER_LOGIT * tokens * shape.vocab_size
    if trained:
        total += 4.0 * head_parameters
    tile = 2 * min(tokens, _LOGITS_TILE[0]) * _LOGITS_TILE[1]
    return total + 8.0 * tokens * shape.hidden_size + tile


def _buffer_bytes(shape: Shape, setup: Setup, trained: int) -> float:
    """Bytes besides states and activations.

    The layer at work has its own bf16 casts under autocast. DDP holds a second copy of the gradients in its buckets
    (`gradient_as_bucket_view` is off in accelerate). ZeRO-3 keeps up to `SUB_GROUP` parameters gathered in bf16. Both
    stages hold the bf16 gradients of the layer at work until they are reduced and a copy of what they send, and
    buckets of h² elements.
    """
    total = 0.0 if setup.cpu else ALLOWANCE
    if not setup.zero:
        if setup.method == "full":
            total += 2.0 * shape.layer_parameters
        if setup.strategy == "ddp":
            total += 4.0 * trained
        return total
    if setup.zero == 3:
        total += 2.0 * min(shape.parameters, SUB_GROUP)
    if setup.method == "full":
        total += 2.0 * 2 * shape.layer_parameters
    return total + 2.0 * 2 * shape.hidden_size**2


def _host_bytes(shape: Shape, setup: Setup, trained: int) -> float:
    """Bytes per node for offloading: fp32 weights, moments and gradients (16), and bf16 gradients and weights (4)."""
    if not setup.offload:
        return 0.0
    frozen = _frozen_bytes(shape, setup) if setup.zero == 3 else 0.0
    return (20.0 * trained + frozen) / setup.nodes
