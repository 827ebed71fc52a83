"""What a job says in TRL's words, as far as all of its trainers are told alike."""

from __future__ import annotations

from distill.machine import hardware
from distill.training.job import TrainingJob


def common_arguments(job: TrainingJob) -> dict[str, object]:
    """The arguments that all of TRL's trainers are given alike."""
    import torch

    setup = job.setup
    schedule = job.schedule
    cuda = torch.cuda.is_available() and not setup.cpu
    if not cuda:
        hardware.keep_freed_memory()
    scheduler_kwargs = None
    if schedule.kind == "cosine_with_min_lr":
        scheduler_kwargs = {"min_lr_rate": schedule.least}
    optimizer = _OPTIMIZERS[setup.optimizer]
    if setup.optimizer == "adamw" and not cuda:
        optimizer = "adamw_torch"
    # under DeepSpeed and beside frozen weights the numbers are bf16 already; elsewhere autocast is for speed
    bf16 = cuda or bool(setup.zero) or setup.method != "full" or hardware.multiplies_bf16()
    return {
        "output_dir": str(job.checkpoint_folder),
        "learning_rate": schedule.learning_rate,
        "per_device_train_batch_size": setup.micro_batch,
        "gradient_accumulation_steps": setup.accumulation,
        "lr_scheduler_type": schedule.kind,
        "lr_scheduler_kwargs": scheduler_kwargs,
        "warmup_steps": schedule.warmup,  # below 1: a share of all steps
        "weight_decay": schedule.weight_decay,
        "adam_beta2": schedule.adam_beta2,
        "optim": optimizer,
        "gradient_checkpointing": setup.checkpointing,
        "bf16": bf16,
        "use_cpu": not cuda,
        "dataloader_pin_memory": cuda,
        "save_strategy": "steps" if job.checkpoints else "no",
        "save_steps": 1 / job.checkpoints if job.checkpoints > 1 else 0.5,
        "save_total_limit": 2,
        "logging_steps": 1,
        "report_to": list(job.trackers) or "none",
        "run_name": job.name,
        "disable_tqdm": True,
        "seed": job.seed,
        "ddp_timeout": 7200,  # a checkpoint of 70B parameters on a slow disk takes longer than torch's half an hour
    }


_OPTIMIZERS = {"adamw": "adamw_torch_fused", "paged_adamw_8bit": "paged_adamw_8bit"}
