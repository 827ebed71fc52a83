"""The formulas against DeepSpeed's estimators, bytes in two real ranks, and what autograd really saves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from distill.models import presets
from distill.models.shapes import Shape
from distill.planning import files, launch
from distill.planning.memory import SUB_GROUP, memory
from distill.planning.setup import Setup

pytestmark = pytest.mark.integration
SMALL = Shape(
    model_type="qwen2",
    hidden_size=128,
    intermediate_size=512,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=32,
    vocab_size=512,
    tie_word_embeddings=False,
    max_position_embeddings=512,
    rope_theta=10000.0,
)
_BUILD = """
from transformers import Qwen2Config, Qwen2ForCausalLM
def build(**more):
    return Qwen2ForCausalLM(Qwen2Config(hidden_size=128, intermediate_size=512, num_hidden_layers=2, head_dim=32,
        num_attention_heads=4, num_key_value_heads=2, vocab_size=512, tie_word_embeddings=False, use_cache=False,
        **more))
"""
_ESTIMATE = """
import json, sys
from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs as three
from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs as two
print("READ" + json.dumps([[two(count, 8, nodes, cpu_offload=False)[1],
    three(count, largest, 8, nodes, cpu_offload=False)[1]] for count, largest, nodes in json.load(sys.stdin)]))
"""


def python(code: str, told: str = "") -> str:
    done = subprocess.run([sys.executable, "-c", code], check=False, input=told, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return next(line for line in done.stdout.splitlines() if line.startswith("READ"))[4:]


def test_states_agree_with_deepspeeds_own_estimators() -> None:
    """Theirs counts 18 bytes a parameter at once; ours says which of them stay (16 and 14) and which the step adds.

    So theirs must lie between what stays and what the step reaches: for ZeRO-2 near the latter, for ZeRO-3, where the
    step goes by sub-groups, within an eighth of the former.
    """
    pytest.importorskip("deepspeed")
    cases = [
        (name, nodes)
        for name in (
            "qwen2.5-1.5b",
            "qwen2.5-7b",
            "llama-3.1-8b",
            "qwen3-14b-base",
            "qwen2.5-32b",
            "llama-3.3-70b-instruct",
        )
        for nodes in (1, 4)
    ]
    shapes = {name: presets.shape(presets.student(name)) for name, _ in cases}
    asked = [[shapes[name].parameters, shapes[name].embedding_parameters, nodes] for name, nodes in cases]
    estimates = json.loads(python(_ESTIMATE, json.dumps(asked)))
    for (name, nodes), (two, three) in zip(cases, estimates, strict=True):
        shape, processes = shapes[name], 8 * nodes
        ours = memory(shape, Setup(strategy="zero2", nodes=nodes, processes=processes))
        assert ours.states <= two <= ours.states + ours.update
        assert two == pytest.approx(ours.states + ours.update, rel=0.06)
        theirs = three - 4 * shape.embedding_parameters  # the largest layer and its gradient: `buffers` of ours
        ours = memory(shape, Setup(strategy="zero3", nodes=nodes, processes=processes))
        assert ours.states <= theirs == pytest.approx(ours.states, rel=0.125)
        if shape.parameters / processes <= SUB_GROUP:  # beyond, ZeRO-3 updates one sub-group at a time
            assert theirs <= ours.states + ours.update


_RANK = (
    _BUILD
    + """
import json, os, sys, torch, deepspeed
config = json.load(open(os.environ["ACCELERATE_DEEPSPEED_CONFIG_FILE"]))
config.update(train_batch_size=8, train_micro_batch_size_per_gpu=2, gradient_accumulation_steps=2, gradient_clipping=1)
zero = config["zero_optimization"]
zero.update({key: 16384 for key, value in zero.items() if value == "auto"})
deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False)
with deepspeed.zero.Init(config_dict_or_path=config, enabled=zero["stage"] == 3):
    model = build()
engine, optimizer, _, _ = deepspeed.initialize(
    model=model, optimizer=torch.optim.AdamW(model.parameters(), lr=1e-3), config=config)
for _ in range(2):
    for _ in range(2):
        ids = torch.randint(0, 512, (2, 64))
        engine.backward(engine(input_ids=ids, labels=ids).loss)
        engine.step()

def size(tensors):
    return sum(t.numel() * t.element_size() for t in tensors)

masters = optimizer.fp32_partitioned_groups_flat
moments = [state[name] for state in optimizer.optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
found = {
    "weights": size([p.ds_tensor for p in model.parameters()]),
    "gradients": size([optimizer.grad_partitions_flat_buffer]),
    "optimizer": size(masters) + size(moments),
}
open(f"{sys.argv[1]}/{torch.distributed.get_rank()}.json", "w").write(json.dumps(found))
torch.distributed.destroy_process_group()
"""
)


def test_bytes_in_two_real_ranks_are_as_planned(tmp_path: Path) -> None:
    pytest.importorskip("deepspeed")
    setup = Setup(strategy="zero3", processes=2, cpu=True, micro_batch=2, accumulation=2, max_length=64)
    script = tmp_path / "rank.py"
    script.write_text(_RANK)
    line = launch.command(setup, files.write(tmp_path, setup, attention="sdpa"), [str(script), str(tmp_path)])
    done = subprocess.run(line, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    planned = memory(SMALL, setup)
    for rank in (0, 1):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        for part in ("weights", "gradients", "optimizer"):
            assert found[part] == pytest.approx(getattr(planned, part), rel=0.005), part


_SAVED = (
    _BUILD
    + """
import json, torch
def measure(dtype, checkpointing):
    model = build(attn_implementation="sdpa").to(dtype).train()
    if checkpointing:
        model.gradient_checkpointing_enable()
    weights = {shape for p in model.parameters() for shape in (tuple(p.shape), tuple(reversed(p.shape)))}
    kept = {}
    def pack(x):
        if tuple(x.shape) not in weights:
            kept[x.untyped_storage().data_ptr()] = (x.untyped_storage().nbytes(), x)
        return x
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x), \\
            torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.float32):
        model.model(input_ids=torch.zeros(1, 320, dtype=torch.long), use_cache=False)
    return sum(size for size, _ in kept.values())
print("READ" + json.dumps([measure(d, c) for d in (torch.bfloat16, torch.float32) for c in (True, False)]))
"""
)


def test_activations_are_what_autograd_saves() -> None:
    """Both precisions, with and without checkpointing, a two-layer model of real transformers layers on a CPU."""
    found = iter(json.loads(python(_SAVED)))
    for strategy in ("zero2", "single"):  # bf16 weights, and fp32 ones under autocast
        for checkpointing in (True, False):
            setup = Setup(strategy=strategy, max_length=320, checkpointing=checkpointing)
            kept = memory(SMALL, setup).saved_activations
            # rotary tables and per-token statistics are not counted: they are of the head's size, not the model's
            assert next(found) == pytest.approx(kept, rel=0.03), (strategy, checkpointing)
