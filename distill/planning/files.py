"""The files that start a training job: DeepSpeed's JSON and accelerate's YAML, made from a setup.

They are made afresh for each job rather than shipped as templates, because stage, offloading, the number of processes
and how sequences are split must agree between the two files and with the trainer.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from distill.errors import writing
from distill.machine import hardware
from distill.planning.memory import SUB_GROUP
from distill.planning.setup import Setup
from distill.run import write_json

DEEPSPEED = "deepspeed.json"
ACCELERATE = "accelerate.yaml"


def write(folder: Path, setup: Setup, *, attention: str = "flash_attention_2") -> Path:
    """Put the files of `setup` into `folder`, and return the path of accelerate's, which names DeepSpeed's."""
    deepspeed = None
    if setup.zero:
        deepspeed = folder.absolute() / DEEPSPEED
        write_json(deepspeed, deepspeed_config(setup))
    path = folder / ACCELERATE
    with writing(path):
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(as_yaml(accelerate_config(setup, deepspeed, attention=attention)), encoding="utf-8")
    return path


def as_yaml(config: Mapping[str, object]) -> str:
    return yaml.safe_dump(config, sort_keys=False)


def deepspeed_config(setup: Setup) -> dict[str, object]:
    """DeepSpeed's configuration for ZeRO-2 or ZeRO-3.

    `auto` stands only where transformers fills in what the trainer was told (batch, clipping) or follows from the model
    (buckets of hidden size squared). No optimizer is named: the trainer brings its own, and accelerate swaps AdamW for
    DeepSpeed's one on the host when states are offloaded.
    """
    zero: dict[str, object] = {
        "stage": setup.zero,
        "contiguous_gradients": True,
        "overlap_comm": not setup.cpu,  # needs streams
        "reduce_bucket_size": "auto",
    }
    if setup.zero == 3:
        zero |= {
            "sub_group_size": SUB_GROUP,
            "stage3_max_live_parameters": SUB_GROUP,
            "stage3_max_reuse_distance": SUB_GROUP,
            "stage3_prefetch_bucket_size": "auto",
            "stage3_param_persistence_threshold": "auto",
            "stage3_gather_16bit_weights_on_model_save": True,
        }
    if setup.offload:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
        if setup.zero == 3:
            zero["offload_param"] = {"device": "cpu", "pin_memory": True}
    config: dict[str, object] = {
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "bf16": {"enabled": True},
        "zero_optimization": zero,
    }
    if setup.accumulation > 1 and not setup.offload:
        # a bf16 sum of many small gradients loses the small ones; offloaded sums are fp32 anyway
        config["data_types"] = {"grad_accum_dtype": "fp32"}
    if setup.optimizer != "adamw":
        config["zero_allow_untested_optimizer"] = True
    return config


def accelerate_config(
    setup: Setup, deepspeed: Path | None = None, *, attention: str = "flash_attention_2"
) -> dict[str, object]:
    """Accelerate's configuration, without which node this is and where the first one is: that comes by command line.

    Args:
        deepspeed: the file of `deepspeed_config`, which every node must see; None without DeepSpeed.
        attention: what computes attention once a sequence is split. With packed rows it must be a flash-attention:
            DeepSpeed gives sdpa no mask, and documents would see one another.
    """
    config: dict[str, object] = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": _distributed_type(setup),
        "num_machines": setup.nodes,
        "num_processes": setup.processes,
        "use_cpu": setup.cpu,
        "main_training_function": "main",
    }
    if deepspeed is None:
        config["mixed_precision"] = "bf16"
        if setup.cpu and setup.method == "full" and not hardware.multiplies_bf16():
            config["mixed_precision"] = "no"
        return config
    # with a DeepSpeed file, accelerate wants precision to be told there alone
    config["deepspeed_config"] = {
        "deepspeed_config_file": str(deepspeed),
        "deepspeed_multinode_launcher": "standard",  # torchrun on every node, rather than ssh from the first
        "zero3_init_flag": setup.zero == 3,
    }
    if setup.sequence_parallel > 1:
        config["parallelism_config"] = {
            "parallelism_config_sp_backend": "deepspeed",
            "parallelism_config_sp_size": setup.sequence_parallel,
            "parallelism_config_sp_seq_length_is_variable": True,
            "parallelism_config_sp_attn_implementation": attention,
            "parallelism_config_dp_replicate_size": setup.processes // setup.sequence_parallel,
        }
    return config


def _distributed_type(setup: Setup) -> str:
    if setup.zero:
        return "DEEPSPEED"
    # so called for CPUs too: only then does accelerate start several processes without MPI
    return "MULTI_GPU" if setup.processes > 1 else "NO"
